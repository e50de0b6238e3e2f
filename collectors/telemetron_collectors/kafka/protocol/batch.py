"""Record batches as brokers keep them: https://kafka.apache.org/documentation/#recordbatch.

aiokafka's reader unpacks a whole batch, whatever its size, and rejects a batch if the name of one
header is not UTF-8.
"""

import struct
from collections.abc import Iterator

from telemetron_collectors.kafka.protocol.codec import (
    FIRST_BYTES,
    GROWTH,
    MAX_BYTES,
    TooLargeError,
    unpack,
)
from telemetron_collectors.kafka.protocol.legacy import LegacyBatch
from telemetron_collectors.kafka.protocol.record import MAX_VALUE_BYTES, LogRecord

_HEADER = struct.Struct(">qiibIhiqqqhii")
_MAGIC = 16
_LOG_APPEND_TIME, _TRANSACTIONAL, _CONTROL, _CODEC = 8, 16, 32, 7


class Batch:
    """One batch, unpacked only as far as its records are read."""

    def __init__(self, encoded: bytes) -> None:
        header = _HEADER.unpack_from(encoded)
        self.base_offset: int = header[0]
        self.next_offset: int = header[0] + header[6] + 1
        self.producer_id: int = header[9]
        self._attributes: int = header[5]
        self._first_timestamp, self._max_timestamp = header[7:9]
        self._count: int = header[12]
        self._packed = encoded[_HEADER.size :]

    @property
    def is_transactional(self) -> bool:
        return bool(self._attributes & _TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self._attributes & _CONTROL)

    def read(self, offset: int) -> Iterator[LogRecord]:
        """Yield the records from an offset on.

        Raise TooLargeError, or any other error if the batch is corrupt.
        """
        size = max(FIRST_BYTES, 2 * len(self._packed))
        data, is_whole = self._unpack(size)
        at, left = 0, self._count
        is_dense = left == self.next_offset - self.base_offset
        skipped = offset - self.base_offset if is_dense else 0  # without decoding them
        while left:
            length, begin = _varint(data, at) if at + 10 <= len(data) or is_whole else (size, at)
            if length <= 0:
                raise ValueError("a record has no length")
            if begin + length <= len(data):
                at, left = begin + length, left - 1
                if skipped > 0:
                    skipped -= 1
                elif (record := self._record(data, begin, at, offset)) is not None:
                    yield record
            elif is_whole:
                raise ValueError("a record ends after its batch")
            elif size >= MAX_BYTES:
                raise TooLargeError
            else:
                size *= GROWTH
                data, is_whole = self._unpack(size)

    def _unpack(self, size: int) -> tuple[bytes | bytearray, bool]:
        return unpack(self._attributes & _CODEC, self._packed, min(size, MAX_BYTES))

    def _record(self, data: bytes | bytearray, at: int, end: int, offset: int) -> LogRecord | None:
        """Return the record at `at`; None if it is before `offset`."""
        delta, at = _varint(data, at + 1)
        number, at = _varint(data, at)
        if self.base_offset + number < offset:
            return None
        key, at = _bytes(data, at, end)
        value, at = _bytes(data, at, end, MAX_VALUE_BYTES + 1)
        count, at = _varint(data, at)
        headers = []
        for _ in range(count):
            name, at = _bytes(data, at, end)
            content, at = _bytes(data, at, end)
            headers.append(((name or b"").decode(errors="replace"), content))
        is_append = self._attributes & _LOG_APPEND_TIME
        timestamp = self._max_timestamp if is_append else self._first_timestamp + delta
        return LogRecord(self.base_offset + number, timestamp, key, value, headers)


def batches(records: bytes) -> Iterator[Batch | LegacyBatch]:
    """Yield the complete batches; brokers may cut the last one."""
    at = 0
    while at + _MAGIC < len(records):
        length = int.from_bytes(records[at + 8 : at + 12], "big", signed=True)
        end = at + 12 + length
        if length <= _MAGIC - 12 or end > len(records):
            return
        make = Batch if records[at + _MAGIC] >= 2 else LegacyBatch
        yield make(records[at:end])
        at = end


def _varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return a zigzag-encoded number and its end; raise IndexError if the data end before."""
    byte = data[at]
    at += 1
    number, shift = byte & 0x7F, 7
    while byte & 0x80:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise ValueError("a varint is too long")
    return number >> 1 ^ -(number & 1), at


def _bytes(
    data: bytes | bytearray, at: int, end: int, most: int = MAX_BYTES
) -> tuple[bytes | None, int]:
    """Return the first `most` bytes of a field, and its end."""
    length, at = _varint(data, at)
    if length < 0:
        return None, at
    if at + length > end:
        raise ValueError("a field ends after its record")
    return bytes(memoryview(data)[at : at + min(length, most)]), at + length
