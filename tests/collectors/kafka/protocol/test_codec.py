"""Bounded decompression."""

import gzip

import cramjam
import pytest

from telemetron_collectors.kafka.protocol.codec import (
    MAX_BYTES,
    TooLargeError,
    UnsupportedCodecError,
    unpack,
    unpack_whole,
)

TEXT = b"abcabcabc" * 1000
XERIAL = b"\x82SNAPPY\0" + bytes(8)


def xerial(*blocks: bytes) -> bytes:
    packed = [bytes(cramjam.snappy.compress_raw(block)) for block in blocks]
    return XERIAL + b"".join(len(one).to_bytes(4, "big") + one for one in packed)


PACKED = {
    0: TEXT,
    1: gzip.compress(TEXT),
    2: bytes(cramjam.snappy.compress_raw(TEXT)),
    3: bytes(cramjam.lz4.compress(TEXT)),
    4: bytes(cramjam.zstd.compress(TEXT)),
}


@pytest.mark.parametrize("codec", PACKED)
def test_all_data_are_unpacked_if_they_fit(codec: int) -> None:
    assert unpack(codec, PACKED[codec], len(TEXT)) == (TEXT, True)


@pytest.mark.parametrize("codec", [1, 3, 4])
def test_unpacking_stops_at_the_size(codec: int) -> None:
    data, is_whole = unpack(codec, PACKED[codec], 100)
    assert (bytes(data), is_whole) == (TEXT[:100], False)


def test_a_snappy_block_is_unpacked_only_as_a_whole() -> None:
    assert unpack(2, PACKED[2], 100) == (b"", False)
    assert unpack(2, xerial(TEXT[:90], TEXT[90:]), 100) == (TEXT[:90], False)
    assert unpack(2, xerial(TEXT[:90], TEXT[90:]), len(TEXT)) == (TEXT, True)


def test_snappy_without_a_frame_is_bounded_by_the_length_that_it_names() -> None:
    bomb = bytes(cramjam.snappy.compress_raw(b" " * 90_000_000))
    assert unpack(2, bomb, MAX_BYTES) == (b"", False)
    with pytest.raises(TooLargeError):
        unpack_whole(2, bomb)


@pytest.mark.parametrize("codec", PACKED)
def test_all_is_unpacked_up_to_the_bound(codec: int) -> None:
    assert unpack_whole(codec, PACKED[codec]) == TEXT


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_corrupt_data_are_an_error(codec: int) -> None:
    with pytest.raises(Exception, match=r".*"):
        unpack(codec, b"\xff" * 40, 1000)


def test_an_unknown_codec_is_an_error() -> None:
    with pytest.raises(UnsupportedCodecError):
        unpack(7, b"", 1000)
