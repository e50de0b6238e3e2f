"""Messages of the formats before Kafka 0.11, in which brokers still keep old records.

https://kafka.apache.org/documentation/#messageset. A compressed message has others as its value.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from telemetron_collectors.kafka.protocol.codec import UnsupportedCodecError, unpack_whole
from telemetron_collectors.kafka.protocol.record import MAX_VALUE_BYTES, LogRecord

_HEADER = struct.Struct(">qiIbb")
_TIMESTAMP = struct.Struct(">q")
_LENGTH = struct.Struct(">i")
_LOG_APPEND_TIME, _CODEC, _LZ4 = 8, 7, 3


class Message(NamedTuple):
    """One message; `timestamp` is -1 in the oldest format."""

    offset: int
    magic: int
    attributes: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class LegacyBatch:
    """One message, with those in it."""

    is_transactional = is_control = False
    producer_id = -1

    def __init__(self, encoded: bytes) -> None:
        self._message, _ = _message(encoded, 0)
        self._codec = self._message.attributes & _CODEC
        self.next_offset = self._message.offset + 1
        # Those in a compressed message begin somewhere before its own offset, which is the last.
        self.base_offset = 0 if self._codec else self._message.offset

    def read(self, offset: int) -> Iterator[LogRecord]:
        """Yield the records from an offset on.

        Raise TooLargeError, or any other error if the message is corrupt.
        """
        for one in self._unpacked() if self._codec else [self._message]:
            if one.offset >= offset:
                value = one.value and one.value[: MAX_VALUE_BYTES + 1]
                yield LogRecord(one.offset, one.timestamp, one.key, value, [])

    def _unpacked(self) -> Iterator[Message]:
        outer = self._message
        if self._codec == _LZ4 and outer.magic == 0:  # its frames are wrong: KAFKA-3160
            raise UnsupportedCodecError(self._codec)
        messages = list(_messages(unpack_whole(self._codec, outer.value or b"")))
        # Newer offsets are relative, and the last one is that of the compressed message.
        base = outer.offset - messages[-1].offset if outer.magic else 0
        for one in messages:
            if one.attributes & _CODEC:
                raise ValueError("a message in a compressed one is compressed")
            is_append = outer.attributes & _LOG_APPEND_TIME
            yield one._replace(
                offset=base + one.offset,
                timestamp=outer.timestamp if outer.magic and is_append else one.timestamp,
            )


def _messages(data: bytes | bytearray) -> Iterator[Message]:
    at = 0
    while at < len(data):
        message, at = _message(data, at)
        yield message


def _message(data: bytes | bytearray, at: int) -> tuple[Message, int]:
    """Return the message at `at`, and its end."""
    offset, length, _, magic, attributes = _HEADER.unpack_from(data, at)
    end, at = at + 12 + length, at + _HEADER.size
    timestamp = -1
    if magic:
        timestamp = _TIMESTAMP.unpack_from(data, at)[0]
        at += _TIMESTAMP.size
    key, at = _field(data, at, end)
    value, at = _field(data, at, end)
    if at != end:
        raise ValueError("a message does not end with its value")
    return Message(offset, magic, attributes, timestamp, key, value), end


def _field(data: bytes | bytearray, at: int, end: int) -> tuple[bytes | None, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    if length < 0:
        return None, at
    if at + length > min(end, len(data)):
        raise ValueError("a field ends after its message")
    return bytes(memoryview(data)[at : at + length]), at + length
