"""Slow, stalled and endless clients against a real server; the clients use plain sockets."""

import asyncio
import inspect
import json
import re
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.lifespan.on import LifespanOn as Lifespan
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from telemetron.web.server.connection import Readers, unsent_in_kernel
from telemetron.web.server.server import running

MIB = 1024 * 1024
CHUNK = MIB // 4
DEADLINE = 50.0
"""Seconds after which a test gives up."""


class Document:
    """An ASGI application: a document of several chunks that a test changes at will."""

    def __init__(self, chunks: int) -> None:
        self.revisions = count(1)
        self.chunks: tuple[bytes, ...] = (b"",) * chunks
        self.change(*range(chunks))

    def change(self, *places: int) -> None:
        """Replace these chunks, as a revision does."""
        chunks = list(self.chunks)
        for place in places:
            chunks[place] = (b"%07d " % next(self.revisions)) * (CHUNK // 8)
        self.chunks = tuple(chunks)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["method"] == "POST":
            await self._echo(receive, send)
        elif scope["path"] == "/wait":
            await asyncio.sleep(float(scope["query_string"]))
            await answer(send, b"waited")
        elif scope["path"] == "/state":
            await self._state(scope, send)
        else:
            await answer(send, scope["path"].encode())

    async def _state(self, scope: Any, send: Any) -> None:
        chunks = self.chunks
        with scope["state"]["connection"].hold(chunks):
            await start(send, sum(map(len, chunks)))
            for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})

    async def _echo(self, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"] and body != b"enough"
        await answer(send, body)


async def lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def start(send: Any, length: int) -> None:
    headers = [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def answer(send: Any, body: bytes) -> None:
    await start(send, len(body))
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(app: Any, readers: Readers, **options: Any) -> Iterator[int]:
    """Serve in a thread, on uvloop as in production; yield the port."""
    ready: Future[tuple[str, Callable[[], object]]] = Future()

    async def main() -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        async with running(app, readers=readers, **options) as url:
            ready.set_result((url, partial(loop.call_soon_threadsafe, stopped.set)))
            await stopped.wait()

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(uvloop.run, main())
        url, stop = ready.result(DEADLINE)
        try:
            yield int(url.rpartition(":")[2])
        finally:
            stop()
            done.result(DEADLINE)


def connect(port: int, request: bytes = b"", receive_buffer: int = 0) -> socket.socket:
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(DEADLINE)
    sock.connect(("127.0.0.1", port))
    sock.sendall(request)
    return sock


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


def stalled(port: int) -> socket.socket:
    """Request the document and read nothing; only the small receive buffer fills."""
    sock = connect(port, get("/state"), receive_buffer=4096)
    sock.recv(1, socket.MSG_PEEK)
    return sock


def read_answer(sock: socket.socket) -> bytes:
    """Return the body of one answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1) or refuse(EOFError("closed"))
    length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
    body = bytearray()
    while len(body) < length:
        body += sock.recv(length - len(body)) or refuse(EOFError("closed"))
    return bytes(body)


def refuse(error: Exception) -> bytes:
    raise error


def read_to_end(sock: socket.socket) -> bytes:
    """Return all bytes until the server closes or resets the connection."""
    data = b""
    with suppress(ConnectionResetError):
        while some := sock.recv(CHUNK):
            data += some
    return data


def is_reset(sock: socket.socket, timeout: float = 0) -> bool:
    """Whether the server has reset the connection; sent bytes may still be unread."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(timeout * 1000))


def eventually(true: Callable[[], object]) -> None:
    until = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Closes the sockets that a test enters into it."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    files = {"ssl_certfile": str(folder / "cert.pem"), "ssl_keyfile": str(folder / "key.pem")}
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    arguments = ["-out", files["ssl_certfile"], "-keyout", files["ssl_keyfile"]]
    subprocess.run([*command.split(), *arguments], check=True, capture_output=True)
    return files


CONNECTION = (
    "app_state connections cycle flow headers pipeline scheme scope timeout_keep_alive_task"
    " transport url connection_lost connection_made data_received on_headers_complete"
    " send_400_response shutdown _unset_keepalive_if_required _start_asgi_task app loop"
    " on_response_complete server_state timeout_keep_alive timeout_keep_alive_handler"
)
USED = {
    HttpToolsProtocol: CONNECTION,
    RequestResponseCycle: "body keep_alive more_body response_complete response_started scope"
    " waiting_for_100_continue",
    FlowControl: "drain write_paused",
    Lifespan: "shutdown startup state",
    uvicorn.Server: "capture_signals force_exit lifespan on_tick serve servers server_state"
    " should_exit shutdown startup",
    uvicorn.Config: "is_ssl load loaded_app",
}


@pytest.mark.parametrize("base", USED, ids=lambda base: base.__name__)
def test_uvicorn_has_the_attributes_that_the_server_uses(base: type) -> None:
    source = inspect.getsource(base)
    for name in USED[base].split():
        assert re.search(rf"\b(self\.|def ){name}\b", source), (
            f"uvicorn {uvicorn.__version__}: {base.__name__} has no {name};"
            " adapt telemetron/web/server and the upper bound in pyproject.toml"
        )


def test_a_client_that_reads_nothing_is_cut(clients: ExitStack, logged: list[str]) -> None:
    document, readers = Document(chunks=8), Readers(stall_seconds=0.5)
    with served(document, readers) as port:
        began = time.monotonic()
        reader = clients.enter_context(stalled(port))
        eventually(lambda: readers.cut["stalled"] and not readers.holding)
        assert time.monotonic() - began >= 0.5
        assert len(read_to_end(reader)) < len(document.body)
        assert read_answer(clients.enter_context(connect(port, get("/state")))) == document.body
    message = "connections cut: 1 (a client read nothing for too long)"
    (line,) = [line for line in logged if line.startswith("WARNING")]
    assert line == f"WARNING telemetron.web.server.connection: {message}\n"


def test_a_slow_client_that_keeps_reading_is_not_cut(clients: ExitStack) -> None:
    document, readers = Document(chunks=4), Readers(stall_seconds=1)
    with served(document, readers) as port:
        reader = clients.enter_context(stalled(port))
        taken = b""
        began = time.monotonic()
        while time.monotonic() - began < 2.5:  # much longer than it may stall
            taken += reader.recv(4096)
            time.sleep(0.02)
        assert len(taken) < len(document.body)  # it was slow
        while not taken.endswith(document.body):
            taken += reader.recv(CHUNK) or refuse(EOFError("closed"))
        assert not any(readers.cut.values())


def test_unread_answers_are_bounded_and_the_oldest_are_cut_first(
    clients: ExitStack,
) -> None:
    document, readers = Document(chunks=8), Readers(limit=16 * MIB)

    def old() -> int:
        held = {chunk for chunks in list(readers.holding.values()) for chunk in chunks}
        return sum(map(len, held - {*document.chunks}))

    with served(document, readers) as port:
        slow = []
        for _ in range(12):  # 2 MB each, of a revision of its own
            document.change(*range(8))
            slow.append(clients.enter_context(stalled(port)))
        eventually(lambda: readers.cut["memory"] and old() < readers.limit)
        eventually(lambda: sum(map(is_reset, slow)) == readers.cut["memory"])
        gone = [is_reset(sock) for sock in slow]
        assert gone == sorted(gone, reverse=True)
        assert {*gone} == {True, False}
        assert old() > readers.limit // 2
        assert readers.held_back <= readers.limit
        assert read_answer(slow[-1]) == document.body


def test_chunks_that_readers_share_count_once(clients: ExitStack) -> None:
    document, readers = Document(chunks=16), Readers(limit=12 * MIB)
    with served(document, readers) as port:
        slow = []
        for place in range(12):  # 4 MB each, and all but one chunk the same
            slow.append(clients.enter_context(stalled(port)))
            document.change(place)
        eventually(lambda: readers.held_back >= 11 * CHUNK)
        assert sum(len(chunks) for chunks in readers.holding.values()) * CHUNK == 48 * MIB
        assert not any(readers.cut.values())
        for sock in slow:
            read_answer(sock)


def test_small_unread_answers_count_too(clients: ExitStack) -> None:
    readers = Readers(limit=MIB)
    with served(Document(chunks=1), readers) as port:
        slow = [
            clients.enter_context(connect(port, get("/" + 30_000 * "x"), receive_buffer=4096))
            for _ in range(40)
        ]
        eventually(lambda: readers.cut["memory"] and readers.held_back <= readers.limit)
        eventually(lambda: sum(map(is_reset, slow)) == readers.cut["memory"])
        assert readers.cut["memory"] < len(slow)


def test_a_file_has_no_unsent_bytes_in_the_kernel(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert unsent_in_kernel(file.fileno()) is None


def test_the_bound_holds_if_the_kernel_does_not_say_what_is_unsent(clients: ExitStack) -> None:
    document, readers = Document(chunks=8), Readers(limit=MIB, queued=lambda _: None)
    with served(document, readers) as port:
        slow = [clients.enter_context(stalled(port)) for _ in range(8)]
        eventually(lambda: readers.cut["memory"])
        assert is_reset(slow[0], DEADLINE)
        assert read_answer(clients.enter_context(connect(port, get("/state")))) == document.body


def test_a_disconnect_releases_the_chunks() -> None:
    readers = Readers()
    with served(Document(chunks=8), readers) as port:
        with stalled(port):
            eventually(lambda: readers.holding)
        eventually(lambda: not readers.holding)
        eventually(lambda: not readers.connections)
        assert not any(readers.cut.values())


@pytest.mark.parametrize(
    ("reason", "readers"),
    [("memory", Readers(limit=8 * MIB)), ("stalled", Readers(stall_seconds=0.5))],
)
def test_clients_over_tls_are_cut_too(
    clients: ExitStack, certificate: dict[str, str], reason: str, readers: Readers
) -> None:
    document = Document(chunks=16)
    context = ssl.create_default_context(cafile=certificate["ssl_certfile"])
    with served(document, readers, **certificate) as port:
        for _ in range(4):
            document.change(*range(16))
            sock = connect(port, receive_buffer=4096)
            slow = clients.enter_context(context.wrap_socket(sock, server_hostname="localhost"))
            slow.sendall(get("/state"))
        eventually(lambda: readers.cut[reason])
        with context.wrap_socket(connect(port), server_hostname="localhost") as sock:
            sock.sendall(get("/state"))
            assert read_answer(sock) == document.body
        assert sum(readers.cut.values()) == readers.cut[reason]


def test_requests_that_do_not_end_are_cut(clients: ExitStack) -> None:
    header, body = (
        b"GET /state HTTP/1.1\r\nHost",
        b"POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\n",
    )
    readers = Readers(request_seconds=0.5)
    with served(Document(chunks=1), readers) as port:
        silent = [clients.enter_context(connect(port, each)) for each in (b"", header, body)]
        # Its answer does not wait for the rest of the body; the connection still does.
        answered = clients.enter_context(connect(port, body + b"enough"))
        assert read_answer(answered) == b"enough"
        trickling = [clients.enter_context(connect(port, each)) for each in (header, body)]
        left = {*trickling, answered}
        while left:
            left = {client for client in left if not is_reset(client)}
            for client in left:
                with suppress(ConnectionError):
                    client.sendall(b"x")
            time.sleep(0.02)
        assert [read_to_end(client) for client in silent + trickling] == [b""] * 5
        eventually(lambda: not readers.connections)
        assert readers.cut["unfinished"] == 6


def test_requests_that_end_in_time_are_not_cut(clients: ExitStack) -> None:
    readers = Readers(request_seconds=1.5)
    with served(Document(chunks=1), readers) as port:
        idle = clients.enter_context(connect(port, get("/first")))
        assert read_answer(idle) == b"/first"
        waiting = clients.enter_context(connect(port, get("/wait?3")))
        busy = clients.enter_context(connect(port))
        for _ in range(5):  # each look finds a request unfinished, never the same
            busy.sendall(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nso")
            time.sleep(0.6)
            busy.sendall(b"me")
            assert read_answer(busy) == b"some"
        assert read_answer(waiting) == b"waited"
        idle.sendall(get("/again"))
        assert read_answer(idle) == b"/again"
        assert not any(readers.cut.values())


def test_an_endless_header_is_refused(clients: ExitStack) -> None:
    with served(Document(chunks=1), Readers()) as port:
        client = clients.enter_context(connect(port, b"GET / HTTP/1.1\r\nX: "))
        with suppress(ConnectionError):
            while not is_reset(client):
                client.sendall(b"x" * 1000)
        assert read_to_end(client).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ([f"X: {70_000 * 'x'}"], 431),
        ([f"X: {100_000 * 'x'}"], 431),
        ([f"X-{n}: {1000 * 'x'}" for n in range(70)], 431),
        ([f"X: {60_000 * 'x'}"], 200),
    ],
)
def test_headers_of_more_than_64_kb_are_refused_however_they_arrive(
    clients: ExitStack, head: list[str], status: int
) -> None:
    with served(Document(chunks=1), Readers()) as port:
        for pieces in (1, 3):
            client = clients.enter_context(connect(port, b""))
            request = get("/", *head)
            size = -(-len(request) // pieces)
            with suppress(ConnectionError):
                for at in range(0, len(request), size):
                    client.sendall(request[at : at + size])
            if status == 200:
                assert read_answer(client) == b"/"
            else:
                answer = read_to_end(client)
                assert answer.startswith(b"HTTP/1.1 431 ")
                assert b"application/problem+json" in answer


def test_a_long_request_line_is_414(clients: ExitStack) -> None:
    with served(Document(chunks=1), Readers()) as port:
        client = clients.enter_context(connect(port, get("/" + 70_000 * "x")))
        assert read_to_end(client).startswith(b"HTTP/1.1 414 ")


def test_a_large_body_does_not_count_as_a_header(clients: ExitStack) -> None:
    with served(Document(chunks=1), Readers()) as port:
        body = 100_000 * b"x"
        request = get("/", f"Content-Length: {len(body)}") + body
        client = clients.enter_context(connect(port, request))
        assert read_answer(client) == b"/"


def test_bytes_that_are_not_http_get_a_problem(clients: ExitStack) -> None:
    with served(Document(chunks=1), Readers()) as port:
        client = clients.enter_context(connect(port, b"nonsense\r\n\r\n"))
        answer = read_to_end(client)
        assert answer.startswith(b"HTTP/1.1 400 Bad request\r\n")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400


def test_successive_long_headers_in_pieces_are_served(clients: ExitStack) -> None:
    with served(Document(chunks=1), Readers()) as port:
        client = clients.enter_context(connect(port, get("/first")))
        request = get("/long", "X: " + 60_000 * "x")
        for _ in range(4):
            client.sendall(request[:50_000])
            read_answer(client)  # the server has the first piece alone
            client.sendall(request[50_000:])
        assert read_answer(client) == b"/long"


def test_many_requests_may_arrive_in_any_pieces(clients: ExitStack) -> None:
    requests, piece = 40 * get("/some", "X: " + 5_000 * "x"), 7_000
    with served(Document(chunks=1), Readers()) as port:
        client = clients.enter_context(connect(port))
        answered = 0
        for at in range(0, len(requests), piece):  # almost each ends within a header
            client.sendall(requests[at : at + piece])
            while answered < min(at + piece, len(requests)) // (len(requests) // 40):
                assert read_answer(client) == b"/some"
                answered += 1
        assert answered == 40


def test_pipelined_requests_are_answered_in_order(clients: ExitStack) -> None:
    document = Document(chunks=3)
    with served(document, Readers()) as port:
        paths = ["/state", "/wait?0.1", "/a", "/state", "/b"]
        client = clients.enter_context(connect(port, b"".join(map(get, paths))))
        answers = [read_answer(client) for _ in paths]
        assert answers == [document.body, b"waited", b"/a", document.body, b"/b"]


def test_a_client_with_too_many_pipelined_requests_is_cut(clients: ExitStack) -> None:
    readers = Readers()
    with served(Document(chunks=1), readers) as port:
        client = clients.enter_context(connect(port, get("/wait?9") + 200 * get("/a")))
        assert is_reset(client, DEADLINE)
        assert readers.cut["pipelined"] == 1
