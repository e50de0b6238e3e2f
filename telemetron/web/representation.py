"""Representations: a view of a snapshot as HTTP sends it, made once for each revision."""

import asyncio
import zlib
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from telemetron.history.place import Place
from telemetron.http import Answer
from telemetron.store.rope import glued
from telemetron.store.snapshot import Snapshot
from telemetron.web.waiters import View

MIN_GZIP_BYTES = 1024
MAX_ANSWERS = 4096

_COMMON = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-cache"),
    (b"vary", b"Accept-Encoding"),
]


class Representation:
    """One whole document: its chunks, and the ASGI messages that send it."""

    def __init__(self, chunks: tuple[bytes, ...], etag: bytes, encoding: bytes | None) -> None:
        self.chunks = chunks
        self.etag = etag
        size = sum(map(len, chunks))
        self._fields = headers = [*_COMMON, (b"etag", etag), (b"content-length", b"%d" % size)]
        if encoding:
            headers.append((b"content-encoding", encoding))
        self.start = {"type": "http.response.start", "status": 200, "headers": headers}
        self.only = {"type": "http.response.body", "body": chunks[0]} if len(chunks) == 1 else None
        """The single message of the body; None if there are several chunks."""

    @cached_property
    def answer(self) -> Answer | None:
        """The document as one answer; None if there are several chunks."""
        return Answer(200, self._fields, self.chunks[0]) if self.only else None

    @cached_property
    def unchanged(self) -> Answer:
        """The answer to a client that has the document already."""
        return Answer(304, not_modified(self.etag)["headers"])


class Wanted:
    """A request for the current state; the same object stands for the same request."""

    def __init__(self, view: View, condition: bytes, *, gzip: bool) -> None:
        self.view = view
        self.condition = condition
        self.gzip = gzip


class Representations:
    """The representations of one snapshot. Those of sections are kept, those of entities are not.

    There are as many as clients name entities, but only one for each set of sections.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._plain: dict[View, Representation] = {}
        self._gzip: dict[View, asyncio.Future[Representation]] = {}
        self._answers: dict[Wanted, Answer] = {}

    def plain(self, view: View) -> Representation:
        """Return the uncompressed view. Raises KeyError if it does not exist."""
        found = self._plain.get(view)
        if found is None:
            found = Representation(self.snapshot.chunks(*view), etag(self.snapshot, view), None)
            if view.key is None:
                self._plain[view] = found
        return found

    def answer(self, wanted: "Wanted") -> Answer | None:
        """Return the answer to a request, if it needs nothing that is not made yet."""
        answer = self._answers.get(wanted)
        if answer is None and (answer := self._find(wanted)):
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.clear()
            self._answers[wanted] = answer
        return answer

    def _find(self, wanted: "Wanted") -> Answer | None:
        plain = self._plain.get(wanted.view)
        if plain and wanted.condition and matches(wanted.condition, plain.etag):
            return plain.unchanged
        chosen = self.ready(wanted.view, gzip=True) if wanted.gzip else plain
        return chosen.answer if chosen else None

    def ready(self, view: View, *, gzip: bool) -> Representation | None:
        """Return the representation that the client accepts, if it has been made already."""
        plain = self._plain.get(view)
        if not gzip or plain is None or _is_small(plain):
            return plain
        future = self._gzip.get(view)
        done = future is not None and future.done() and not future.cancelled()
        return future.result() if future and done and not future.exception() else None

    async def gzip(self, view: View) -> Representation:
        """Return the view compressed, or plain if it is small.

        A thread compresses it, once for all clients that ask for the same sections.
        """
        plain = self.plain(view)
        if _is_small(plain):
            return plain
        future = self._gzip.get(view)
        if future is None:
            future = asyncio.ensure_future(_compressed(plain))
            if view.key is None:
                self._gzip[view] = future
        return await asyncio.shield(future)


def etag(snapshot: Snapshot, view: View) -> bytes:
    """Return the place of the view's last change, as an ETag. The view must exist."""
    change = snapshot.change_of(*view)
    place = Place(snapshot.epoch, change.revision if change else 0, snapshot.step)
    return b'W/"%s"' % str(place).encode()


def _is_small(plain: Representation) -> bool:
    return sum(map(len, plain.chunks)) < MIN_GZIP_BYTES


async def _compressed(plain: Representation) -> Representation:
    body = await asyncio.to_thread(_gzip, plain.chunks)
    return Representation(body, plain.etag, b"gzip")


def _gzip(chunks: Iterable[bytes]) -> tuple[bytes, ...]:
    compressor = zlib.compressobj(level=1, wbits=31)
    return glued([*map(compressor.compress, chunks), compressor.flush()])


def matches(header: bytes, etag: bytes) -> bool:
    """Whether `If-None-Match` names this ETag, by weak comparison (RFC 9110, 8.8.3.2)."""
    if header == etag:
        return True
    known = [item.strip().removeprefix(b"W/") for item in header.split(b",")]
    return etag[2:] in known or b"*" in known


def not_modified(etag: bytes) -> Any:
    """Return the message that begins a 304."""
    headers = [(b"etag", etag), (b"cache-control", b"no-cache"), (b"vary", b"Accept-Encoding")]
    return {"type": "http.response.start", "status": 304, "headers": headers}
