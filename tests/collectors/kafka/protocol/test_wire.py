"""The primitive types, and the choice of a version."""

import io

import pytest

from telemetron_collectors.kafka.protocol.wire import (
    Request,
    ResponseBody,
    UnsupportedError,
    Version,
    WireReader,
    array,
    compact_array,
    compact_text,
    text,
    varint,
)


def test_varints() -> None:
    for number in (0, 1, 127, 128, 300, 2**31):
        assert WireReader(varint(number)).varint() == number
    with pytest.raises(ValueError, match="too long"):
        WireReader(b"\xff" * 6).varint()


def test_texts_and_arrays_are_read_as_they_were_written() -> None:
    reader = WireReader(text("tä") + array([text("a"), text("b")]))
    assert (reader.text(), reader.count(), reader.text(), reader.text()) == ("tä", 2, "a", "b")
    compact = compact_text("tä") + compact_array([compact_text("a")])
    reader = WireReader(compact, flexible=True)
    assert (reader.text(), reader.count(), reader.text()) == ("tä", 1, "a")


def test_tagged_fields_are_skipped() -> None:
    reader = WireReader(b"\x02\x05\x01x\x06\x00", flexible=True)
    reader.tags()
    assert reader.at == 6


@pytest.mark.parametrize(
    ("data", "message"), [(b"\0", "too early"), (b"\xff\xff", "missing"), (b"\0\5a", "too early")]
)
def test_a_malformed_name_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WireReader(data).name()


def test_an_array_cannot_be_longer_than_the_response() -> None:
    with pytest.raises(ValueError, match="longer than the response"):
        WireReader(b"\x7f\xff\xff\xff").count()


def test_prepare_returns_the_best_version_that_the_broker_supports() -> None:
    request = Request(3, Version(10, b"new", flexible=True), Version(5, b"old"))
    assert request.prepare({3: (0, 12)}).number == 10
    assert request.prepare({3: (0, 8)}).number == 5
    for supported in ({}, {3: (0, 4)}, {3: (11, 13)}):
        with pytest.raises(UnsupportedError):
            request.prepare(supported)


@pytest.mark.parametrize("flexible", [False, True])
def test_a_version_builds_its_header_and_reads_its_response(flexible: bool) -> None:
    version = Request(3, Version(5, b"body", flexible=flexible)).versions[0]
    tags = b"\0" if flexible else b""
    header = version.build_request_header(7, "me").encode()
    assert header == b"\0\3\0\5\0\0\0\7\0\2me" + tags
    response = io.BytesIO(b"\0\0\0\7" + tags + b"\0\0\0\x64content")
    assert version.parse_response_header(response).correlation_id == 7
    body = version.decode(response)
    assert body == ResponseBody(5, b"\0\0\0\x64content")
    assert (body.throttle, body.content) == (100, b"content")
