"""HTTP connections that no slow, stalled or endless client can turn against the server.

What a reader has not taken yet costs memory: the kernel's send buffer, and the chunks of its answer
that the published document has replaced since. `Readers` keeps the sum of both within a bound by
cutting those whose answers are the oldest. A reader that takes nothing at all is cut by the kernel
(TCP_USER_TIMEOUT, set on the listening socket), a request that does not end by `Readers.tick`.
"""

import asyncio
import fcntl
import logging
import socket
import struct
import sys
import termios
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from telemetron.http import TITLES, HttpProblem

SEND_BUFFER = 256 * 1024
"""SO_SNDBUF of every connection, bytes. The least that was measured to cost no throughput at 400 KB
over loopback; the kernel doubles it."""

_KERNEL_BYTES = 2 * SEND_BUFFER + 64 * 1024  # what it keeps at most: it ends with a whole segment
_TLS_BYTES = 256 * 1024  # a chunk, encrypted, where the transport does not show it
_HEADER_BYTES = 64 * 1024
_PIPELINED = 100
_LOG_SECONDS = 60.0
_DROP_UNSENT = struct.pack("ii", 1, 0)  # struct linger: on, for 0 seconds
_INVALID = HttpProblem(400, "this is not HTTP/1.1; nothing of it was answered")
_URL_TOO_LARGE = HttpProblem(414, "the request line has more than 64 KiB", limit=_HEADER_BYTES)
_HEADER_TOO_LARGE = HttpProblem(
    431, "the headers have more than 64 KiB; send fewer, or shorter ones", limit=_HEADER_BYTES
)
_REASONS = {
    "memory": "readers held back too much memory",
    "stalled": "a reader took nothing for too long",
    "unfinished": "a request did not end in time",
    "pipelined": f"a client sent more than {_PIPELINED} requests ahead of their answers",
}

logger = logging.getLogger("telemetron")


class Connection(HttpToolsProtocol):
    """One client's connection; a handler finds it as `scope["state"]["connection"]`."""

    def __init__(self, readers: "Readers", *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.readers = readers
        self.fd = -1
        self.header_of: object = None  # the request whose header comes in pieces, and how long
        self.header_bytes = 0
        self.unended = 0  # bytes since the end of the last header, or more
        self.refusal = _INVALID  # what the parser raises is answered with
        self.watched: object = None  # the request seen unfinished, and since when
        self.watched_since = 0.0

    @contextmanager
    def hold(self, chunks: Sequence[bytes]) -> Iterator[None]:
        """Account for an answer of several chunks, the same tuple for all who read the same bytes.

        To be entered before the answer starts: even that may have to wait for the reader. An
        answer of one chunk is accounted for without it.
        """
        self.readers.holding[self] = chunks
        try:
            yield
        finally:
            self.readers.holding.pop(self, None)

    async def share(self, chunks: Sequence[bytes]) -> None:
        """Send chunks of the transfer coding as they are, until the reader has taken them.

        The server would copy them for each reader, to put the chunk's length before it.
        """
        with self.hold(chunks):
            for chunk in chunks:
                if not self.transport.is_closing():
                    self.transport.write(chunk)
                    await self.flow.drain()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.fd = transport.get_extra_info("socket").fileno()
        # Wait for the reader as soon as the kernel takes no more.
        transport.set_write_buffer_limits(high=4096, low=0)
        # Each request's scope["state"] is a copy of this dict: so the connection gets there.
        self.app_state = {**self.app_state, "connection": self}

    def data_received(self, data: bytes) -> None:
        self.unended += len(data)
        super().data_received(data)
        if self.in_header():
            self._limit_header(len(data))
        else:
            self.unended = 0
        if len(self.pipeline) > _PIPELINED:
            self.readers.drop(self, "pipelined")

    def _limit_header(self, size: int) -> None:
        if self.header_of is not self.scope:  # what came before it in the same data is not counted
            self.header_of, self.header_bytes = self.scope, 0
            return
        self.header_bytes += size
        if self.header_bytes > _HEADER_BYTES:
            self._refuse(_URL_TOO_LARGE if len(self.url) > _HEADER_BYTES else _HEADER_TOO_LARGE)

    def on_headers_complete(self) -> None:
        if self.unended > _HEADER_BYTES:
            self._require_small()
        super().on_headers_complete()

    def _require_small(self) -> None:
        """What is raised here the parser raises, and `send_400_response` is called."""
        if len(self.url) > _HEADER_BYTES:
            self.refusal = _URL_TOO_LARGE
            raise ValueError
        size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.url) + size > _HEADER_BYTES:
            self.refusal = _HEADER_TOO_LARGE
            raise ValueError

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser did not take."""
        self._refuse(self.refusal)

    def _refuse(self, problem: HttpProblem) -> None:
        """Answer and close; in the middle of another answer only close."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            status = f"HTTP/1.1 {problem.status} {TITLES[problem.status]}\r\n"
            headers = "content-type: application/problem+json\r\nconnection: close\r\n"
            body = problem.body()
            length = f"content-length: {len(body)}\r\n\r\n"
            self.transport.write((status + headers + length).encode() + body)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.readers.buffers.pop(self, None)
        if isinstance(exc, TimeoutError):
            self.readers.count("stalled")
        # Each of these leads back here: let go, so that nothing waits for the garbage collector.
        self.app_state = {}
        self.cycle = self.scope = self.header_of = self.watched = None  # type: ignore[assignment]

    def in_header(self) -> bool:
        """Whether the next request's header has begun and not ended, or nothing was ever sent."""
        return self.cycle is None or self.cycle.scope is not self.scope

    def unfinished(self) -> bool:
        """Whether the server waits for the rest of a request."""
        if self.in_header():
            waits = True
        elif self.cycle.response_complete:  # answered early: what still comes is thrown away
            waits = self.timeout_keep_alive_task is None
        else:
            waits = self.cycle.more_body
        return waits and not self.transport.is_closing()

    def overdue(self, now: float, seconds: float) -> bool:
        """Whether the same request has been unfinished at every look for so long."""
        if not self.unfinished():
            self.watched = None
            return False
        request = self.scope or self  # each request has a scope of its own
        if self.watched is not request:
            self.watched, self.watched_since = request, now
        return now - self.watched_since >= seconds

    def unsent(self) -> int:
        """Bytes that are kept for this reader alone, in the kernel and in the transport."""
        if self not in self.connections:
            return 0  # closed: the descriptor may be another connection's by now
        size = min(self._queued() * 3 // 2, _KERNEL_BYTES)  # its bookkeeping takes up to 40 %
        secure = self.scheme == "https"
        if secure and self.flow.write_paused:
            size += _TLS_BYTES
        if secure or self not in self.readers.holding:
            size += self.transport.get_write_buffer_size()
        return size

    def _queued(self) -> int:
        try:
            queued = fcntl.ioctl(self.fd, termios.TIOCOUTQ, bytes(4))
        except OSError:  # not Linux
            return _KERNEL_BYTES if self.flow.write_paused else 0
        return int.from_bytes(queued, sys.byteorder)

    def cut(self) -> None:
        """Close at once; the kernel drops what the client has not taken."""
        if sock := self.transport.get_extra_info("socket"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_UNSENT)
        self.transport.abort()


def transfer_chunk(data: bytes) -> bytes:
    """A chunk of the transfer coding (RFC 9112, 7.1)."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Readers:
    """What all readers hold back together, and its bound.

    `limit` is in bytes, kernel buffers included; the default keeps what the process takes for them
    within 128 MB, although the allocator gives back late. `stall_seconds`: a reader that takes
    nothing for so long is cut; `request_seconds`: so is a request that has not ended by then.
    `cut` counts the connections that were cut, by reason; `held_back` is the last known sum, bytes.
    """

    def __init__(
        self,
        limit: int = 112 * 1024 * 1024,
        stall_seconds: float = 30.0,
        request_seconds: float = 30.0,
    ) -> None:
        self.limit = limit
        self.stall_seconds = stall_seconds
        self.request_seconds = request_seconds
        self.cut = dict.fromkeys(_REASONS, 0)
        self.held_back = 0
        self.connections: set[Any] = set()  # the server's own, once it runs
        self.holding: dict[Connection, Sequence[bytes]] = {}  # the oldest answer first
        self.buffers: dict[Connection, int] = {}  # bytes unsent to others when last looked at
        self._unseen: list[Connection] = []
        self._logged = dict.fromkeys(_REASONS, (-_LOG_SECONDS, 0))  # when, and how many by then

    def tick(self) -> None:
        """Look after the connections; to be called ten times a second."""
        if not self._unseen:
            self._unseen = list(self.connections)
        # Ten thousand at once would hold up the others: so all within a sixth of request_seconds.
        some = -(-len(self.connections) * 6 // max(round(self.request_seconds * 10), 1))
        for connection in self._unseen[-some:]:
            self._look_at(connection)
        del self._unseen[-some:]
        self._check()

    def _look_at(self, connection: Connection) -> None:
        self.buffers.pop(connection, None)
        if connection.overdue(time.monotonic(), self.request_seconds):
            self.drop(connection, "unfinished")
        elif connection not in self.holding and (size := connection.unsent()):
            self.buffers[connection] = size

    def _check(self) -> None:
        """Cut readers while they hold back too much.

        The oldest answers go first, then the largest buffers, until an eighth of the limit is free.
        The newest answer's chunks are not counted: they are taken for the document's own.
        """
        buffers = self.buffers | {connection: connection.unsent() for connection in self.holding}
        newest = set(map(id, next(reversed(self.holding.values()), ())))
        sharers = Counter(map(id, chain.from_iterable(self.holding.values())))
        old = {id(chunk): len(chunk) for chunks in self.holding.values() for chunk in chunks}
        for key in newest:
            del old[key]
        self.held_back = sum(buffers.values()) + sum(old.values())
        if self.held_back > self.limit:
            self._cut_oldest(buffers, sharers, old)

    def _cut_oldest(
        self, buffers: dict[Connection, int], sharers: Counter[int], old: dict[int, int]
    ) -> None:
        others = sorted(self.buffers, key=self.buffers.__getitem__, reverse=True)
        for connection in [*self.holding, *others]:
            if self.held_back <= self.limit * 7 // 8:
                break
            chunks = set(map(id, self.holding.get(connection, ())))
            sharers.subtract(chunks)
            freed = sum(old.get(key, 0) for key in chunks if not sharers[key])
            self.held_back -= buffers[connection] + freed
            self.drop(connection, "memory")

    def drop(self, connection: Connection, reason: str) -> None:
        """Cut the connection for one of the reasons that `cut` counts."""
        self.holding.pop(connection, None)
        self.buffers.pop(connection, None)
        if connection in self.connections:
            connection.cut()
            self.count(reason)

    def count(self, reason: str) -> None:
        """Count a connection that was cut, and say so, once a minute at most."""
        self.cut[reason] += 1
        now = time.monotonic()
        at, before = self._logged[reason]
        if now - at >= _LOG_SECONDS:
            logger.warning("connections cut: %d (%s)", self.cut[reason] - before, _REASONS[reason])
            self._logged[reason] = now, self.cut[reason]
