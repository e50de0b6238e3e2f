"""What the HTTP side of the core and of a collector share: problems, bodies, paths."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

NO_CONTENT = {"type": "http.response.start", "status": 204, "headers": []}
EMPTY = {"type": "http.response.body", "body": b""}

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
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Not valid",
    429: "Too many",
    500: "Internal error",
    503: "Not available",
}


class HttpProblem(Exception):
    """An answer of RFC 9457: `detail` says what to do; `more` are further members."""

    def __init__(
        self, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.more = more

    def body(self) -> bytes:
        """`{"type", "title", "status", "detail", …}`."""
        title = TITLES.get(self.status, "Error")
        members = {"type": "about:blank", "title": title, "status": self.status}
        return msgspec.json.encode(members | {"detail": self.detail} | self.more)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; an ASGI app of its own."""
        headers = {"content-type": "application/problem+json", "cache-control": "no-store"}
        await answer(scope, send, self.status, self.body(), headers | self.headers)


async def answer(
    scope: Scope, send: Send, status: int, body: bytes, headers: dict[str, str]
) -> None:
    """One whole answer; to HEAD without its body."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    body = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": body})


def route_path(scope: Scope) -> str:
    """The path below `root_path`, percent-encoded as it came, so that `%2F` stays in a segment."""
    path: str = scope["raw_path"].decode("latin-1")
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def require_method(scope: Scope, *methods: str) -> None:
    """405 that names the methods, unless the request's is one of them."""
    if scope["method"] not in methods:
        allow = ", ".join(methods)
        detail = f"{scope['method']} is not for this path; it takes {allow}"
        raise HttpProblem(405, detail, {"allow": allow})


async def read_json(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Return the request's body.

    Raises HttpProblem: 415 unless it is plain JSON, 413 above `limit` bytes, 400 if it ends early.
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
    if media != b"application/json" and media.split(b";")[0].strip().lower() != b"application/json":
        raise HttpProblem(415, "send JSON, with `Content-Type: application/json`")
    if length is not None and length > limit:
        raise _too_large(limit)
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HttpProblem(400, "the body ended early")
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return body


def _too_large(limit: int) -> HttpProblem:
    return HttpProblem(413, f"a body may have {limit} bytes; send less", limit=limit)
