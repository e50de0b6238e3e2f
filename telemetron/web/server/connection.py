"""HTTP connections with bounds on slow, stalled and endless clients.

An answer that a client has not read yet costs memory: the kernel's send buffer, and the chunks that
newer revisions of the document have replaced since. `Readers` bounds the sum of both: it cuts the
connections with the oldest answers. The kernel closes a connection whose client reads nothing at
all (TCP_USER_TIMEOUT, set on the listening socket); `Readers.tick` cuts requests that do not end.
"""

import asyncio
import fcntl
import socket
import struct
import sys
import termios
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from loguru import logger
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from telemetron.http import PROBLEM_HEADERS, Answer, HttpProblem
from telemetron.web.server.shortcuts import Known, Shortcuts, encoded

SEND_BUFFER = 256 * 1024
"""SO_SNDBUF of every connection, bytes. The smallest size that cost no throughput when measured
with answers of 400 KB over loopback. The kernel doubles it."""

_KERNEL_BYTES = 2 * SEND_BUFFER + 64 * 1024  # the most it keeps: it completes its last segment
_TLS_BYTES = 256 * 1024  # an encrypted chunk, which the transport does not count
_HEADER_BYTES = 64 * 1024
_PIPELINED = 100
_LOG_SECONDS = 60.0
_DROP_UNSENT = struct.pack("ii", 1, 0)  # struct linger: on, for 0 seconds
_INVALID = HttpProblem(400, "this is not a valid HTTP/1.1 request")
_URL_TOO_LARGE = HttpProblem(414, "the request line exceeds 64 KiB", limit=_HEADER_BYTES)
_HEADER_TOO_LARGE = HttpProblem(
    431, "the headers exceed 64 KiB; send fewer or shorter headers", limit=_HEADER_BYTES
)
_REASONS = {
    "memory": "unread answers took too much memory",
    "stalled": "a client read nothing for too long",
    "unfinished": "a request did not end in time",
    "pipelined": f"a client sent more than {_PIPELINED} requests ahead of their answers",
}


def unsent_in_kernel(fd: int) -> int | None:
    """Return the unsent bytes in a socket's send buffer; None if the kernel does not say."""
    try:
        unsent = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
    except OSError:  # not Linux
        return None
    return int.from_bytes(unsent, sys.byteorder)


class ClientConnection(HttpToolsProtocol):
    """One client's connection. Applications find it in `scope["state"]["connection"]`."""

    def __init__(self, readers: "Readers", shortcuts: Shortcuts, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.readers = readers
        self.shortcuts = shortcuts
        self.feeding = False  # whether the parser runs
        self.unstarted: Any = None  # the cycle of a request that may need no ASGI call
        self.known: Known | None = None  # its shortcut, while its body arrives
        self.may_repeat = False  # whether the next data may be a repeated request
        self.answered_at = 0.0  # when a repeated request was answered
        self.fd = -1
        self.header_of: object = None  # the request whose header arrives in pieces
        self.header_bytes = 0  # of these pieces
        self.unended = 0  # bytes since the end of the last header, or more
        self.refusal = _INVALID  # the answer to an error that the parser raises
        self.watched: object = None  # the unfinished request that `overdue` found last
        self.watched_since = 0.0

    @contextmanager
    def hold(self, chunks: Sequence[bytes]) -> Iterator[None]:
        """Count an answer of several chunks towards the memory that readers hold.

        Pass the same tuple for the same bytes: shared chunks count once. Enter this context before
        the answer starts, because its first message may already have to wait for the client. An
        answer of one chunk needs no `hold`: the connection's own buffers count it.
        """
        self.readers.holding[self] = chunks
        try:
            yield
        finally:
            self.readers.holding.pop(self, None)

    async def share(self, chunks: Sequence[bytes]) -> None:
        """Write encoded chunks (`transfer_chunk`), and wait until the transport accepts more.

        `send` would copy each chunk for each client, to prefix it with its length.
        """
        with self.hold(chunks):
            for chunk in chunks:
                if not self.transport.is_closing():
                    self.transport.write(chunk)
                    await self.flow.drain()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.fd = transport.get_extra_info("socket").fileno()
        # Wait for the client as soon as the kernel's buffer is full.
        transport.set_write_buffer_limits(high=4096, low=0)
        # uvicorn copies this dict into scope["state"] of each request.
        self.app_state = {**self.app_state, "connection": self}

    def data_received(self, data: bytes) -> None:
        if self.may_repeat and self._answer_repeat(data):
            return
        self.may_repeat = False
        self.unended += len(data)
        is_first = self._is_between_requests()
        self.feeding = True
        super().data_received(data)
        self.feeding = False
        if self.unstarted:
            self._start(data if is_first else b"")
        if self.in_header():
            self._limit_header(len(data))
        else:
            self.unended = 0
        if len(self.pipeline) > _PIPELINED:
            self.readers.drop(self, "pipelined")

    # requests that need no ASGI call

    def _answer_repeat(self, data: bytes) -> bool:
        """Answer a request whose head is known, without parsing it; return whether it was known."""
        answer = self.shortcuts.answer(data)
        if answer is None:
            return False
        self._write(answer)
        self.answered_at = self.loop.time()
        return True

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Call the application; if the request has just been parsed, only after its data."""
        if self.feeding and not self.unstarted:
            self.unstarted = cycle
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, data: bytes) -> None:
        """Answer the unstarted request, wait for the rest of its body, or call the application.

        `data` is the whole request if it came in one piece and alone.
        """
        cycle = self.unstarted
        if self._may_skip_asgi(cycle):
            self.known = known = self.known or self.shortcuts.find(cycle.scope)
            if known and cycle.more_body:
                return
            if known and (answer := known.shortcut(bytes(cycle.body))):
                self.unstarted = self.known = None
                self._write(answer)
                cycle.response_started = cycle.response_complete = True
                self.on_response_complete()
                self.may_repeat = self._is_between_requests() and self._is_writable()
                self.shortcuts.remember(data, known)
                return
        self.unstarted = self.known = None
        super()._start_asgi_task(cycle, self.app)

    def _may_skip_asgi(self, cycle: Any) -> bool:
        is_last = cycle is self.cycle and cycle.scope is self.scope
        is_plain = cycle.keep_alive and not cycle.waiting_for_100_continue
        return is_last and is_plain and self._is_writable()

    def _is_writable(self) -> bool:
        return not (self.flow.write_paused or self.transport.is_closing())

    def _is_between_requests(self) -> bool:
        """Whether the last request arrived whole and was answered, and no other has begun."""
        cycle = self.cycle
        if cycle is None:
            return self.scope is None
        return cycle.response_complete and not cycle.more_body and cycle.scope is self.scope

    def _write(self, answer: Answer) -> None:
        self.transport.write(encoded(answer, self.server_state.default_headers))

    def pause_writing(self) -> None:
        self.may_repeat = False  # until the next request that is parsed
        super().pause_writing()

    def shutdown(self) -> None:
        self.may_repeat = False
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; repeated requests do not move the timer: it moves itself."""
        left = self.answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            again = self.timeout_keep_alive_handler
            self.timeout_keep_alive_task = self.loop.call_later(left, again)
        else:
            super().timeout_keep_alive_handler()

    # bounds

    def _limit_header(self, size: int) -> None:
        if self.header_of is not self.scope:
            # Other requests may have come before it in the same data: count from the next data on.
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
        """Make the parser fail if the header is too large; uvicorn calls `send_400_response`."""
        if len(self.url) > _HEADER_BYTES:
            self.refusal = _URL_TOO_LARGE
            raise ValueError
        size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.url) + size > _HEADER_BYTES:
            self.refusal = _HEADER_TOO_LARGE
            raise ValueError

    def send_400_response(self, msg: str) -> None:
        """Answer a request that the parser refused."""
        self._refuse(self.refusal)

    def _refuse(self, problem: HttpProblem) -> None:
        """Send the problem and close; during another answer, only close."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            body = problem.body()
            headers = {"connection": "close", "content-length": f"{len(body)}"} | PROBLEM_HEADERS
            lines = [f"HTTP/1.1 {problem.status} {problem.title}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self.readers.buffers.pop(self, None)
        if isinstance(exc, TimeoutError):
            self.readers.count("stalled")
        # These refer back to the connection: without them it is freed at once, not collected later.
        self.app_state = {}
        self.cycle = self.scope = self.header_of = self.watched = None  # type: ignore[assignment]
        self.unstarted = self.known = None

    def in_header(self) -> bool:
        """Whether a request's header has begun and not ended, or no request has begun yet."""
        return self.cycle is None or self.cycle.scope is not self.scope

    def unfinished(self) -> bool:
        """Whether the server waits for the rest of a request."""
        if self.in_header():
            waits = True
        elif self.cycle.response_complete:  # answered early: the rest of the body is dropped
            waits = self.timeout_keep_alive_task is None
        else:
            waits = self.cycle.more_body
        return waits and not self.transport.is_closing()

    def overdue(self, now: float, seconds: float) -> bool:
        """Whether every call in this time has found the same request unfinished."""
        if not self.unfinished():
            self.watched = None
            return False
        request = self.scope or self  # each request has a scope of its own
        if self.watched is not request:
            self.watched, self.watched_since = request, now
        return now - self.watched_since >= seconds

    def unsent(self) -> int:
        """Return the unsent bytes that only this connection keeps, in the kernel and transport."""
        if self not in self.connections:
            return 0  # closed: the file descriptor may belong to another connection by now
        size = min(self._queued() * 3 // 2, _KERNEL_BYTES)  # the kernel's overhead is up to 40 %
        secure = self.scheme == "https"
        if secure and self.flow.write_paused:
            size += _TLS_BYTES
        if secure or self not in self.readers.holding:
            size += self.transport.get_write_buffer_size()
        return size

    def _queued(self) -> int:
        queued = self.readers.queued(self.fd)
        if queued is None:
            return _KERNEL_BYTES if self.flow.write_paused else 0
        return queued

    def cut(self) -> None:
        """Close at once; the kernel drops all unsent bytes."""
        if sock := self.transport.get_extra_info("socket"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_UNSENT)
        self.transport.abort()


def transfer_chunk(data: bytes) -> bytes:
    """Encode a chunk for the chunked transfer coding (RFC 9112, 7.1)."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Readers:
    """All connections, and the bounds on the memory and the time that their clients take.

    `limit`: bytes of unread answers of all connections together, kernel buffers included. The
    default keeps the process within 128 MB for them, although the allocator returns memory late.
    `stall_seconds`: the time without reading after which a connection is cut. `request_seconds`:
    the time after which an unfinished request is cut. `queued` returns the unsent bytes in the
    kernel for a file descriptor.

    `cut` counts the connections that were cut, by reason. `held_back` is the last sum, in bytes.
    """

    def __init__(
        self,
        limit: int = 112 * 1024 * 1024,
        stall_seconds: float = 30.0,
        request_seconds: float = 30.0,
        queued: Callable[[int], int | None] = unsent_in_kernel,
    ) -> None:
        self.queued = queued
        self.limit = limit
        self.stall_seconds = stall_seconds
        self.request_seconds = request_seconds
        self.cut = dict.fromkeys(_REASONS, 0)
        self.held_back = 0
        self.connections: set[Any] = set()  # the server replaces it by its own set
        self.holding: dict[ClientConnection, Sequence[bytes]] = {}  # oldest answer first
        self.buffers: dict[ClientConnection, int] = {}  # unsent bytes of the others
        self._unseen: list[ClientConnection] = []
        self._logged = dict.fromkeys(_REASONS, (-_LOG_SECONDS, 0))  # time of the line, count then

    def tick(self) -> None:
        """Check some connections. Call this ten times a second."""
        if not self._unseen:
            self._unseen = list(self.connections)
        # Ten thousand at once would block the loop: check all within a sixth of request_seconds.
        some = -(-len(self.connections) * 6 // max(round(self.request_seconds * 10), 1))
        for connection in self._unseen[-some:]:
            self._check(connection)
        del self._unseen[-some:]
        self._bound_memory()

    def _check(self, connection: ClientConnection) -> None:
        self.buffers.pop(connection, None)
        if connection.overdue(time.monotonic(), self.request_seconds):
            self.drop(connection, "unfinished")
        elif connection not in self.holding and (size := connection.unsent()):
            self.buffers[connection] = size

    def _bound_memory(self) -> None:
        """Cut connections if their unread answers exceed the limit.

        The oldest answers go first, then the largest buffers, until an eighth of the limit is free.
        The chunks of the newest answer do not count, because the current document holds them too.
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
        self, buffers: dict[ClientConnection, int], sharers: Counter[int], old: dict[int, int]
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

    def drop(self, connection: ClientConnection, reason: str) -> None:
        """Cut the connection for one of the reasons in `cut`."""
        self.holding.pop(connection, None)
        self.buffers.pop(connection, None)
        if connection in self.connections:
            connection.cut()
            self.count(reason)

    def count(self, reason: str) -> None:
        """Count a connection that was cut; log at most one line a minute for each reason."""
        self.cut[reason] += 1
        now = time.monotonic()
        at, before = self._logged[reason]
        if now - at >= _LOG_SECONDS:
            logger.warning("connections cut: {} ({})", self.cut[reason] - before, _REASONS[reason])
            self._logged[reason] = now, self.cut[reason]
