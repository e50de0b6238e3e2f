"""Kafka's wire format: the primitive types, and requests as aiokafka's connections take them.

Source: the protocol guide, https://kafka.apache.org/protocol. A version is `flexible` where its
lengths are varints and its structures end with tagged fields (KIP-482).
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

NO_TAGS = b"\x00"


class UnsupportedError(Exception):
    """The broker speaks none of the request's versions."""


class Reader:
    """Reads one answer from its start to its end; ValueError where it is cut or makes no sense."""

    def __init__(self, data: bytes, *, flexible: bool = False) -> None:
        self.data = data
        self.at = 0
        self._flexible = flexible

    def _number(self, form: struct.Struct) -> int:
        try:
            (number,) = form.unpack_from(self.data, self.at)
        except struct.error:
            raise ValueError("the answer ends too early") from None
        self.at += form.size
        return int(number)

    def int8(self) -> int:
        return self._number(_INT8)

    def int16(self) -> int:
        return self._number(_INT16)

    def int32(self) -> int:
        return self._number(_INT32)

    def int64(self) -> int:
        return self._number(_INT64)

    def take(self, length: int) -> bytes:
        """So many bytes."""
        end = self.at + length
        if length < 0 or end > len(self.data):
            raise ValueError("the answer ends too early")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def varint(self) -> int:
        """An unsigned varint of at most 32 bits."""
        number = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise ValueError("a number that is too long")

    def text(self) -> str | None:
        length = self.varint() - 1 if self._flexible else self.int16()
        return None if length < 0 else self.take(length).decode()

    def name(self) -> str:
        """A text that may not be null."""
        text = self.text()
        if text is None:
            raise ValueError("a name is missing")
        return text

    def bytes(self) -> bytes | None:
        length = self.varint() - 1 if self._flexible else self.int32()
        return None if length < 0 else self.take(length)

    def count(self) -> int:
        """The length of an array; null counts as empty."""
        count = self.varint() - 1 if self._flexible else self.int32()
        if count > len(self.data) - self.at:
            raise ValueError("an array that is longer than the answer")
        return max(count, 0)

    def numbers(self) -> list[int]:
        """An array of int32."""
        return [self.int32() for _ in range(self.count())]

    def tags(self) -> None:
        """The end of a structure: tagged fields, which are skipped."""
        if self._flexible:
            for _ in range(self.varint()):
                self.varint()
                self.take(self.varint())


_INT8, _INT16, _INT32, _INT64 = map(struct.Struct, (">b", ">h", ">i", ">q"))


def text(value: str) -> bytes:
    encoded = value.encode()
    return _INT16.pack(len(encoded)) + encoded


def array(items: Sequence[bytes]) -> bytes:
    return _INT32.pack(len(items)) + b"".join(items)


def compact_text(value: str) -> bytes:
    encoded = value.encode()
    return varint(len(encoded) + 1) + encoded


def compact_array(items: Sequence[bytes]) -> bytes:
    return varint(len(items) + 1) + b"".join(items)


def varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


class Answer(NamedTuple):
    """The body of an answer, and the version it is in."""

    version: int
    data: bytes

    @property
    def throttle(self) -> int:
        """Milliseconds for which a quota holds us back: so begin all answers that we ask for."""
        return int.from_bytes(self.data[:4], "big", signed=True)

    def reader(self, *, flexible: bool = False) -> Reader:
        return Reader(self.data, flexible=flexible)


class Header(NamedTuple):
    """A request's or an answer's header, as aiokafka's connections handle it."""

    correlation_id: int
    encoded: bytes = b""

    def encode(self) -> bytes:
        return self.encoded


class Version:
    """One version of a request, ready to be sent; it decodes its own answer.

    Stands for `aiokafka.protocol.api.RequestStruct` and its response: what is asked every time
    is encoded once, and an answer that has not changed is not decoded at all.
    """

    def __init__(self, number: int, body: bytes, *, flexible: bool = False) -> None:
        self.number = number
        self.body = body
        self.flexible = flexible
        self.api_key = 0
        self.RESPONSE_TYPE = self  # the name that aiokafka asks for

    def build_request_header(self, correlation_id: int, client_id: str) -> Header:
        start = struct.pack(">hhi", self.api_key, self.number, correlation_id)
        end = NO_TAGS if self.flexible else b""
        return Header(correlation_id, start + text(client_id) + end)

    def encode(self) -> bytes:
        return self.body

    def parse_response_header(self, buffer: BinaryIO) -> Header:
        (correlation_id,) = _INT32.unpack(buffer.read(4))
        if self.flexible:
            buffer.read(1)  # no broker sends tags here
        return Header(correlation_id)

    def decode(self, buffer: BinaryIO) -> Answer:
        return Answer(self.number, buffer.read())


class Request:
    """A request in the versions that we speak, the best first.

    Stands for `aiokafka.protocol.api.Request`.
    """

    def __init__(self, api_key: int, *versions: Version) -> None:
        self.versions = versions
        self._api_key = api_key
        for version in versions:
            version.api_key = api_key

    def prepare(self, spoken: Mapping[int, tuple[int, int]]) -> Any:
        """The version to send to a broker that speaks these; UnsupportedError: none."""
        lowest, highest = spoken.get(self._api_key, (0, -1))
        for version in self.versions:
            if lowest <= version.number <= highest:
                return version
        raise UnsupportedError(f"API {self._api_key}")
