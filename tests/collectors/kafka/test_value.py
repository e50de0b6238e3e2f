"""JSON values, with and without the frame of a schema registry."""

import json
import tracemalloc
import zlib
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_collectors.kafka.protocol.record import MAX_VALUE_BYTES
from telemetron_collectors.kafka.value import Value, decode

JSON = b'{"id":"t-1"}'
GUID = UUID("12345678-1234-5678-1234-567812345678").bytes


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0" + (17).to_bytes(4, "big"),
        b"\0" + (1 << 31).to_bytes(4, "big"),
        b"\0" + (17).to_bytes(8, "big"),
        b"\1" + GUID,
        b"\3\0" + GUID,
    ],
)
def test_json_is_read_after_every_frame(frame: bytes) -> None:
    found = decode(frame + JSON, ("/id", "/other"))
    assert (found.at("/id"), found.at("/other"), found.trouble) == (b'"t-1"', None, "")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the record has no value (a tombstone)"),
        (b"", "the record's value is not JSON"),
        (b"\0", "the record's value is not JSON"),
        (b"\0\0\0\0\x11", "the record's value is not JSON"),
        (b"plain", "the record's value is not JSON"),
        (b"[" * 100_000, "the record's value is not JSON"),
        (
            b"\0\0\0\0\x11\x00\x0a\x03t-1",  # Protobuf: the index of the message, then fields
            "the record's value has a schema registry frame (schema 17) and is not JSON:"
            " Avro or Protobuf?",
        ),
        (
            b"\1" + GUID + b"\x06t-1",
            "the record's value has a schema registry frame"
            " (schema 12345678-1234-5678-1234-567812345678) and is not JSON: Avro or Protobuf?",
        ),
        (
            b"\3\5" + GUID + zlib.compress(JSON),
            "the record's value has a schema registry frame"
            " (schema 12345678-1234-5678-1234-567812345678, zlib) and is compressed",
        ),
    ],
)
def test_a_value_without_json_has_a_cause(value: bytes | None, message: str) -> None:
    assert decode(value, ("/id",)) == Value({}, message)


@pytest.mark.parametrize("value", [b"7", b'"text"', b"null"])
def test_after_a_frame_only_an_object_or_a_list_is_json(value: bytes) -> None:
    assert decode(value).trouble == ""
    assert "schema 17" in decode(b"\0\0\0\0\x11" + value).trouble


@given(st.binary(max_size=40))
def test_any_bytes_have_a_value_or_a_cause(value: bytes) -> None:
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        assert decode(value).trouble
    else:
        assert decode(value) == Value({})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
)


def _walk(value: Any, names: list[str]) -> Any:
    for at, name in enumerate(names):
        try:
            value = value[name if isinstance(value, dict) else int(name)]
        except (LookupError, TypeError, ValueError):
            return None
        if isinstance(value, str) and at + 1 < len(names):
            return None
    return value


@given(_JSON, st.lists(st.sampled_from(["a", "b", "0", "1"]), min_size=1, max_size=3))
def test_a_pointer_finds_the_same_as_in_the_whole_value(value: Any, names: list[str]) -> None:
    pointer = "/" + "/".join(names)
    found = decode(json.dumps(value).encode(), (pointer, "/other")).at(pointer)
    whole = None if isinstance(value, str) else _walk(value, names)
    assert (None if found is None else json.loads(found)) == whole


def test_a_member_may_have_an_escaped_name_and_the_last_of_a_name_counts() -> None:
    value = b'{"\\u0061/~": 1, "a/~": [0, {"b": 2}]}'
    assert decode(value, ("/a~1~0/1/b",)).at("/a~1~0/1/b") == b"2"


def test_quotes_in_the_name_of_a_member() -> None:
    pointer = '/a"b\\c/d'
    assert decode(b'{"a\\"b\\\\c": {"d": 1}}', (pointer,)).at(pointer) == b"1"


def test_a_value_above_the_bound_is_not_decoded() -> None:
    largest = b'"' + b"x" * (MAX_VALUE_BYTES - 2) + b'"'
    assert decode(largest).trouble == ""
    too_large = "the record's value is larger than 1 MiB, so it is not decoded"
    assert decode(largest + b" ").trouble == too_large


def test_what_is_not_wanted_is_never_built() -> None:
    value = b'{"id":1,"rest":[' + b"[]," * 300_000 + b"1]}"
    tracemalloc.start()
    try:
        found = decode(value, ("/id",))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.at("/id") == b"1"
    assert peak < 3 * len(value)
