"""Bounded decompression: a few bytes may unpack to gigabytes."""

import zlib
from collections.abc import Callable
from types import ModuleType

import cramjam

XERIAL = b"\x82SNAPPY\0"
XERIAL_HEADER = 16


class UnsupportedCodecError(Exception):
    """There is no decompressor for this codec."""


def unpack(codec: int, data: bytes, size: int) -> tuple[bytes | bytearray, bool]:
    """Return at most `size` bytes of the unpacked data, and whether these are all.

    Decompressors raise errors of their own if the data are corrupt.
    """
    try:
        return _CODECS[codec](data, size)
    except KeyError:
        raise UnsupportedCodecError(codec) from None


def _none(data: bytes, size: int) -> tuple[bytes, bool]:
    return data, True


def _gzip(data: bytes, size: int) -> tuple[bytes, bool]:
    stream = zlib.decompressobj(wbits=31)
    made = stream.decompress(data, size)
    if not stream.eof and len(made) < size:
        raise ValueError("the gzip stream ends too early")
    return made, stream.eof


def _snappy(data: bytes, size: int) -> tuple[bytes, bool]:
    blocks = bytearray()
    at = XERIAL_HEADER
    if not data.startswith(XERIAL):
        return _snappy_block(data, size)
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        block, is_whole = _snappy_block(data[at + 4 : end], size - len(blocks))
        blocks += block
        if not is_whole:
            return bytes(blocks), False
        at = end
    return bytes(blocks), True


def _snappy_block(data: bytes, size: int) -> tuple[bytes, bool]:
    if cramjam.snappy.decompress_raw_len(data) > size:
        return b"", False
    return bytes(cramjam.snappy.decompress_raw(data)), True


def _into_buffer(codec: ModuleType) -> Callable[[bytes, int], tuple[bytearray, bool]]:
    def unpack(data: bytes, size: int) -> tuple[bytearray, bool]:
        made = bytearray(size)
        try:
            return made[: codec.decompress_into(data, made)], True
        except cramjam.DecompressionError as error:
            if "write whole buffer" not in str(error):
                raise
            return made, False  # the buffer is full

    return unpack


_CODECS: dict[int, Callable[[bytes, int], tuple[bytes | bytearray, bool]]] = {
    0: _none,
    1: _gzip,
    2: _snappy,
    3: _into_buffer(cramjam.lz4),
    4: _into_buffer(cramjam.zstd),
}
