"""Reads a record's value as JSON, with or without the frame of a schema registry.

Only the wanted members are read. Whatever else a value has is scanned but never built: otherwise
15 MB of `[[],[],…]` take 400 MB, and hold the interpreter, and so the event loop, for seconds.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from telemetron_collectors.kafka.protocol.record import MAX_VALUE_BYTES

MAX_INDEX = 1_000
"""Of a wanted item in a list."""

TOMBSTONE = "the record has no value (a tombstone)"
NO_JSON = "the record's value is not JSON"
NO_JSON_FRAMED = (
    "the record's value has a schema registry frame ({}) and is not JSON: Avro or Protobuf?"
)
COMPRESSED = "the record's value has a schema registry frame ({}) and is compressed"
TOO_LARGE = f"the record's value is larger than {MAX_VALUE_BYTES >> 20} MiB, so it is not decoded"

Members = Mapping[str, bytes]
"""The JSON of some members of an object, or items of a list, by name or index."""
Reader = Callable[[bytes], Members]


class Value(NamedTuple):
    """The wanted members of a JSON value; `trouble` is why there is no JSON."""

    members: Members
    trouble: str = ""

    def at(self, pointer: str) -> bytes | None:
        """Return the JSON at a pointer (RFC 6901) that was given to `decode`; None: none."""
        first, *names = _names(pointer)
        found = self.members.get(first)
        for name in names:
            found = None if found is None else _members(found, (name,)).get(name)
        return found


def decode(value: bytes | None, pointers: Iterable[str] = ()) -> Value:
    """Read what the pointers need. No JSON text begins with the first byte of a frame."""
    if value is None:
        return Value({}, TOMBSTONE)
    if len(value) > MAX_VALUE_BYTES:
        return Value({}, TOO_LARGE)
    starts, name = _frame(value)
    if name.endswith(", zlib"):
        return Value({}, COMPRESSED.format(name))
    wanted = tuple(_names(pointer)[0] for pointer in pointers)
    for text in [value[start:] for start in starts]:
        if name and text[:1] not in (b"{", b"["):
            continue  # a number is more likely the end of another format
        try:
            text.decode()  # what is only scanned may be no UTF-8
            return Value(_members(text, wanted))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass
    return Value({}, NO_JSON_FRAMED.format(name) if name else NO_JSON)


@lru_cache(maxsize=256)
def _names(pointer: str) -> list[str]:
    return [name.replace("~1", "/").replace("~0", "~") for name in pointer[1:].split("/")]


def _members(text: bytes, names: tuple[str, ...]) -> Members:
    """Return the JSON of these members. Raise msgspec's errors."""
    first = text.lstrip(b" \t\r\n")[:1]
    if first == b"{":
        return _object(names)(text)
    if first == b"[":
        return _list(names)(text)
    _scan(text)
    return {}


@lru_cache(maxsize=256)
def _object(names: tuple[str, ...]) -> Reader:
    try:
        return _reader(dict.fromkeys(names))
    except ValueError:  # msgspec refuses names with a quote, a backslash or a control character
        decode_all = msgspec.json.Decoder(dict[str, Raw]).decode
        return lambda text: {
            name: bytes(raw) for name, raw in decode_all(text).items() if name in names
        }


@lru_cache(maxsize=256)
def _list(names: tuple[str, ...]) -> Reader:
    """Return a reader of the items up to the last wanted one."""
    wanted = [int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 10]
    count = max((at + 1 for at in wanted if at < MAX_INDEX), default=0)
    return _reader(map(str, range(count)), array_like=True)


def _reader(names: Iterable[str], **options: Any) -> Reader:
    """Return what reads only the members of these names, in their order if they are items."""
    renamed = {f"_{at}": name for at, name in enumerate(names)}
    fields: list[Any] = [(field, Raw, UNSET) for field in renamed]
    kind = msgspec.defstruct("Members", fields, rename=renamed, **options)
    decode = msgspec.json.Decoder(kind).decode

    def read(text: bytes) -> Members:
        found = zip(renamed.values(), msgspec.structs.astuple(decode(text)), strict=True)
        return {name: bytes(raw) for name, raw in found if raw is not UNSET}

    return read


_scan = msgspec.json.Decoder(Raw).decode


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
