"""What may enter the store: every part is checked at the door, once, when it is new."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from telemetron.document import UNSTAMPED

MAX_TEXT = 4096
# Both begin with a literal, which is what makes them fast: how a time ends that is not in UTC, and
# an integer that may have more than 64 bits;
_FOREIGN_OR_WIDE = re.compile(rb':[-\d]\d(?:"|\d{17})')
# and a time that is the store's alone.
_STAMPED = re.compile(rb'"updated_at":"(?!0001-01-01T00:00:00Z")')
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
    return part if _is_normal(encoded) else normal(part)


def _is_normal(encoded: bytes) -> bool:
    """Whether `normal` would surely change nothing: quick, for every part comes by here."""
    return (
        encoded.isascii()
        and b"\\" not in encoded  # JSON escapes all control characters but one
        and b"\x7f" not in encoded
        and not _FOREIGN_OR_WIDE.search(encoded)
        and not _STAMPED.search(encoded)
        and (len(encoded) <= MAX_TEXT or max(map(len, encoded.split(b'"'))) <= MAX_TEXT)
    )


def normal(value: Any) -> Any:
    """Text without control characters and of bounded length, times in UTC, all the way down.

    `updated_at` is the store's alone. OverflowError: an integer is too wide for most readers.
    """
    if isinstance(value, str):
        return text(value)
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise OverflowError("an integer has more than 64 bits")
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, dict):
        return {text(key): normal(item) for key, item in value.items()}
    if isinstance(value, Struct):
        fields = {name: normal(getattr(value, name)) for name in value.__struct_fields__}
        if "updated_at" in fields:
            fields["updated_at"] = UNSTAMPED
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
