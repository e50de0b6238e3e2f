"""Normal values: all text on one bounded line, all times in UTC, as the document shows them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from telemetron.document import UNSTAMPED
from telemetron.text import one_line

LARGEST = 2**63 - 1
"""The largest integer of the document: what most readers can hold."""

_BACKSLASH, _DELETE = b"\\\x7f"


def is_plain(json: bytes) -> bool:
    """Return whether all text in JSON is printable ASCII without escapes; fast, so it may err."""
    # JSON escapes all control characters but one. To look for an integer is ten times as fast.
    return json.isascii() and _BACKSLASH not in json and _DELETE not in json


def normalized(value: Any) -> Any:
    """Return the value with all text on one bounded line and all times in UTC, at any depth.

    Resets `updated_at`, which only the store fills in. Raises OverflowError for integers of more
    than 64 bits, which most readers cannot hold.
    """
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, int) and not ~LARGEST <= value <= LARGEST:
        raise OverflowError("an integer has more than 64 bits")
    if isinstance(value, list):
        return [normalized(item) for item in value]
    if isinstance(value, dict):
        return {one_line(key): normalized(item) for key, item in value.items()}
    if isinstance(value, Struct):
        fields = {name: normalized(getattr(value, name)) for name in value.__struct_fields__}
        if "updated_at" in fields:
            fields["updated_at"] = UNSTAMPED
        return type(value)(**fields)
    return value


def total(counts: Iterable[int]) -> int:
    """Return the sum of counts, at most `LARGEST`: what each may be, their sum may be too large."""
    return min(sum(counts), LARGEST)


def utc(value: datetime) -> datetime:
    """Return the time in UTC; within a day of the calendar's ends, only relabelled as UTC."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return value.replace(tzinfo=UTC)
