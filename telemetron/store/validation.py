"""Validates every new part once, before it enters the store."""

import re
from typing import Any

import msgspec
from msgspec import Struct

from telemetron.normal import is_plain, normalized
from telemetron.text import MAX_TEXT

# Each pattern begins with a literal, which makes the search fast. The first finds the end of a time
# that is not in UTC, and integers that may have more than 64 bits;
_FOREIGN_OR_WIDE = re.compile(rb':[-\d]\d(?:"|\d{17})')
# the second finds an `updated_at` that the collector filled in; only the store may.
_STAMPED = re.compile(rb'"updated_at":"(?!0001-01-01T00:00:00Z")')
_encode = msgspec.json.Encoder().encode


def validated(value: Struct, decoder: "msgspec.json.Decoder[Any]") -> Any:
    """Return the value as the document may show it; non-finite floats become null.

    Raises what msgspec raises (TypeError, ValueError, OverflowError, RecursionError) if the value
    does not fit the decoder's type.
    """
    encoded = _encode(value)
    part = decoder.decode(encoded)
    return part if _is_normal(encoded) else normalized(part)


def _is_normal(encoded: bytes) -> bool:
    """Return whether `normalized` would surely change nothing; fast, as every part is checked."""
    return (
        is_plain(encoded)
        and not _FOREIGN_OR_WIDE.search(encoded)
        and not _STAMPED.search(encoded)
        and not _has_long_text(encoded)
    )


def _has_long_text(encoded: bytes) -> bool:
    """Return whether more than `MAX_TEXT` bytes have no quote; jumps as far as it can."""
    at = 0
    while len(encoded) - at > MAX_TEXT:
        at = encoded.rfind(b'"', at + 1, at + MAX_TEXT + 2)
        if at < 0:
            return True
    return False
