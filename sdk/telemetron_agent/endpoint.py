"""The HTTP side: one request to one Telemetron, with one deadline for all of it."""

from __future__ import annotations

import encodings.idna  # noqa: F401  else the thread imports it to resolve a name, as a fork may see
import http.client
import io
import json
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import NamedTuple, cast
from urllib.parse import quote, urlsplit

from .text import text

MAX_RETRY_AFTER = 300.0
"""Seconds; a server that asks for more is asked again after this."""


class Answer(NamedTuple):
    """What the server said: status, seconds until it wants to be asked again, and why."""

    status: int
    retry_after: float
    reason: str


class InvalidTokenError(ValueError):
    """The token cannot be sent in an HTTP header."""

    def __init__(self) -> None:
        super().__init__("the token has a control character or another that HTTP does not allow")


class Endpoint:
    """A Telemetron by its base URL: http or https, a path prefix is kept, proxies are ignored.

    Raises ValueError on any other URL. Credentials in the URL are neither sent nor shown.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("no http or https URL")
        self._host = parts.hostname
        self._port = parts.port
        self._prefix = quote(parts.path.rstrip("/"), safe="/%")
        self._tls = parts.scheme == "https"
        self._context: ssl.SSLContext | None = None
        self.place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._prefix}"

    def send(
        self, method: str, path: str, body: bytes | None, token: str | None, timeout: float
    ) -> Answer:
        """One request and its answer, in `timeout` seconds in all.

        Raises OSError (TimeoutError among them), http.client.HTTPException, InvalidTokenError.
        """
        deadline = time.monotonic() + timeout
        headers = {"Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token:
            _check(token)
            headers["Authorization"] = f"Bearer {token}"
        connection = self._connection(timeout)
        try:
            connection.request(method, self._prefix + path, body, headers)
            return _answer(connection.sock, method, deadline)
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        if self._context is None:
            self._context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=timeout, context=self._context
        )


def _check(token: str) -> None:
    if not token.isprintable() or not all(ord(each) < 256 for each in token):
        raise InvalidTokenError


class _Timed(io.RawIOBase):
    """A socket as HTTPResponse reads it, but every read ends by one deadline.

    A socket's own timeout starts anew with each byte that a slow server drips.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        return self._sock.recv_into(buffer)


def _answer(sock: socket.socket, method: str, deadline: float) -> Answer:
    reader = cast(socket.socket, _Timed(sock, deadline))
    response = http.client.HTTPResponse(reader, method=method)
    response.begin()
    reason = _reason(response) if response.status >= 400 else ""
    return Answer(response.status, _seconds(response.getheader("Retry-After")), reason)


def _reason(response: http.client.HTTPResponse) -> str:
    """What a problem document (RFC 9457) says, or nothing."""
    try:
        problem = json.loads(response.read(4096))
        return text(problem.get("detail") or problem.get("title"), 300) or ""
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return ""


def _seconds(retry_after: str | None) -> float:
    """A Retry-After header, which is seconds or a date, as seconds from now."""
    if not retry_after:
        return 0.0
    try:
        if retry_after.isdigit():
            seconds = float(retry_after)
        else:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
