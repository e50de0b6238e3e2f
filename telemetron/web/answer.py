"""Answers: what a view of a snapshot is to HTTP, made once a revision."""

import asyncio
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from telemetron.history.place import Place
from telemetron.store.rope import glued
from telemetron.store.snapshot import Snapshot
from telemetron.web.waiters import View

MIN_GZIP_BYTES = 1024

_COMMON = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-cache"),
    (b"vary", b"Accept-Encoding"),
]


class Answer:
    """One document, whole: its chunks, and the messages that send it."""

    def __init__(self, chunks: tuple[bytes, ...], etag: bytes, encoding: bytes | None) -> None:
        self.chunks = chunks
        self.etag = etag
        size = sum(map(len, chunks))
        headers = [*_COMMON, (b"etag", etag), (b"content-length", b"%d" % size)]
        if encoding:
            headers.append((b"content-encoding", encoding))
        self.start = {"type": "http.response.start", "status": 200, "headers": headers}
        self.only = {"type": "http.response.body", "body": chunks[0]} if len(chunks) == 1 else None


class Answers:
    """The answers of the present snapshot; those of an older one are dropped with it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._plain: dict[View, Answer] = {}
        self._gzip: dict[View, asyncio.Future[Answer]] = {}

    def plain(self, view: View) -> Answer:
        """The view as it is; it must exist."""
        found = self._plain.get(view)
        if found is None:
            found = Answer(self.snapshot.chunks(*view), etag(self.snapshot, view), None)
            if view.key is None:  # as many as there are sets of sections
                self._plain[view] = found
        return found

    async def gzip(self, view: View) -> Answer:
        """The view compressed, off the event loop, once a revision whoever asks."""
        plain = self.plain(view)
        if sum(map(len, plain.chunks)) < MIN_GZIP_BYTES:
            return plain
        future = self._gzip.get(view)
        if future is None:
            future = asyncio.ensure_future(_compressed(plain))
            if view.key is None:
                self._gzip[view] = future
        return await asyncio.shield(future)


def etag(snapshot: Snapshot, view: View) -> bytes:
    """The place of what is shown, as an ETag; the view must exist."""
    change = snapshot.change_of(*view)
    place = Place(snapshot.epoch, change.revision if change else 0, snapshot.step)
    return b'W/"%s"' % str(place).encode()


async def _compressed(plain: Answer) -> Answer:
    body = await asyncio.to_thread(_gzip, plain.chunks)
    return Answer(body, plain.etag, b"gzip")


def _gzip(chunks: Iterable[bytes]) -> tuple[bytes, ...]:
    compressor = zlib.compressobj(level=1, wbits=31)
    return glued([*map(compressor.compress, chunks), compressor.flush()])


@lru_cache(maxsize=64)
def accepts_gzip(header: bytes) -> bool:
    """Whether an `Accept-Encoding` takes gzip (RFC 9110, 12.5.3)."""
    quality: dict[bytes, float] = {}
    for item in header.lower().split(b","):
        name, _, parameters = item.strip().partition(b";")
        _, _, q = parameters.replace(b" ", b"").partition(b"q=")
        try:
            quality[name.strip()] = float(q) if q else 1.0
        except ValueError:
            quality[name.strip()] = 0.0
    return quality.get(b"gzip", quality.get(b"*", 0.0)) > 0


def matches(header: bytes, etag: bytes) -> bool:
    """Whether `If-None-Match` names this ETag, by weak comparison (RFC 9110, 8.8.3.2)."""
    if header == etag:
        return True
    known = [item.strip().removeprefix(b"W/") for item in header.split(b",")]
    return etag[2:] in known or b"*" in known


def not_modified(etag: bytes) -> Any:
    """The start of a 304."""
    headers = [(b"etag", etag), (b"cache-control", b"no-cache"), (b"vary", b"Accept-Encoding")]
    return {"type": "http.response.start", "status": 304, "headers": headers}
