"""The HTTP client of the tools: every failure is one clear line, and nothing lasts forever."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from telemetron.client import FetchError
from telemetron.mcp.api import Api, segment
from tests.conftest import Live
from tests.telemetron.cli.program import answering

STATE = "/system/state"


@asynccontextmanager
async def api(url: str, seconds: float = 10) -> AsyncIterator[Api]:
    made = Api(url, "send a token", seconds)
    yield made
    await made.close()


async def failure(url: str, token: str | None = None, seconds: float = 10) -> FetchError:
    async with api(url, seconds) as made:
        with pytest.raises(FetchError) as caught:
            await made.get(token, STATE, {})
    return caught.value


async def test_it_returns_the_document_and_the_servers_time(live: Live) -> None:
    async with api(live.url) as made:
        response = await made.get(None, STATE, {"sections": "agents"})
    assert response.document["agents"] == []
    assert response.now.tzinfo is not None


async def test_nearest_values_are_passed_on(live: Live) -> None:
    async with api(live.url) as made:
        with pytest.raises(FetchError, match="404 no 'heartbeat' in sources") as caught:
            await made.get(None, f"{STATE}/sources/heartbeat", {})
    assert caught.value.nearest == ("heartbeats",)


async def test_a_server_that_does_not_run() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert str(await failure(url)).startswith(f"{url}: cannot be reached: ")


async def test_a_server_that_does_not_answer() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert str(await failure(url, seconds=0.2)) == f"{url}: no answer within 0.2 s"


async def test_a_server_that_sends_a_byte_now_and_then() -> None:
    ended = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        gone = asyncio.ensure_future(reader.read())
        while not gone.done():
            writer.write(b" ")
            await asyncio.wait({gone}, timeout=0.01)
        writer.close()
        ended.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert str(await failure(url, seconds=0.3)).endswith("no answer within 0.3 s")
        await ended.wait()


@pytest.mark.parametrize(
    ("status", "media", "body", "said"),
    [
        (401, "application/problem+json", b'{"detail": "no"}', "401 send a token"),
        (
            503,
            "application/problem+json",
            b'{"detail": "stops \\u001b[31m"}',
            r"503 stops \x1b[31m",
        ),
        (500, "text/html", b"<html>", "500 Internal Server Error"),
        (404, "application/problem+json", b'{"detail": "no", "nearest": 3}', "404 Not Found"),
        (302, "text/plain", b"", "302 Found"),
    ],
)
async def test_error_responses(status: int, media: str, body: bytes, said: str) -> None:
    with answering(status, body, **{"Content-Type": media}) as url:
        assert str(await failure(url)) == said


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b"\xff", b""])
async def test_a_body_that_is_no_document(body: bytes) -> None:
    with answering(200, body, **{"Content-Type": "application/json"}) as url:
        assert str(await failure(url)).startswith(f"{url}: unexpected response: ")


async def test_an_answer_without_a_date_has_the_time_of_this_machine() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        writer.write(head + b"{}")
        await writer.drain()
        writer.close()

    before = datetime.now(UTC)
    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with api(f"http://127.0.0.1:{port}") as made:
            response = await made.get(None, STATE, {})
    assert before <= response.now <= datetime.now(UTC)


async def test_another_media_type() -> None:
    with answering(200, b"<html>", **{"Content-Type": "text/html; charset=utf-8"}) as url:
        assert str(await failure(url)).endswith("got text/html; is this a Telemetron server?")


async def test_a_token_that_cannot_be_a_header_is_not_repeated() -> None:
    error = await failure("http://127.0.0.1:1", "hunter\n2")
    assert str(error) == "the token must be one line of printable ASCII"


@pytest.mark.parametrize("url", ["ftp://x", "http://a:b@x", "x", "http://x?y"])
def test_a_wrong_url_is_an_error_at_start(url: str) -> None:
    with pytest.raises(FetchError, match="--url"):
        Api(url)


def test_a_segment_of_a_path_keeps_its_text() -> None:
    assert [segment(text) for text in ("a/b c", "..", ".", "a.b", "é")] == [
        *("a%2Fb%20c", "%2E%2E", "%2E", "a.b", "%C3%A9")
    ]
