"""Times, as the sources write them."""

import time
from datetime import UTC, datetime


def moment(at: float) -> str:
    """Return a time in seconds since 1970 as agents send it: UTC, with milliseconds."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def ago(seconds: float = 0.0) -> str:
    """Return the time so long before now."""
    return moment(time.time() - seconds)


def second_of(at: float) -> str:
    """Return a time in seconds since 1970 as Kubernetes writes it: in whole seconds."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def second_ago(seconds: float = 0.0) -> str:
    """Return the time so long before now in whole seconds."""
    return second_of(time.time() - seconds)
