"""Bounded decompression: a few bytes may unpack to gigabytes."""

import zlib
from collections.abc import Callable
from types import ModuleType

import cramjam

XERIAL = b"\x82SNAPPY\0"
XERIAL_HEADER = 16

FIRST_BYTES = 1 << 16
GROWTH = 8
CHUNK_BYTES = 1 << 20
MAX_BYTES = 1 << 24
"""Of one unpacked batch; later records in it are not read."""


class TooLargeError(Exception):
    """A batch unpacks to more than MAX_BYTES; the rest of it is not read."""


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


def unpack_whole(codec: int, data: bytes) -> bytes | bytearray:
    """Return all unpacked data. Raise TooLargeError if these are more than MAX_BYTES."""
    size = max(FIRST_BYTES, 2 * len(data))
    while True:
        made, is_whole = unpack(codec, data, min(size, MAX_BYTES))
        if is_whole:
            return made
        if size >= MAX_BYTES:
            raise TooLargeError
        size *= GROWTH


def _none(data: bytes, size: int) -> tuple[bytes, bool]:
    return data, True


def _gzip(data: bytes, size: int) -> tuple[bytearray, bool]:
    """Unpack chunk by chunk: zlib copies its result, and holds the interpreter meanwhile."""
    stream, made = zlib.decompressobj(wbits=31), bytearray()
    while not stream.eof and len(made) < size:
        chunk = stream.decompress(data, min(CHUNK_BYTES, size - len(made)))
        if not chunk and not stream.eof:
            raise ValueError("the gzip stream ends too early")
        data = stream.unconsumed_tail
        made += chunk
    return made, stream.eof


def _snappy(data: bytes, size: int) -> tuple[bytearray, bool]:
    blocks = bytearray()
    at = XERIAL_HEADER
    if not data.startswith(XERIAL):
        return _snappy_block(data, size)
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        block, is_whole = _snappy_block(data[at + 4 : end], size - len(blocks))
        blocks += block
        if not is_whole:
            return blocks, False
        at = end
    return blocks, True


def _snappy_block(data: bytes, size: int) -> tuple[bytearray, bool]:
    length = cramjam.snappy.decompress_raw_len(data)
    if length > size:
        return bytearray(), False
    block = bytearray(length)
    cramjam.snappy.decompress_raw_into(data, block)
    return block, True


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
