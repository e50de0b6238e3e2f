"""HTTP/1.1 connections to the proxy: each sends one GET at a time and is kept for the next one.

httpx would take 2 ms of the event loop for each request, even for a small answer.
"""

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

import httptools

# The proxy's server closes a connection after 5 idle seconds; a reuse then would fail.
KEEPALIVE_SECONDS = 3.0
# A host may have an address that never answers; the last one gets all the time that is left.
ADDRESS_SECONDS = 2.0
MAX_HEAD_BYTES = 64 * 1024
MAX_REFUSAL_BYTES = 64 * 1024


class ConnectError(OSError):
    """No address of the proxy accepts a connection, or it does not speak TLS as expected."""


class CutError(Exception):
    """The connection closed before the end of the answer, or the answer is no HTTP."""


class TooLargeError(Exception):
    """The answer has more bytes than `args[0]`."""


class Response(NamedTuple):
    """A whole answer; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One connection. A request that fails or is cancelled closes it."""

    def __init__(self) -> None:
        self.used_at = 0.0
        """When the last answer ended, monotonic."""
        self._answer: asyncio.Future[Response] | None = None
        self._begin(0)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    async def get(self, request: bytes, max_bytes: int) -> Response:
        """Send a request and return its answer. Raise CutError, OSError or TooLargeError."""
        self._begin(max_bytes)
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._transport.write(request)
        try:
            return await answer
        finally:
            self._answer = None
            if answer.cancelled() or answer.exception():
                self.close()

    def _begin(self, max_bytes: int) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()  # a list of tiny chunks would take many times their size
        self._max_bytes = max_bytes
        self._head_bytes = 0
        self._in_body = False

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            return self.close()  # nothing was asked
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return self._fail(CutError())
        if not self._in_body and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(TooLargeError(MAX_HEAD_BYTES))

    def connection_lost(self, exc: Exception | None) -> None:
        lengths = self._headers.keys() & {"content-length", "transfer-encoding"}
        if exc is None and self._in_body and not lengths:
            self._complete()  # only the end of the connection ends such a body
        self._fail(exc or CutError())
        self._parser = None  # it refers back to the connection

    # the parser's callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # others follow the body: trailers
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._in_body = status >= 200
        if status > 200:
            self._max_bytes = MAX_REFUSAL_BYTES

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > self._max_bytes:
            self._fail(TooLargeError(self._max_bytes))
            self.close()

    def on_message_complete(self) -> None:
        if not self._in_body:  # an interim answer, such as 103
            self._headers = {}
            return
        self._complete()
        if not self._parser.should_keep_alive():
            self.close()

    def _complete(self) -> None:
        if self._answer and not self._answer.done():
            status, body = self._parser.get_status_code(), bytes(self._body)
            self._answer.set_result(Response(status, self._headers, body))
            self._body = bytearray()
            self.used_at = asyncio.get_running_loop().time()


class Connections:
    """The connections to one base URL."""

    def __init__(self, url: str, context: ssl.SSLContext | None) -> None:
        """`context` for https, else None. Raise ValueError if the URL is malformed."""
        parts = urlsplit(url)
        self._context = context
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if context else 80)
        self._netloc = parts.netloc.encode("idna").decode()
        self._path = quote(parts.path, safe="/%:;=+,~!$&'()*@").rstrip("/")
        self._idle: list[Connection] = []
        self._address = ""
        """The address that accepted the last connection."""

    async def get(self, target: str, headers: dict[str, str], max_bytes: int) -> Response:
        """Return the answer to a path with its query. Raise CutError, OSError or TooLargeError."""
        lines = [f"GET {self._path}{target} HTTP/1.1", f"host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = "\r\n".join([*lines, "", ""]).encode("ascii")
        connection = self._idle_one() or await self._connect()
        response = await connection.get(request, max_bytes)
        if connection.is_open:
            self._idle.append(connection)
        return response

    def close(self) -> None:
        for connection in self._idle:
            connection.close()

    def _idle_one(self) -> Connection | None:
        """Return a connection that the proxy has not closed yet; close those it will close soon."""
        oldest = asyncio.get_running_loop().time() - KEEPALIVE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and connection.used_at > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        try:
            addresses = await self._addresses()
            for address in addresses[:-1]:
                with suppress(OSError):  # a TimeoutError is one
                    async with asyncio.timeout(ADDRESS_SECONDS):
                        return await self._open(address)
            return await self._open(addresses[-1])
        except OSError as error:
            raise ConnectError from error

    async def _addresses(self) -> list[str]:
        """Return the host's addresses; begin with the address of the last connection."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        return sorted(addresses, key=lambda address: address != self._address)

    async def _open(self, address: str) -> Connection:
        name = self._host if self._context else None
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, address, self._port, ssl=self._context, server_hostname=name
        )
        self._address = address
        return connection
