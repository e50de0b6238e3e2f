"""JSON values, with and without the frame of a schema registry."""

import zlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_collectors.kafka.value import MISSING, Value, decode

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
    assert decode(frame + JSON) == Value(JSON, {"id": "t-1"})


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
    assert decode(value) == Value(b"", MISSING, message)


@pytest.mark.parametrize("value", [b"7", b'"text"', b"null"])
def test_after_a_frame_only_an_object_or_a_list_is_json(value: bytes) -> None:
    assert decode(value).trouble == ""
    assert "schema 17" in decode(b"\0\0\0\0\x11" + value).trouble


@given(st.binary(max_size=40))
def test_any_bytes_have_a_value_or_a_cause(value: bytes) -> None:
    found = decode(value)
    assert bool(found.trouble) == (found.json is MISSING)
