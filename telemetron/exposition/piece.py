"""Pieces of a page that are compressed once and joined into one gzip member, as often as needed."""

import zlib
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

# A gzip member (RFC 1952): its header; after the pieces an empty last block, checksum and length.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_LAST_BLOCK = b"\x03\x00"
_LEVEL = 1

_POLYNOMIAL = 0xEDB88320  # of CRC-32, its bits reversed
_ONE = 1 << 31


class Packed(NamedTuple):
    """Deflate blocks that end at a byte and refer to nothing before them."""

    data: bytes
    size: int
    checksum: int
    """CRC-32 of the text."""
    shift: int
    """What the checksum of a text before this one is multiplied by."""


class Piece:
    """Some lines; compressed when first sent so."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    @cached_property
    def packed(self) -> Packed:
        """The lines compressed."""
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = deflate.compress(self.text) + deflate.flush(zlib.Z_SYNC_FLUSH)
        size = len(self.text)
        return Packed(data, size, zlib.crc32(self.text), _power(8 * size))


class Member:
    """A gzip member that is joined from pieces."""

    def __init__(self) -> None:
        self._blocks = [_HEADER]
        self._size = self._checksum = 0

    def add(self, piece: Packed) -> None:
        """Append the text of a piece."""
        self._blocks.append(piece.data)
        self._size += piece.size
        self._checksum = _times(piece.shift, self._checksum) ^ piece.checksum

    def end(self) -> bytes:
        """Return the member."""
        size = self._size & 0xFFFFFFFF
        tail = self._checksum.to_bytes(4, "little") + size.to_bytes(4, "little")
        return b"".join([*self._blocks, _LAST_BLOCK, tail])


def _times(a: int, b: int) -> int:
    """Multiply two polynomials modulo that of CRC-32, as zlib's `multmodp`."""
    product, bit = 0, _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


def _powers() -> Sequence[int]:
    """Return x to the powers 1, 2, 4, 8 and so on."""
    powers = [_ONE >> 1]
    while len(powers) < 48:
        powers.append(_times(powers[-1], powers[-1]))
    return powers


_POWERS = _powers()


def _power(exponent: int) -> int:
    """Return x to this power."""
    product = _ONE
    for at in range(exponent.bit_length()):
        if exponent >> at & 1:
            product = _times(_POWERS[at], product)
    return product
