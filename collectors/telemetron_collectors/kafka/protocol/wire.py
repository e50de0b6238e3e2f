"""Kafka's wire format: the primitive types, and requests in the form that aiokafka sends.

Source: the protocol guide, https://kafka.apache.org/protocol. In a `flexible` version,
lengths are varints and structures end with tagged fields (KIP-482).
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

NO_TAGS = b"\x00"


class UnsupportedError(Exception):
    """The broker supports none of the request's versions."""


class WireReader:
    """Decodes one response from its start to its end; raises ValueError if it is malformed."""

    def __init__(self, data: bytes, *, flexible: bool = False) -> None:
        self.data = data
        self.at = 0
        self._flexible = flexible

    def _number(self, form: struct.Struct) -> int:
        try:
            (number,) = form.unpack_from(self.data, self.at)
        except struct.error:
            raise ValueError("the response ends too early") from None
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

    def raw(self, length: int) -> bytes:
        """Read a number of bytes."""
        end = self.at + length
        if length < 0 or end > len(self.data):
            raise ValueError("the response ends too early")
        content = self.data[self.at : end]
        self.at = end
        return content

    def varint(self) -> int:
        """Read an unsigned varint of at most 32 bits."""
        number = 0
        for shift in range(0, 35, 7):
            byte = self.raw(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise ValueError("a varint is too long")

    def text(self) -> str | None:
        length = self.varint() - 1 if self._flexible else self.int16()
        return None if length < 0 else self.raw(length).decode()

    def name(self) -> str:
        """Read a text that may not be null."""
        text = self.text()
        if text is None:
            raise ValueError("a name is missing")
        return text

    def bytes(self) -> bytes | None:
        length = self.varint() - 1 if self._flexible else self.int32()
        return None if length < 0 else self.raw(length)

    def count(self) -> int:
        """Read the length of an array; null counts as empty."""
        count = self.varint() - 1 if self._flexible else self.int32()
        if count > len(self.data) - self.at:
            raise ValueError("an array is longer than the response")
        return max(count, 0)

    def numbers(self) -> list[int]:
        """Read an array of int32."""
        return [self.int32() for _ in range(self.count())]

    def tags(self) -> None:
        """Skip the tagged fields at the end of a structure."""
        if self._flexible:
            for _ in range(self.varint()):
                self.varint()
                self.raw(self.varint())


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


class ResponseBody(NamedTuple):
    """The body of a response, and its version."""

    version: int
    data: bytes

    @property
    def throttle(self) -> int:
        """Milliseconds for which a quota delays us. All responses that we request begin with it."""
        return int.from_bytes(self.data[:4], "big", signed=True)

    @property
    def content(self) -> bytes:
        """Everything after the throttle time, which may differ in responses with equal content."""
        return self.data[4:]

    def reader(self, *, flexible: bool = False) -> WireReader:
        return WireReader(self.data, flexible=flexible)


class Header(NamedTuple):
    """The header of a request or response, as aiokafka's connections handle it."""

    correlation_id: int
    encoded: bytes = b""

    def encode(self) -> bytes:
        return self.encoded


class Version:
    """One version of a request, encoded once; it reads its own response.

    It replaces `aiokafka.protocol.api.RequestStruct` and its response type, which encode a
    repeated request again and decode every response, changed or not.
    """

    def __init__(self, number: int, body: bytes, *, flexible: bool = False) -> None:
        self.number = number
        self.body = body
        self.flexible = flexible
        self.api_key = 0
        self.RESPONSE_TYPE = self  # aiokafka reads this attribute

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

    def decode(self, buffer: BinaryIO) -> ResponseBody:
        return ResponseBody(self.number, buffer.read())


class Request:
    """A request in the versions that we support, the best first.

    It replaces `aiokafka.protocol.api.Request`.
    """

    def __init__(self, api_key: int, *versions: Version) -> None:
        self.versions = versions
        self._api_key = api_key
        for version in versions:
            version.api_key = api_key

    def prepare(self, supported: Mapping[int, tuple[int, int]]) -> Any:
        """Return the version to send to a broker; raise UnsupportedError if it supports none.

        `supported` has the lowest and highest version of each API.
        """
        lowest, highest = supported.get(self._api_key, (0, -1))
        for version in self.versions:
            if lowest <= version.number <= highest:
                return version
        raise UnsupportedError(f"API {self._api_key}")
