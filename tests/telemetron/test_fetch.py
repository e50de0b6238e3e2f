"""Answers in every framing of HTTP/1.1, and connections that are kept, closed or refused."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from telemetron.fetch import NoAnswerError, Response, fetcher

TLS = Path(__file__).parents[1] / "data" / "tls"
OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"content-length: 2\r\n\r\nhi"
MAX_BYTES = 1024

Get = Callable[..., Awaitable[Response]]


class Server:
    """Sends what it is given to each request, and closes where `CLOSE` stands."""

    CLOSE = b"CLOSE"

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0
        self.handlers: list[asyncio.Task[None] | None] = []
        self.is_slow = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.handlers.append(asyncio.current_task())
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers.pop(0) if self.answers else HI
                whole = answer.removesuffix(self.CLOSE)
                for at in range(0, len(whole), step := 1 if self.is_slow else len(whole) or 1):
                    writer.write(whole[at : at + step])
                    await asyncio.sleep(0)
                await writer.drain()
                if answer.endswith(self.CLOSE):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def serving(
    context: ssl.SSLContext | None = None, path: str = ""
) -> AsyncIterator[tuple[Server, str]]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    scheme = "https" if context else "http"
    yield server, f"{scheme}://localhost:{server.port}{path}"
    listening.close()
    await asyncio.gather(*filter(None, server.handlers))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as (server, _):
        yield server


@pytest.fixture
async def get(server: Server) -> AsyncIterator[Get]:
    async with fetcher(MAX_BYTES) as its:

        async def get(target: str = "/", **headers: str) -> Response:
            return await its.get(f"http://127.0.0.1:{server.port}{target}", "/path", 30, headers)

        yield get


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (HI, b"hi"),
        (OK + b"Content-Length: 0\r\n\r\n", b""),
        (OK + b"transfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", b"hi"),
        (OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: trailer\r\n\r\n", b"hi"),
        (OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi", b"hi"),
        (OK + b"\r\nhi" + Server.CLOSE, b"hi"),
        (b"HTTP/1.0 200 OK\r\n\r\nhi" + Server.CLOSE, b"hi"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + HI, b"hi"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HI, b"hi"),
    ],
)
async def test_each_framing_of_a_body(server: Server, get: Get, answer: bytes, body: Any) -> None:
    for _ in range(2):
        server.answers = [answer]
        response = await get()
        assert (response.status, response.body) == (200, body)


async def test_an_answer_may_come_byte_by_byte(server: Server, get: Get) -> None:
    server.is_slow = True
    server.answers = [OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", HI]
    for _ in range(2):
        assert (await get()).body == b"hi"
    assert server.connections == 1


async def test_a_refusal_has_its_status_and_its_headers(server: Server, get: Get) -> None:
    server.answers = [b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\ncontent-length: 4\r\n\r\nslow"]
    status, headers, body = await get()
    assert (status, headers["retry-after"], body) == (429, "7", b"slow")


async def test_the_connection_is_kept(server: Server, get: Get) -> None:
    for _ in range(3):
        await get("/metrics/?a=b", authorization="Bearer x")
    assert server.connections == 1
    lines = server.requests[0].split(b"\r\n")
    assert lines[0] == b"GET /metrics/?a=b HTTP/1.1"
    assert b"Host: 127.0.0.1:%d" % server.port in lines
    assert b"authorization: Bearer x" in lines


async def test_two_requests_at_a_time_have_a_connection_each(server: Server, get: Get) -> None:
    await asyncio.gather(get(), get())
    await get()
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        OK,
        OK + b"content-length: 5\r\n\r\nhi",
        OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        OK + b"content-length: two\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_an_answer_that_is_cut_short_or_no_http(
    server: Server, get: Get, answer: bytes
) -> None:
    server.answers = 8 * [answer + Server.CLOSE]
    with pytest.raises(NoAnswerError, match="BadAnswer: /path: no whole HTTP answer"):
        await get()
    server.answers = []
    assert (await get()).body == b"hi"


@pytest.mark.parametrize(
    ("answer", "limit"),
    [
        (OK + b"content-length: 1025\r\n\r\n" + 1025 * b"x", "1 KiB"),
        (b"HTTP/1.1 500 x\r\ncontent-length: 70000\r\n\r\n" + 70_000 * b"x", "64 KiB"),
    ],
)
async def test_an_answer_that_is_too_large(
    server: Server, get: Get, answer: bytes, limit: str
) -> None:
    server.answers = [answer]
    with pytest.raises(NoAnswerError, match=f"BadAnswer: /path: more than {limit}"):
        await get()
    assert (await get()).body == b"hi"


async def test_headers_that_are_too_large(server: Server, get: Get) -> None:
    server.answers = 2 * [OK + b"x: " + 70_000 * b"x" + b"\r\n\r\n"]
    with pytest.raises(NoAnswerError, match="BadAnswer"):
        await get()


async def test_bytes_that_nobody_asked_for_end_the_connection(server: Server, get: Get) -> None:
    server.answers = [HI + HI]
    assert (await get()).body == b"hi"
    server.answers = [OK + b"content-length: 3\r\n\r\nyes"]
    assert (await get()).body == b"yes"


async def test_a_cancelled_request_ends_the_connection(server: Server, get: Get) -> None:
    server.answers = [OK]
    asking = asyncio.ensure_future(get())
    async with asyncio.timeout(30):
        while not server.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await get()).body == b"hi"
    assert server.connections == 2


async def test_a_server_that_does_not_answer(server: Server) -> None:
    server.answers = [OK]
    async with fetcher(MAX_BYTES) as its:
        with pytest.raises(NoAnswerError, match=r"Timeout: /path: no answer within 0\.2 s"):
            await its.get(f"http://127.0.0.1:{server.port}/", "/path", 0.2, {})


async def test_a_redirect_is_not_followed(server: Server, get: Get) -> None:
    server.answers = [b"HTTP/1.1 302 x\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n"]
    assert (await get()).status == 302
    assert len(server.requests) == 1


async def test_nothing_listens() -> None:
    async with serving() as (_, url):
        pass
    await refused(url, "no connection")


async def test_a_name_that_does_not_resolve() -> None:
    await refused("http://telemetron.invalid", "the host's name does not resolve")


async def refused(url: str, why: str, context: ssl.SSLContext | None = None) -> None:
    async with fetcher(MAX_BYTES, context) as its:
        with pytest.raises(NoAnswerError, match=f"Unreachable: {why}"):
            await its.get(url, "/path", 30, {})


async def test_tls() -> None:
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(TLS / "cert.pem", TLS / "key.pem", "hunter2")
    async with serving(own) as (server, url):
        async with fetcher(MAX_BYTES, ssl.create_default_context(cafile=TLS / "cert.pem")) as its:
            for _ in range(2):
                assert (await its.get(url, "/path", 30, {})).body == b"hi"
        assert server.connections == 1
        await refused(url, "the server's certificate is not trusted")
