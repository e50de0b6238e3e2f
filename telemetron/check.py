"""What may enter the store: every part is checked at the door, once, when it is new."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

MAX_TEXT = 4096
# Control characters (which JSON escapes), foreign time zones, and whatever is not ASCII.
_SUSPICIOUS = re.compile(rb'[\\\x7f-\xff]|[+-]\d\d:\d\d"')
# Control, format (bidirectional overrides among them) and surrogate characters.
_STRIPPED = {"Cc", "Cf", "Cs"}
_encode = msgspec.json.Encoder().encode


def checked(value: Struct, decoder: "msgspec.json.Decoder[Any]") -> Any:
    """The value as it may be shown: of the right types, non-finite floats null, times in UTC.

    Raises what msgspec raises (TypeError, ValueError, OverflowError, RecursionError) where it
    does not fit.
    """
    encoded = _encode(value)
    part = decoder.decode(encoded)
    if len(encoded) > MAX_TEXT or _SUSPICIOUS.search(encoded):
        return normal(part)
    return part


def normal(value: Any) -> Any:
    """Text without control characters and of bounded length, times in UTC, all the way down."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, dict):
        return {text(key): normal(item) for key, item in value.items()}
    if isinstance(value, Struct):
        fields = {name: normal(getattr(value, name)) for name in value.__struct_fields__}
        return type(value)(**fields)
    return value


def utc(value: datetime) -> datetime:
    """The time in UTC; within a day of the calendar's ends, which no clock shows, as it stands."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return value.replace(tzinfo=UTC)


def text(value: str, limit: int = MAX_TEXT) -> str:
    """One line without control characters, cut with `…` at `limit` characters."""
    if not value.isprintable():
        value = "".join(" " if c.isspace() else c for c in value)
        value = "".join(c for c in value if unicodedata.category(c) not in _STRIPPED)
    return value if len(value) <= limit else value[: limit - 1] + "…"
