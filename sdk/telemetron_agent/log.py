"""One logger; importing `logging` waits until there is something to say."""

from __future__ import annotations


def warn(message: str, *values: object) -> None:
    """A warning to the logger `telemetron_agent`; whatever its handlers do, nothing is raised."""
    import logging

    try:
        logging.getLogger("telemetron_agent").warning(message, *values)
    except Exception:  # the host's handler or filter
        return
