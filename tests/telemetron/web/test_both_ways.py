"""The same bytes with and without shortcuts: one state, served by two servers."""

import asyncio
import gzip
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from telemetron.config.settings import load
from telemetron.service.service import Service
from telemetron.service.supervisor import SupervisorLimits
from telemetron.web.app import App, server_options
from telemetron.web.server.connection import Readers
from telemetron.web.server.server import HttpServer

READ, WRITE = "read-token-0123456789", "write-token-0123456789"
TLS = Path(__file__).parents[2] / "data" / "tls"
DEADLINE = 50.0
_DATE = re.compile(rb"date: [^\r]*\r\n")


class Second:
    """The application of another server, without that server's start and stop."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            return await self.app(scope, receive, send)
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})


class Counting(Second):
    """Counts the answers by shortcuts."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.short = 0

    def shortcut(self, scope: Any) -> Any:
        found = self.app.shortcut(scope)
        return found and (lambda body: self._counted(found(body)))

    def _counted(self, answer: Any) -> Any:
        self.short += answer is not None
        return answer


class Pair:
    """Two servers of one application; the first uses shortcuts, the second none."""

    def __init__(self, app: App, short: Counting, servers: list[HttpServer]) -> None:
        self.app = app
        self.short = short
        self.main, *self.servers = servers
        self.loop = asyncio.get_running_loop()
        secure = self.main.config.is_ssl
        self.context = ssl.create_default_context(cafile=TLS / "cert.pem") if secure else None

    def stop(self) -> None:
        """Stop all servers."""
        for server in (self.main, *self.servers):
            if not server.should_exit:
                server.stop()

    def connections(self) -> list[Any]:
        """Return all connections of both servers."""
        return [one for server in self.servers for one in server.server_state.connections]

    def begin_stop(self) -> None:
        """Begin to stop both servers."""
        for server in self.servers:
            server.stop()

    def connect(self) -> "tuple[Client, Client]":
        """Return a connection to each server."""
        ports = [int(server.url.rpartition(":")[2]) for server in self.servers]
        one, other = (Client(port, self.context, self.turn) for port in ports)
        return one, other

    def turn(self, function: Callable[[], Any] = lambda: None) -> Any:
        """Call a function on the event loop, after what has been sent was received."""
        done: Future[Any] = Future()
        self.loop.call_soon_threadsafe(
            self.loop.call_later, 0.001, lambda: done.set_result(function())
        )
        return done.result(DEADLINE)

    def same(
        self, *requests: bytes, cuts: Sequence[int] = (), close: bool = False, times: int = 1
    ) -> bytes:
        """Send the requests on new connections; return the bytes that both servers answer."""
        while True:
            before = self.turn(lambda: self.app.service.store.snapshot)
            answers = []
            for client in self.connect():
                with client:
                    several = [client.answers(requests, cuts, close=close) for _ in range(times)]
                    answers.append(b"".join(several))
            if self.turn(lambda: self.app.service.store.snapshot) is before:
                assert answers[0] == answers[1]
                return answers[0]


class Client:
    """A plain socket."""

    def __init__(self, port: int, context: ssl.SSLContext | None, turn: Callable[[], Any]) -> None:
        sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(sock, server_hostname="localhost") if context else sock
        self.turn = turn

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.sock.close()

    def send(self, data: bytes, cuts: Sequence[int] = ()) -> None:
        """Send the data in pieces that arrive one by one."""
        edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
        for start, end in pairwise(edges):
            self.sock.sendall(data[start:end])
            if end < len(data):
                self.turn()

    def answers(
        self, requests: Sequence[bytes], cuts: Sequence[int] = (), *, close: bool = False
    ) -> bytes:
        """Send the requests; return their answers, or all that comes, without dates."""
        self.send(b"".join(requests), cuts)
        if close:
            return _DATE.sub(b"", self.rest())
        return b"".join([self.answer(request) for request in requests])

    def answer(self, request: bytes) -> bytes:
        """Return one answer without its date."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.sock.recv(1)
            assert byte, head
            head += byte
        found = re.search(rb"content-length: (\d+)", head)
        without = request.startswith(b"HEAD ") or head[9:12] in (b"204", b"304")
        length = 0 if without or not found else int(found[1])
        body = b""
        while len(body) < length:
            body += self.sock.recv(length - len(body))
        return _DATE.sub(b"", head) + body

    def rest(self) -> bytes:
        """Return everything until the server closes."""
        data = b""
        try:
            while some := self.sock.recv(65536):
                data += some
        except ConnectionResetError:
            pass
        return data


@contextmanager
def served(folder: Path, config: str = "", **limits: Any) -> Iterator[Pair]:
    """Serve in a thread, on uvloop as in production."""
    file = folder / "telemetron.yaml"
    file.write_text(config)
    limits = {"limits": SupervisorLimits(start_seconds=30), **limits}
    app = App(Service(load(str(file), {"SERVER_PORT": "0"}), **limits))
    options = server_options(app)
    ready: Future[Pair] = Future()

    async def main() -> None:
        short = Counting(app)
        others = {**options, "probe_port": None, "on_stop": lambda: None}
        servers = [
            HttpServer(app, **options),
            HttpServer(short, **{**others, "readers": Readers()}),
            HttpServer(Second(app), **{**others, "readers": Readers(), "shortcuts": False}),
        ]
        serving = []
        for server in servers:
            serving.append(asyncio.ensure_future(server.serve()))
            await server.ready.wait()
        ready.set_result(Pair(app, short, servers))
        for task in reversed(serving):
            await task

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(uvloop.run, main())
        pair = ready.result(DEADLINE)
        try:
            yield pair
        finally:
            pair.turn(pair.stop)
            done.result(DEADLINE)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with served(tmp_path_factory.mktemp("pair")) as pair:
        pair.same(beat())
        yield pair


def request(
    path: str = "/system/state",
    *headers: str,
    method: str = "GET",
    host: str = "localhost",
    version: str = "1.1",
    body: bytes = b"",
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", *([f"Host: {host}"] if host else []), *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def beat(
    name: str = "planner",
    *headers: str,
    body: bytes = b'{"instance": "i1", "namespace": "prod"}',
    media: str = "application/json",
    **more: Any,
) -> bytes:
    length = f"Content-Length: {len(body)}"
    path = f"/agents/{name}/heartbeat"
    return request(
        path, f"Content-Type: {media}", length, *headers, method="POST", body=body, **more
    )


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def etag(answer: bytes) -> str:
    return re.search(rb"etag: (.*)\r\n", answer)[1].decode()  # type: ignore[index]


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


SHORT = [
    (request(), 200),
    (request(method="HEAD"), 200),
    (request("/system/state/agents"), 200),
    (request("/system/state/sources"), 200),
    (request("/system/state/findings", method="HEAD"), 200),
    (request("/system/state", "If-None-Match: *"), 304),
    (request("/system/state/agents", 'If-None-Match: W/"other"'), 200),
    (request("/system/state", "Accept: text/html", "X-Other: a", "X-Other: b"), 200),
    (request("/system/state", "Accept-Encoding: br"), 200),
    (beat(), 204),
    (beat("a%2Fb"), 204),
    (beat("planner", "Content-Encoding: identity", media="application/json; charset=utf-8"), 204),
]
CALLED = [
    (request("/system/state?sections=agents"), 200),
    (request("/system/state/"), 200),
    (request("/system/state/agents/prod~1planner"), 404),
    (request("/system/state/agents/prod/planner"), 200),
    (request("/system/state/agent"), 404),
    (request("/system/state/agents", method="PUT"), 405),
    (request("/nope"), 404),
    (request(host="evil.example"), 421),
    (request("/system/state", "Expect: 100-continue"), 200),
    (request("/system/state", "Upgrade: h2c", "Connection: upgrade"), 200),
    (request("/system/state", "Content-Length: 2", body=b"{}"), 200),
    (beat(host="evil.example"), 421),
    (beat(body=b"no"), 400),
    (beat(body=b"{}"), 422),
    (beat(body=b'{"instance": "i1", "namespace": "prod", "tasks": 3}'), 422),
    (beat(body=b'{"instance": "%s"}' % (300_000 * b"x")), 413),
    (
        beat(
            body=b'{"instance": "i1", "namespace": "prod", "description": "%s"}' % (70_000 * b"x")
        ),
        422,
    ),
    (beat(media="text/plain"), 415),
    (beat("planner", "Content-Encoding: gzip"), 415),
    (request("/agents/x/heartbeat?x=1", "Content-Length: 0", method="POST"), 400),
    (request("/agents/a/heartbeat"), 405),
    (request("/agents/heartbeats"), 405),
    (beat(body=b""), 400),
    (
        request(
            "/agents/planner/heartbeat",
            "Content-Type: application/json",
            "Transfer-Encoding: chunked",
            method="POST",
            body=b'27\r\n{"instance": "i1", "namespace": "prod"}\r\n0\r\n\r\n',
        ),
        204,
    ),
]


@pytest.mark.parametrize(("sent", "status"), SHORT)
def test_a_request_with_a_shortcut_has_the_same_answer(
    pair: Pair, sent: bytes, status: int
) -> None:
    pair.same(request(), request("/system/state/agents"), request("/system/state/sources"))
    pair.same(request("/system/state/findings"), sent)
    before = pair.short.short
    for client in pair.connect():
        with client:
            for _ in range(3):
                assert statuses(client.answers([sent])) == [status]
    assert pair.short.short >= before + 2
    assert statuses(pair.same(sent)) == [status]


@pytest.mark.parametrize(("sent", "status"), CALLED)
def test_any_other_request_is_a_call_with_the_same_answer(
    pair: Pair, sent: bytes, status: int
) -> None:
    before = pair.short.short
    assert statuses(pair.same(sent))[-1] == status
    assert pair.short.short == before


def test_requests_that_end_the_connection(pair: Pair) -> None:
    for sent in (
        request("/system/state", "Connection: close"),
        request(version="1.0"),
        beat("planner", "Connection: close"),
        request("/system/state", "Upgrade: h2c", "Connection: upgrade, close"),
        request() + b"nonsense\r\n\r\n",
        b"nonsense\r\n\r\n",
        beat() + request("/system/state", "Content-Length: x"),
    ):
        pair.same(sent, close=True)


BODY = b'{"instance": "i1", "namespace": "prod"}'
JSON, LENGTH = "Content-Type: application/json", f"Content-Length: {len(BODY)}"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def post(*headers: str, body: bytes = BODY) -> bytes:
    return request("/agents/planner/heartbeat", JSON, *headers, method="POST", body=body)


DOUBTFUL = [
    post(LENGTH, "Transfer-Encoding: chunked", body=CHUNKED),
    post("Transfer-Encoding: chunked", LENGTH),
    post("Transfer-Encoding: identity", LENGTH),
    post("Transfer-Encoding : chunked", LENGTH),
    post(LENGTH, LENGTH),
    post(LENGTH, "Content-Length: 3"),
    *(
        post(f"Content-Length: {length}")
        for length in ("+39", "039", "39, 39", "-1", "0x27", "9" * 20, " 39 ", "3 9")
    ),
    post("Content-Length: 43", body=BODY + b"\r\n\r\n"),
    post("Content-Length: 4", body=b"\r\n\r\n"),
    request("/system/state", "X: a\r\n folded"),
    request("/system/state", "If-None-Match:\r\n *"),
    request("/system/state", " X: first"),
    request("/system/state", "X y: z"),
    request("/system/state", "X: \x01"),
    request().replace(b"\r\n", b"\n"),
    request().replace(b"\r\n\r\n", b"\r\n\n"),
    beat().replace(b"\r\n", b"\n"),
    b"\r\n" + request(),
    b"\r\n\r\n" + beat(),
    b" " + request(),
    request(host="localhost\r\nHost: evil.example"),
    request(host="evil.example\r\nHost: localhost"),
    request(host=""),
    request(host="LOCALHOST:1"),
    request("http://localhost/system/state"),
    request("http://evil.example/system/state"),
    request("//system/state"),
    request("/system/state#x"),
    request("/system/state?"),
    request("/system/%73tate"),
    request("localhost:80", method="CONNECT"),
    request(method="get"),
    request("/system/state", "Connection: keep-alive", version="1.0"),
    request(version="1.2"),
    request(version="2.0"),
    request("/system/state", 'If-None-Match: "x", W/"y", *'),
    *(
        request("/system/state", f"Accept-Encoding: {accepted}")
        for accepted in ("gzip;q=0", "*;q=0.1, gzip;q=0", "br, GZIP;q=0.5", "gzip;q=x", "*;q=0")
    ),
]


@pytest.mark.parametrize("sent", DOUBTFUL)
def test_a_doubtful_request_has_the_same_answer(pair: Pair, sent: bytes) -> None:
    """A proxy could understand it otherwise. Send it within others, then alone."""
    pair.same(request("/system/state", "Accept-Encoding: gzip"), request(), beat())
    last = request("/system/state/sources", "Connection: close")
    pair.same(request(), sent, sent, beat(), last, close=True)
    if len(statuses(pair.same(sent, last, close=True))) == 2:  # the connection is kept
        pair.same(sent, times=3)


def test_a_poll_gets_304_until_the_state_changes(pair: Pair) -> None:
    for client in pair.connect():
        with client:
            answer = client.answers([request()])
            poll = request("/system/state", f"If-None-Match: {etag(answer)}")
            for _ in range(3):
                assert statuses(client.answers([poll])) == [304]
            sent = beat(body=json.dumps({"instance": f"i{id(client)}"}).encode())
            for _ in range(2):
                assert statuses(client.answers([sent])) == [204]
            pair.turn(pair.app.service.store.flush)
            assert statuses(client.answers([poll])) == [200]


def test_a_compressed_answer_is_short_once_it_is_ready(pair: Pair) -> None:
    zipped = request("/system/state", "Accept-Encoding: gzip")
    pair.same(zipped)
    before = pair.short.short
    answer = pair.same(zipped)
    assert json.loads(gzip.decompress(answer.partition(b"\r\n\r\n")[2]))["schema_version"] == 1
    assert pair.short.short > before


async def test_no_shortcut_reads_past_a_flush_that_is_due(live: Any) -> None:
    """A beat on a quiet store is in the very next read."""
    app, store = live.app, live.app.service.store
    await live.client.post("/agents/planner/heartbeat", json={"instance": "i1"})
    take, read = (
        app.shortcut(scope("POST", "/agents/planner/heartbeat")),
        app.shortcut(scope("GET", "/system/state")),
    )
    store.flush()
    await live.client.get("/system/state")  # makes the bytes ready, unless something changes
    while store.is_flush_due or read(b"") is None:
        store.flush()
        await live.client.get("/system/state")
    store.flush()
    assert take(b'{"instance": "i1", "description": "new"}').status == 204
    assert store.is_flush_due
    assert read(b"") is None
    answer = await live.client.get("/system/state")
    assert answer.json()["agents"][0]["description"] == "new"


def scope(method: str, path: str) -> Any:
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
    }


def test_every_cut_of_a_request_has_the_same_answer(pair: Pair) -> None:
    for sent in (request(), beat()):
        for cut in range(1, len(sent), 7):
            pair.same(sent, sent, cuts=[cut])
            pair.same(sent, sent, cuts=[len(sent) + cut])


def test_with_tokens(tmp_path: Path) -> None:
    with served(tmp_path, f"server: {{auth: {{read: {READ}, write: {WRITE}}}}}") as pair:
        for token, read, write in (
            ([], 401, 401),
            ([bearer("wrong")], 401, 401),
            ([bearer(READ)], 200, 403),
            ([bearer(WRITE)], 403, 204),
        ):
            for _ in range(3):
                sent = [request("/system/state", *token), beat("planner", *token)] * 2
                assert statuses(pair.same(*sent)) == [read, write] * 2
                for one in sent:
                    pair.same(one)
        assert pair.short.short


def test_below_a_root_path(tmp_path: Path) -> None:
    with served(tmp_path, "server: {root_path: /telemetron}") as pair:
        for _ in range(3):
            for prefix in ("", "/telemetron", "/telemetron/telemetron"):
                status = 404 if prefix.count("/") > 1 else 200
                assert statuses(pair.same(request(prefix + "/system/state/agents"))) == [status]
        assert pair.short.short


def test_over_tls(tmp_path: Path) -> None:
    tls = f"{{certfile: {TLS}/cert.pem, keyfile: {TLS}/key.pem, keyfile_password: hunter2}}"
    with served(tmp_path, f"server: {{tls: {tls}}}") as pair:
        for _ in range(3):
            assert statuses(pair.same(request(), beat(), request())) == [200, 204, 200]
            pair.same(request())
        assert pair.short.short


def test_a_stop_in_the_middle_of_a_body(tmp_path: Path) -> None:
    with served(tmp_path) as pair:
        sent = beat()
        pair.same(sent, request())
        clients = pair.connect()
        for client in clients:
            client.answers([sent, request()])
            client.send(sent[:-5])
            pair.turn()
        idle = pair.connect()
        for client in idle:
            client.answers([sent])
        pair.turn(pair.begin_stop)
        for client in idle:
            assert client.rest() == b""
        answers = []
        for client in clients:
            client.send(sent[-5:])
            answers.append(_DATE.sub(b"", client.rest()))
        assert answers == [b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"] * 2
        for client in clients + idle:
            client.sock.close()


def test_answers_are_counted_both_ways(pair: Pair) -> None:
    metrics = pair.app.metrics
    for client in pair.connect():
        with client:
            reads, pushes = sum(metrics.reads.counts), sum(metrics.pushes.counts)
            client.answers([request()])
            for _ in range(4):
                client.answers([request()])
                client.answers([beat()])
                client.answers([beat(body=b"no")])
            pair.turn()
            assert sum(metrics.reads.counts) - reads == 5
            assert sum(metrics.pushes.counts) - pushes == 4


def test_a_slow_reader_gets_every_answer(tmp_path: Path) -> None:
    with served(tmp_path) as pair:
        for number in range(60):
            body = {"instance": "i", "models": [f"{n}" * 99 for n in range(50)]}
            assert statuses(pair.same(beat(f"a{number}", body=json.dumps(body).encode()))) == [204]
        pair.turn(pair.app.service.store.flush)
        pair.same(request())
        sizes = []
        for client in pair.connect():
            with client:
                for _ in range(20):  # far more than the buffers of both ends hold
                    client.send(request())
                    pair.turn()
                connections = [one for one in pair.connections() if one.unsent()]
                assert [one.flow.write_paused for one in connections] == [True]
                assert connections[0].transport.get_write_buffer_size() < 2 * len(
                    pair.same(request())
                )
                answers = [client.answer(request()) for _ in range(20)]
                assert len({*answers}) == 1
                sizes.append(len(answers[0]))
        assert sizes[0] == sizes[1]


SHORT_ONES = [sent for sent, _ in SHORT]
# After an upgrade, uvicorn drops the requests that came in the same data.
OTHERS = [sent for sent, _ in CALLED if len(sent) < 1000 and b"Upgrade" not in sent]


class BothWays(RuleBasedStateMachine):
    """Mix requests on one connection to each server, in any pieces, with changes in between."""

    pair: Pair

    @initialize()
    def connect(self) -> None:
        self.clients = self.pair.connect()

    def teardown(self) -> None:
        for client in getattr(self, "clients", ()):
            client.sock.close()

    @rule(
        requests=st.lists(st.sampled_from(SHORT_ONES + OTHERS), min_size=1, max_size=4),
        cuts=st.lists(st.integers(1, 700), max_size=3),
        repeats=st.integers(1, 3),
    )
    def send(self, requests: list[bytes], cuts: list[int], repeats: int) -> None:
        """Send some requests, pipelined and cut, several times."""
        for _ in range(repeats):
            self.exchange(lambda client: client.answers(requests, cuts))

    @rule(sent=st.sampled_from([request(), request("/system/state/agents"), beat()]))
    def repeat(self, sent: bytes) -> None:
        """Send one request as a client that polls does."""
        for _ in range(3):
            self.exchange(lambda client: client.answers([sent]))

    @rule(sent=st.sampled_from([request(), request("/system/state/agents")]))
    def poll(self, sent: bytes) -> None:
        """Ask for the state if it has changed."""
        tag = etag(self.clients[0].answers([sent]))
        self.clients[1].answers([sent])
        poll = sent[:-2] + f"If-None-Match: {tag}\r\n\r\n".encode()
        self.exchange(lambda client: client.answers([poll, sent]))
        self.exchange(lambda client: client.answers([poll]))

    @rule(step=st.integers())
    def change(self, step: int) -> None:
        """Let an agent report another step to one server, then to the other."""
        task = {"id": "t", "step": f"step {step}"}
        body = json.dumps({"instance": "i1", "namespace": "prod", "tasks": [task]}).encode()
        for client in self.clients:
            assert statuses(client.answers([beat("changing", body=body)])) == [204]
        self.pair.turn(self.pair.app.service.store.flush)

    @rule(
        whole=st.lists(st.sampled_from(SHORT_ONES), max_size=2),
        part=st.sampled_from([request(), beat()]),
        cut=st.integers(0, 200),
    )
    def half_close(self, whole: list[bytes], part: bytes, cut: int) -> None:
        """Close the sending side, perhaps within a request; then connect again."""

        def closed(client: Client) -> bytes:
            answers = client.answers(whole)
            client.send(part[: min(cut, len(part) - 1)])
            client.turn()
            client.sock.shutdown(socket.SHUT_WR)
            return answers + client.rest()

        self.exchange(closed)
        self.teardown()
        self.connect()

    @rule(sent=st.sampled_from([request(), beat()]), garbage=st.binary(min_size=1, max_size=20))
    def end(self, sent: bytes, garbage: bytes) -> None:
        """Send garbage after a request; then connect again."""

        def ended(client: Client) -> bytes:
            client.answers([sent])
            client.send(garbage)
            client.turn()
            client.sock.shutdown(socket.SHUT_WR)
            return client.rest()

        self.exchange(ended)
        self.teardown()
        self.connect()

    def exchange(self, talk: Callable[[Client], bytes]) -> None:
        """Require the same answers, unless the state changed by itself meanwhile."""
        snapshot = self.pair.app.service.store.snapshot
        one, other = map(talk, self.clients)
        assert one == other or self.pair.app.service.store.snapshot is not snapshot


def test_any_mix_of_requests_has_the_same_answers(pair: Pair) -> None:
    class Machine(BothWays):
        pass

    Machine.pair = pair
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=12, stateful_step_count=8, deadline=None)
    )
