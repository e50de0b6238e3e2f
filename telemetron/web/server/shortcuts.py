"""Answers without an ASGI call, for applications that have the bytes of an answer ready.

An application offers them by a method `shortcut`: see `telemetron.http.Shortcut`. uvicorn's call of
an application costs a task, an event and two messages, which is most of the time of a small answer.
A repeated head is not even parsed again: a client that polls sends the same bytes each time.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from telemetron.http import Answer, Scope, Shortcut

MAX_BODY = 64 * 1024
MAX_HEADS = 4096
MAX_HEAD_BYTES = 1024
_END = b"\r\n\r\n"

Fields = list[tuple[bytes, bytes]]


class Known(NamedTuple):
    """What follows from the bytes of a head: it was parsed once."""

    shortcut: Shortcut
    length: int
    """Of the body."""
    is_head: bool


class Shortcuts:
    """The shortcuts of one application, by the bytes of the heads that were answered by them."""

    def __init__(self, app: Any) -> None:
        """Use the shortcuts of `app`; None: use none."""
        self._offer = getattr(app, "shortcut", None)
        self._heads: dict[bytes, Known] = {}
        self._defaults: Fields = []
        self._default_head = b""
        self._last: Answer | None = None  # the answer that was encoded last
        self._last_is_head = False
        self._encoded = b""

    def find(self, scope: Scope) -> Known | None:
        """Return what to do with a request, or None to call the application."""
        if self._offer is None:
            return None
        length = _body_length(scope)
        if length is None:
            return None
        # Without the connection, which the shortcut would keep alive.
        shortcut = self._offer({**scope, "state": {}})
        return shortcut and Known(shortcut, length, scope["method"] == "HEAD")

    def remember(self, data: bytes, known: Known) -> None:
        """Remember the head of a request that arrived as `data`, without others."""
        at = data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)
        if len(data) - at != known.length:
            return
        if len(self._heads) >= MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[data[:at]] = known

    def recall(self, data: bytes) -> Known | None:
        """Return what follows from the head if `data` is exactly one request with a known head."""
        at = data.find(_END, 0, MAX_HEAD_BYTES) + 4
        known = self._heads.get(data[:at])
        return known if known and len(data) - at == known.length else None

    def encode(self, answer: Answer, defaults: Fields, *, is_head: bool) -> bytes:
        """Return the answer as uvicorn would send it; `defaults` are the server's own fields."""
        fresh = defaults is self._defaults
        if fresh and answer is self._last and is_head is self._last_is_head:
            return self._encoded
        if not fresh:  # uvicorn makes a new list when the date changes
            self._defaults = defaults
            self._default_head = b"".join([b"%s: %s\r\n" % field for field in defaults])
        body = b"" if is_head else answer.body
        self._last, self._last_is_head = answer, is_head
        self._encoded = b"".join(
            (STATUS_LINE[answer.status], self._default_head, answer.head, body)
        )
        return self._encoded


def _body_length(scope: Scope) -> int | None:
    """Return the length of the body; None if the application must be called."""
    fields: Mapping[bytes, bytes] = dict(scope["headers"])
    if b"transfer-encoding" in fields or b"upgrade" in fields or scope["http_version"] != "1.1":
        return None
    length = int(fields.get(b"content-length", 0))
    # The application may answer a GET before its body arrives.
    largest = 0 if scope["method"] in ("GET", "HEAD") else MAX_BODY
    return length if length <= largest else None
