"""Places: points in the history, as `EPOCH.REVISION`; clients treat them as opaque.

Measures that are recorded later are further steps of a revision: `EPOCH.REVISION-2`.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_PLACE = re.compile(r"([0-9a-f]{1,64})\.([0-9]{1,18})(?:-([0-9]{1,9}))?")
# As in a header; Apache's mod_deflate adds the suffix.
_ETAG = re.compile(r'(?:W/)?"([^"]*?)(?:-gzip)?"')
_AGO = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(s|m|h|d)")
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Place(NamedTuple):
    """The point after one step of a revision of an epoch."""

    epoch: str
    revision: int
    step: int = 0

    @property
    def at(self) -> tuple[int, int]:
        """Its position in the epoch, as `Step.place`."""
        return self.revision, self.step

    def __str__(self) -> str:
        return f"{self.epoch}.{self.revision}" + (f"-{self.step}" if self.step else "")


def parse(text: str, now: datetime) -> Place | datetime | None:
    """Return the place or the time that a text names; None if it names neither.

    A place may be written as an ETag. A time is RFC 3339, or how long ago: `30s`, `5m`, `2h`, `1d`.
    """
    if match := _ETAG.fullmatch(text):
        text = match[1] if _PLACE.fullmatch(match[1]) else ""
    if match := _PLACE.fullmatch(text):
        return Place(match[1], int(match[2]), int(match[3] or 0))
    try:
        if match := _AGO.fullmatch(text):
            return now - timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
        # An unescaped plus in a query arrives as a space.
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except OverflowError:  # before the year 1
        return FIRST
    except ValueError:
        return None
    try:
        return at.astimezone(UTC) if at.tzinfo else None
    except OverflowError:  # before the year 1, or after 9999
        return FIRST if at.year == 1 else LAST


def milliseconds(at: datetime) -> int:
    """Return a time in milliseconds since 1970, as the history stores it."""
    return (at - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def moment(at: int) -> datetime:
    """Return the time of so many milliseconds since 1970."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at)
