"""Record batches as brokers keep them: https://kafka.apache.org/documentation/#recordbatch.

aiokafka's own reader unpacks a batch whole, whatever its size, and gives up a batch if the name of
one header is not UTF-8. It reads the formats before Kafka 0.11 only.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.record import MemoryRecords

from telemetron_collectors.kafka.protocol.codec import unpack

FIRST_BYTES = 1 << 16
MAX_BYTES = 1 << 24
"""Of one batch, unpacked; records behind them are not read."""
GROWTH = 8

_HEADER = struct.Struct(">qiibIhiqqqhii")
_MAGIC = 16
_LOG_APPEND_TIME, _TRANSACTIONAL, _CONTROL, _CODEC = 8, 16, 32, 7


class TooLargeError(Exception):
    """The rest of a batch is not read: it unpacks to more than MAX_BYTES."""


class Entry(NamedTuple):
    """One record; `timestamp` in milliseconds since 1970, negative: none."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Batch:
    """One batch, unpacked as far as its records are asked for."""

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

    def read(self, offset: int) -> Iterator[Entry]:
        """The records from an offset on; TooLargeError, or any other error where it is broken."""
        size = max(FIRST_BYTES, 2 * len(self._packed))
        data, is_whole = self._unpack(size)
        at, left = 0, self._count
        is_dense = left == self.next_offset - self.base_offset
        skipped = offset - self.base_offset if is_dense else 0  # without a look at their offsets
        while left:
            length, begin = _varint(data, at) if at + 10 <= len(data) or is_whole else (size, at)
            if length <= 0:
                raise ValueError("a record without a length")
            if begin + length <= len(data):
                at, left = begin + length, left - 1
                if skipped > 0:
                    skipped -= 1
                elif (entry := self._entry(data, begin, at, offset)) is not None:
                    yield entry
            elif is_whole:
                raise ValueError("a record ends behind its batch")
            elif size >= MAX_BYTES:
                raise TooLargeError
            else:
                size *= GROWTH
                data, is_whole = self._unpack(size)

    def _unpack(self, size: int) -> tuple[bytes | bytearray, bool]:
        return unpack(self._attributes & _CODEC, self._packed, min(size, MAX_BYTES))

    def _entry(self, data: bytes | bytearray, at: int, end: int, offset: int) -> Entry | None:
        """The record at `at`; None where it is before `offset`."""
        delta, at = _varint(data, at + 1)
        number, at = _varint(data, at)
        if self.base_offset + number < offset:
            return None
        key, at = _bytes(data, at, end)
        value, at = _bytes(data, at, end)
        count, at = _varint(data, at)
        headers = []
        for _ in range(count):
            name, at = _bytes(data, at, end)
            content, at = _bytes(data, at, end)
            headers.append(((name or b"").decode(errors="replace"), content))
        is_append = self._attributes & _LOG_APPEND_TIME
        timestamp = self._max_timestamp if is_append else self._first_timestamp + delta
        return Entry(self.base_offset + number, timestamp, key, value, headers)


class LegacyBatch:
    """One message set of the formats before Kafka 0.11, as aiokafka reads it."""

    is_transactional = is_control = False
    producer_id = -1

    def __init__(self, encoded: bytes) -> None:
        self._batch: Any = MemoryRecords(encoded).next_batch()
        self.base_offset: int = self._batch.base_offset
        self.next_offset: int = self._batch.next_offset

    def read(self, offset: int) -> Iterator[Entry]:
        """The records from an offset on."""
        for record in self._batch:
            if record.offset >= offset:
                time = -1 if record.timestamp is None else record.timestamp
                yield Entry(record.offset, time, record.key, record.value, [])


def batches(records: bytes) -> Iterator[Batch | LegacyBatch]:
    """The batches that are whole; the last one may be cut."""
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
    """A number in zigzag encoding, and where it ends; IndexError: it is cut."""
    byte = data[at]
    at += 1
    number, shift = byte & 0x7F, 7
    while byte & 0x80:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise ValueError("a number that is too long")
    return number >> 1 ^ -(number & 1), at


def _bytes(data: bytes | bytearray, at: int, end: int) -> tuple[bytes | None, int]:
    length, at = _varint(data, at)
    if length < 0:
        return None, at
    if at + length > end:
        raise ValueError("a field ends behind its record")
    return bytes(data[at : at + length]), at + length
