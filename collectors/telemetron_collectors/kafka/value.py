"""Decodes a record's value as JSON, with or without the frame of a schema registry."""

from typing import Any, NamedTuple

import msgspec

MISSING: Any = object()

TOMBSTONE = "the record has no value (a tombstone)"
NO_JSON = "the record's value is not JSON"
NO_JSON_FRAMED = (
    "the record's value has a schema registry frame ({}) and is not JSON: Avro or Protobuf?"
)
COMPRESSED = "the record's value has a schema registry frame ({}) and is compressed"


class Value(NamedTuple):
    """The JSON text, its value (or MISSING), and why there is none."""

    text: bytes
    json: Any
    trouble: str = ""


def decode(value: bytes | None) -> Value:
    """Return the JSON value. No JSON text begins with the first byte of a frame."""
    if value is None:
        return Value(b"", MISSING, TOMBSTONE)
    starts, name = _frame(value)
    if name.endswith(", zlib"):
        return Value(b"", MISSING, COMPRESSED.format(name))
    for text in [value[start:] for start in starts]:
        if name and text[:1] not in (b"{", b"["):
            continue  # a number is more likely the end of another format
        try:
            return Value(text, msgspec.json.decode(text))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass
    return Value(b"", MISSING, NO_JSON_FRAMED.format(name) if name else NO_JSON)


def _frame(value: bytes) -> tuple[tuple[int, ...], str]:
    """Return the possible starts of the JSON, and the frame's schema; empty: no frame.

    Confluent: 0 and an id of 4 bytes, or 1 and a GUID. Apicurio: 0 and an id of 8 bytes or 4. AWS
    Glue: 3, the compression (0 or 5: zlib), and a UUID.
    """
    if value[:1] == b"\0" and len(value) > 5:
        return (5, 9), f"schema {int.from_bytes(value[1:5], 'big')}"
    if value[:1] == b"\1" and len(value) > 17:
        return (17,), f"schema {_uuid(value[1:17])}"
    if value[:2] in (b"\3\0", b"\3\5") and len(value) > 18:
        return (18,), f"schema {_uuid(value[2:18])}" + (", zlib" if value[1] else "")
    return (0,), ""


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
