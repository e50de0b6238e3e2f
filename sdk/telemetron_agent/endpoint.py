"""HTTP: one request to Telemetron, with one deadline for all of it."""

from __future__ import annotations

import encodings.idna  # noqa: F401  the thread must not import it later: a fork could find the import lock held
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
"""Seconds; a longer Retry-After is cut to this."""


class Answer(NamedTuple):
    """The server's answer: status, seconds to wait before a retry, and the reason."""

    status: int
    retry_after: float
    reason: str


class InvalidTokenError(ValueError):
    """The token cannot be sent in an HTTP header."""

    def __init__(self) -> None:
        super().__init__("the token has a character that HTTP headers do not allow")


class Endpoint:
    """A Telemetron by its http or https URL, with a path prefix if there is one.

    Raise ValueError for any other URL. Ignore proxies. Never send or show credentials of the URL.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http or https URL")
        self._host = parts.hostname
        self._port = parts.port
        self._prefix = quote(parts.path.rstrip("/"), safe="/%")
        self._tls = parts.scheme == "https"
        self._context: ssl.SSLContext | None = None
        self.place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._prefix}"

    def send(
        self, method: str, path: str, body: bytes | None, token: str | None, timeout: float
    ) -> Answer:
        """Send one request and return its answer, within `timeout` seconds in all.

        Raise OSError (TimeoutError among them), http.client.HTTPException or InvalidTokenError.
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
    """A socket for HTTPResponse whose reads share one deadline.

    A socket's own timeout starts again with each byte of a slow server.
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
    """Return the detail or the title of a problem document (RFC 9457), or ""."""
    try:
        problem = json.loads(response.read(4096))
        return text(problem.get("detail") or problem.get("title"), 300) or ""
    except (OSError, ValueError, AttributeError, http.client.HTTPException):
        return ""


def _seconds(retry_after: str | None) -> float:
    """Return a Retry-After header, which is seconds or a date, as seconds from now."""
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
