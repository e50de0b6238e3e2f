"""Decodes the times that producers write: numbers since 1970 in any usual unit, and texts."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = datetime(2000, 1, 1, tzinfo=UTC)
LAST = datetime(2100, 1, 1, tzinfo=UTC)
"""No task was submitted before or after these times. The bounds also distinguish seconds,
milliseconds, microseconds and nanoseconds: no number is within them in two units."""
MAX_TEXT = 64

_MICROSECONDS = 10**6, 10**3, 1, Decimal("0.001")
"""In one second, millisecond, microsecond, nanosecond."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(E[+-]?\d{1,2})?", re.ASCII)
_ZONE_NAME = re.compile(r"\[[\w/+:-]+\]$", re.ASCII)
"""RFC 9557 and Java's ZonedDateTime write it after the offset; only the offset counts."""
_UTC = re.compile(r"\s*(Z|UTC|GMT)$")
_SPACED_OFFSET = re.compile(r"\s+(?=[+-]\d\d:?(\d\d)?$)")
_RFC_1123 = re.compile(
    r"([A-Z]{3}, )?\d{1,2} [A-Z]{3} \d{4} \d\d:\d\d(:\d\d)? (GMT|UTC?|Z|[ECMP][SD]T|[+-]\d{4})"
)


def parse_time(value: Any) -> datetime:
    """Return the time in whole milliseconds; raise ValueError if it is unknown or not plausible.

    The value is a number, its digits as text, ISO 8601 (UTC if it has no offset), RFC 1123, or the
    bytes of a header: text, or a big-endian integer of 8 bytes.
    """
    try:
        return _checked(_parse(value))
    except (ArithmeticError, UnicodeDecodeError):
        raise ValueError("not a time") from None


def of_record(milliseconds: int) -> datetime:
    """Return the time of a record's timestamp; raise ValueError if it is not plausible."""
    try:
        return _checked(EPOCH + timedelta(milliseconds=milliseconds))
    except OverflowError:
        raise ValueError("not a time") from None


def _parse(value: Any) -> datetime:
    if isinstance(value, bytes):
        if len(value) == 8 and not (value.isascii() and value.decode().isprintable()):
            return _from_number(int.from_bytes(value, "big"))
        value = value.decode()
    if isinstance(value, str):
        return _from_text(value.strip().upper())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_number(value)
    raise ValueError("not a time")


def _from_text(text: str) -> datetime:
    if len(text) > MAX_TEXT:
        raise ValueError("not a time")
    if _NUMBER.fullmatch(text):
        try:
            return _from_number(Decimal(text))
        except ValueError:
            pass  # 20260131 is a date
    if _RFC_1123.fullmatch(text):
        return _aware(parsedate_to_datetime(text))
    text = _UTC.sub("+00:00", _ZONE_NAME.sub("", text))
    return _aware(datetime.fromisoformat(_SPACED_OFFSET.sub("", text)))


def _from_number(number: float | Decimal) -> datetime:
    exact = Decimal(number)
    for unit in _MICROSECONDS:
        microseconds = exact * unit
        if _FIRST <= microseconds <= _LAST:
            return EPOCH + timedelta(microseconds=int(microseconds))
    raise ValueError("not a time since 1970 in any unit")


def _aware(made: datetime) -> datetime:
    return made.astimezone(UTC) if made.tzinfo else made.replace(tzinfo=UTC)


def _checked(made: datetime) -> datetime:
    if not FIRST <= made <= LAST:
        raise ValueError("not a plausible time")
    return made.replace(microsecond=made.microsecond // 1000 * 1000)


_FIRST, _LAST = ((bound - EPOCH) // timedelta(microseconds=1) for bound in (FIRST, LAST))
