"""Answers without an ASGI call, for applications that have the bytes of an answer ready.

An application offers them by a method `shortcut`: see `telemetron.http.Shortcut`. uvicorn's call of
an application costs a task, an event and two messages, which is most of the time of a small answer.
A repeated head is not even parsed again: a client that polls sends the same bytes each time.
"""

from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from telemetron.http import Answer, Scope, Shortcut

MAX_BODY = 64 * 1024
MAX_HEADS = 4096
MAX_HEAD_BYTES = 1024
_END = b"\r\n\r\n"

Fields = list[tuple[bytes, bytes]]


class Known:
    """What follows from the bytes of a head: it was parsed once.

    Not a named tuple, whose attributes take three times as long.
    """

    __slots__ = "length", "shortcut"

    def __init__(self, shortcut: Shortcut, length: int) -> None:
        self.shortcut = shortcut
        self.length = length
        """Of the body."""


class Shortcuts:
    """The shortcuts of one application, by the bytes of the heads that were answered by them."""

    def __init__(self, app: Any) -> None:
        """Use the shortcuts of `app`; None: use none."""
        self._offer = getattr(app, "shortcut", None)
        self._heads: dict[bytes, Known] = {}

    def find(self, scope: Scope) -> Known | None:
        """Return what to do with a request, or None to call the application."""
        if self._offer is None:
            return None
        length = _body_length(scope)
        if length is None:
            return None
        # Without the connection, which the shortcut would keep alive.
        shortcut = self._offer({**scope, "state": {}})
        if shortcut and scope["method"] == "HEAD":
            shortcut = _without_body(shortcut)
        return shortcut and Known(shortcut, length)

    def remember(self, data: bytes, known: Known) -> None:
        """Remember the head of a request that arrived as `data`, without others."""
        at = data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)
        if len(data) - at != known.length:
            return
        if len(self._heads) >= MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[data[:at]] = known

    def answer(self, data: bytes) -> Answer | None:
        """Answer `data` if it is exactly one request with a known head."""
        if data.endswith(_END) and (known := self._heads.get(data)) and not known.length:
            return known.shortcut(b"")
        at = data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)
        known = self._heads.get(data[:at])
        if known and len(data) - at == known.length:
            return known.shortcut(data[at:])
        return None


def encoded(answer: Answer, fields: Fields) -> bytes:
    """Return the answer as uvicorn would send it; `fields` are the server's own."""
    if answer.encoded_with is not fields:  # uvicorn makes a new list when the date changes
        head = b"".join([b"%s: %s\r\n" % field for field in fields])
        answer.encoded = b"".join((STATUS_LINE[answer.status], head, answer.head, answer.body))
        answer.encoded_with = fields
    return answer.encoded


def _without_body(shortcut: Shortcut) -> Shortcut:
    def answered(body: bytes) -> Answer | None:
        answer = shortcut(body)
        return answer and answer.without_body

    return answered


def _body_length(scope: Scope) -> int | None:
    """Return the length of the body; None if the application must be called."""
    fields: Mapping[bytes, bytes] = dict(scope["headers"])
    if b"transfer-encoding" in fields or b"upgrade" in fields or scope["http_version"] != "1.1":
        return None
    length = int(fields.get(b"content-length", 0))
    # The application may answer a GET before its body arrives.
    largest = 0 if scope["method"] in ("GET", "HEAD") else MAX_BODY
    return length if length <= largest else None
