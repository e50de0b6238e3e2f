"""HTTP for the web server and for collectors that take requests: problems, bodies, paths."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import cached_property
from typing import Any

import msgspec

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

NO_CONTENT = {"type": "http.response.start", "status": 204, "headers": []}
EMPTY = {"type": "http.response.body", "body": b""}

JSON = "application/json"
PROBLEM_HEADERS = {"content-type": "application/problem+json", "cache-control": "no-store"}

TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict",
    410: "Gone",
    413: "Body too large",
    414: "URI too long",
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Not valid",
    429: "Too many",
    431: "Headers too large",
    500: "Internal error",
    503: "Not available",
}


class Answer:
    """A whole answer: its status, its header fields as they are sent, and its body."""

    def __init__(
        self, status: int, fields: Iterable[tuple[bytes, bytes]] = (), body: bytes = b""
    ) -> None:
        self.status = status
        self.head = b"".join([*(b"%s: %s\r\n" % field for field in fields), b"\r\n"])
        self.body = body
        self.encoded = b""
        """The bytes that the server sent last for it, with its own fields `encoded_with`."""
        self.encoded_with: object = None

    @cached_property
    def without_body(self) -> "Answer":
        """The answer to a HEAD."""
        bodiless = Answer(self.status)
        bodiless.head = self.head
        return bodiless


Shortcut = Callable[[bytes], Answer | None]
"""Answers requests that have one head, each from its body, without an ASGI call.

An ASGI application may have a method `shortcut(scope)` that returns one, or None if such requests
need the call. It must answer the same bytes as the call would. It returns None or raises
HttpProblem, without an effect, to have one request answered by the call: it never waits.
"""


class HttpProblem(Exception):
    """A problem document (RFC 9457), which is also an ASGI application that sends itself.

    `detail` describes the error and how to avoid it; `more` are further members of the document.
    """

    def __init__(
        self, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = TITLES.get(status, "Error")
        self.detail = detail
        self.headers = headers or {}
        self.more = more

    def body(self) -> bytes:
        """Return the document: `{"type", "title", "status", "detail", …}`."""
        members = {"type": "about:blank", "title": self.title, "status": self.status}
        return msgspec.json.encode(members | {"detail": self.detail} | self.more)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, send, self.status, self.body(), PROBLEM_HEADERS | self.headers)


async def answer(
    scope: Scope, send: Send, status: int, body: bytes, headers: dict[str, str]
) -> None:
    """Send a whole answer; leave out the body if the request is a HEAD."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    body = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, wanted: bytes) -> bytes:
    """Return a header's value, its lines joined by commas; empty if the request has none."""
    return b", ".join([value for name, value in scope["headers"] if name == wanted])


def route_path(scope: Scope) -> str:
    """Return the path below `root_path`, still percent-encoded: `%2F` is part of a segment."""
    path: str = scope["raw_path"].decode("latin-1")
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def require_method(scope: Scope, *methods: str) -> None:
    """Raise a 405 that names these methods, unless the request uses one of them."""
    if scope["method"] not in methods:
        allow = ", ".join(methods)
        detail = f"this path does not allow {scope['method']}; use {allow}"
        raise HttpProblem(405, detail, {"allow": allow})


def require_json(scope: Scope, limit: int) -> None:
    """Raise a 415 unless the body is uncompressed JSON, a 413 if its length exceeds `limit`."""
    require_media(scope, limit, JSON)


def require_media(scope: Scope, limit: int, *medias: str) -> str:
    """Return which of these media types the body has.

    Raises HttpProblem: 415 if it has another one or is compressed, 413 if its length exceeds
    `limit` bytes.
    """
    length, media = None, b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media = value
        elif name == b"content-length":
            length = int(value)
        elif name == b"content-encoding" and value.strip().lower() not in (b"identity", b""):
            coding = value.decode("latin-1")
            raise HttpProblem(
                415, f"`Content-Encoding: {coding}` is not supported; send plain JSON"
            )
    sent = media.split(b";")[0].strip().lower().decode("latin-1")
    if sent not in medias:
        expected = " or ".join(f"`Content-Type: {one}`" for one in medias)
        raise HttpProblem(415, f"send JSON, with {expected}")
    if length is not None and length > limit:
        raise _too_large(limit)
    return sent


async def read_json(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the request's body.

    Raises HttpProblem: 415 unless it is uncompressed JSON, 413 if it exceeds `limit` bytes, 400 if
    the client disconnects before its end.
    """
    require_json(scope, limit)
    return b"".join([piece async for piece in body_pieces(receive, limit)])


async def body_pieces(receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """Yield the pieces of the request's body as they arrive.

    Raises HttpProblem: 413 if they exceed `limit` bytes, 400 if the client disconnects before the
    end.
    """
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HttpProblem(400, "the connection closed before the end of the body")
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        yield piece
        more = message.get("more_body", False)


async def disconnected(receive: Receive) -> None:
    """Wait until the client has disconnected. Nothing else may call `receive` meanwhile."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(limit: int) -> HttpProblem:
    return HttpProblem(413, f"the body is larger than {limit} bytes; send less", limit=limit)
