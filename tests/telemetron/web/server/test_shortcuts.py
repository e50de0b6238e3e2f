"""Which requests a connection answers by shortcuts, and that its bounds hold there too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from telemetron.http import Answer
from telemetron.web.server.connection import Readers
from telemetron.web.server.server import running
from telemetron.web.server.shortcuts import MAX_HEADS, Shortcuts, encoded

HEAD = b"HTTP/1.1 200 OK\r\n"


class Echo:
    """An application that answers the body, and says how."""

    def __init__(self) -> None:
        self.offers = True
        self.answers = True
        self.padding = b""

    def shortcut(self, scope: Any) -> Any:
        return self._short if self.offers and scope["path"] != "/call" else None

    def _short(self, body: bytes) -> Answer | None:
        body = b"short " + body + self.padding
        return Answer(200, [(b"content-length", b"%d" % len(body))], body) if self.answers else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        body, more = b"called ", True
        while more and scope["method"] == "POST":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Talk:
    """One connection to the server."""

    def __init__(
        self,
        app: Echo,
        readers: Readers,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.app = app
        self.readers = readers
        self.reader, self.writer = streams

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def body(self, *, is_head: bool = False) -> bytes:
        """Return the body of the next answer."""
        async with asyncio.timeout(30):
            head = await self.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(HEAD)
            assert b"\r\ndate: " in head
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return b"" if is_head else await self.reader.readexactly(length)

    async def ask(self, data: bytes) -> bytes:
        self.send(data)
        return await self.body(is_head=data.startswith(b"HEAD"))

    @property
    def connection(self) -> Any:
        (connection,) = self.readers.connections
        return connection


@asynccontextmanager
async def talking(**options: Any) -> AsyncIterator[Talk]:
    app, readers = Echo(), Readers()
    async with running(app, readers=readers, **options) as url:
        streams = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        yield Talk(app, readers, streams)
        streams[1].close()
        with suppress(ConnectionError):
            await streams[1].wait_closed()


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    async with talking() as talk:
        yield talk


def get(*headers: str, path: str = "/", method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: test", *headers, "", ""]
    return "\r\n".join(lines).encode()


def post(body: bytes, *headers: str, path: str = "/") -> bytes:
    return get(f"Content-Length: {len(body)}", *headers, path=path, method="POST") + body


async def test_a_request_is_answered_by_its_shortcut_each_time(talk: Talk) -> None:
    for _ in range(3):
        assert await talk.ask(get()) == b"short "
        assert await talk.ask(get(method="HEAD")) == b""
        for body in (b"some", b"more", b"", b"\r\n\r\n"):
            assert await talk.ask(post(body)) == b"short " + body


async def test_shortcuts_can_be_switched_off() -> None:
    async with talking(shortcuts=False) as talk:
        for _ in range(2):
            assert await talk.ask(post(b"some")) == b"called some"


@pytest.mark.parametrize(
    "request_",
    [
        get(path="/call"),
        get("Content-Length: 1") + b"x",
        get("Expect: 100-continue"),
        get("Upgrade: h2c"),
        post(65_537 * b"x"),
        get("Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n0\r\n\r\n",
    ],
)
async def test_some_requests_need_the_call(talk: Talk, request_: bytes) -> None:
    for _ in range(3):
        assert (await talk.ask(request_)).startswith(b"called ")
        assert await talk.ask(get()) == b"short "


@pytest.mark.parametrize("request_", [get("Connection: close"), get(version="1.0")])
async def test_the_last_request_of_a_connection_needs_the_call(talk: Talk, request_: bytes) -> None:
    assert await talk.ask(request_) == b"called "
    assert await talk.reader.read() == b""


async def test_a_shortcut_may_decline_each_time(talk: Talk) -> None:
    for answers in (True, False, True, True, False, False):
        talk.app.answers = answers
        assert await talk.ask(post(b"x")) == (b"short x" if answers else b"called x")


async def test_pipelined_requests_are_answered_in_order(talk: Talk) -> None:
    await talk.ask(post(b"1"))
    talk.send(b"".join(post(b"%d" % n) for n in range(5)))
    assert [await talk.body() for _ in range(5)] == [
        *(b"called %d" % n for n in range(5)),
    ]
    assert await talk.ask(post(b"1")) == b"short 1"


async def test_a_body_may_come_after_its_head(talk: Talk) -> None:
    await talk.ask(get())
    head, body = post(b"abcd")[:-4], b"abcd"
    for cut in (0, 2):
        talk.send(head + body[:cut])
        while not talk.connection.unfinished():  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert talk.connection.known
        assert await talk.ask(body[cut:]) == b"short abcd"
        assert not talk.connection.unfinished()


async def test_an_unfinished_body_is_cut(talk: Talk) -> None:
    talk.readers.request_seconds = 0.3
    await talk.ask(post(b"abcd"))
    talk.send(post(b"abcd")[:-2])
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionResetError):
            await talk.reader.readexactly(1)
    assert talk.readers.cut["unfinished"] == 1


async def test_a_repeated_request_keeps_the_connection(talk: Talk) -> None:
    await talk.ask(get())
    loop, connection = asyncio.get_running_loop(), talk.connection
    connection.timeout_keep_alive = 0.6
    await talk.ask(get("X: other"))  # sets the timer
    began = loop.time()
    while loop.time() - began < 0.5:
        assert await talk.ask(get()) == b"short "
        await asyncio.sleep(0.05)
    last = loop.time()
    async with asyncio.timeout(30):
        assert await talk.reader.read() == b""
    assert loop.time() - last > 0.3


async def test_a_client_that_does_not_read_pauses_the_shortcuts(talk: Talk) -> None:
    talk.app.padding = 500_000 * b"x"
    await talk.ask(get())
    connection, sent = talk.connection, 0
    transport = connection.transport
    while not connection.flow.write_paused:
        talk.send(get())
        sent += 1
        await asyncio.sleep(0.01)
    assert transport.get_write_buffer_size() <= 600_000
    assert connection.unsent()
    talk.send(get())  # this one is a call, which waits for the client
    for _ in range(sent):
        assert len(await talk.body()) == 500_006
    assert await talk.body() == b"called "


async def test_the_connection_is_free_after_a_disconnect(talk: Talk) -> None:
    await talk.ask(get())
    talk.send(post(b"abcd")[:-2])
    talk.writer.close()
    async with asyncio.timeout(30):
        while talk.readers.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not any(talk.readers.cut.values())


def test_only_so_many_heads_are_remembered() -> None:
    shortcuts = Shortcuts(Echo())
    scope = {"http_version": "1.1", "method": "GET", "headers": [], "path": "/"}
    known = shortcuts.find(scope)
    assert known
    requests = [get(path=f"/{n}") for n in range(MAX_HEADS + 1)]
    for one in requests:
        shortcuts.remember(one, known)
    assert shortcuts.answer(requests[0]) is None
    assert shortcuts.answer(requests[1]) is not None
    assert shortcuts.answer(requests[-1]) is not None
    assert shortcuts.answer(requests[-1] + b"x") is None
    assert shortcuts.answer(requests[-1][:-1]) is None


def test_a_remembered_head_is_not_enough_for_a_request_with_a_body() -> None:
    shortcuts = Shortcuts(Echo())
    one, two = post(b"ab"), post(b"\r\n\r\n")
    for data in (one, two):
        headers = [(b"content-length", b"%d" % len(data.partition(b"\r\n\r\n")[2]))]
        known = shortcuts.find(
            {"http_version": "1.1", "method": "POST", "headers": headers, "path": "/"}
        )
        assert known
        shortcuts.remember(data, known)
    assert shortcuts.answer(one[:-2]) is None
    assert shortcuts.answer(two[:-4]) is None
    for data, body in ((one, b"short ab"), (two, b"short \r\n\r\n")):
        answer = shortcuts.answer(data)
        assert answer
        assert answer.body == body


def test_an_answer_is_encoded_again_only_if_it_changes() -> None:
    answer = Answer(200, [(b"a", b"b")], b"body")
    now, later = [(b"date", b"now")], [(b"date", b"later")]
    first = encoded(answer, now)
    assert first == HEAD + b"date: now\r\na: b\r\n\r\nbody"
    assert encoded(answer, now) is first
    assert encoded(answer.without_body, now) == first[:-4]
    assert encoded(answer.without_body, now) is encoded(answer.without_body, now)
    assert encoded(Answer(204), now).startswith(b"HTTP/1.1 204 ")
    assert encoded(answer, later) == first.replace(b"now", b"later")


def test_a_long_head_is_not_remembered() -> None:
    shortcuts = Shortcuts(Echo())
    known = shortcuts.find({"http_version": "1.1", "method": "GET", "headers": [], "path": "/"})
    assert known
    long = get("X: " + 2000 * "x")
    shortcuts.remember(long, known)
    assert shortcuts.answer(long) is None
