"""The fault proxy itself: what the other tests lean on."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientError, ClientResponse, ClientSession, web

from tests.real.faultproxy import FaultProxy, fault_proxy


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """In front of a server that says where it was asked, and streams lines."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.Response(text=request.path_qs)
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(1_000):
            await response.write(b"line %d\n" % number)
            await asyncio.sleep(0.01)
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with fault_proxy(f"http://127.0.0.1:{runner.addresses[0][1]}") as proxy:
        yield proxy
    await runner.cleanup()


async def test_it_passes_on_answers_instead_and_heals(proxy: FaultProxy) -> None:
    async with ClientSession(proxy.url) as client:

        async def get(path: str) -> tuple[int, str]:
            async with client.get(path) as answer:
                return answer.status, await answer.text()

        assert await get("/a?b=c") == (200, "/a?b=c")
        proxy.answer("/a", 429, "later", times=1, retry_after="1")
        assert await get("/b") == (200, "/b")
        assert await get("/a") == (429, "later")
        assert await get("/a") == (200, "/a")
        proxy.change("/a", lambda body: body[:1])
        assert await get("/a") == (200, "/")
        proxy.heal()
        assert await get("/a") == (200, "/a")
        assert len(proxy.asked("GET /a")) == 5


async def test_it_changes_freezes_and_cuts_streams(proxy: FaultProxy) -> None:
    proxy.change("watch", lambda line: line.upper())
    async with ClientSession(proxy.url) as client, client.get("/?watch=true") as answer:
        assert await answer.content.readline() == b"LINE 0\n"
        proxy.freeze("watch")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read_on(answer), 0.5)
        proxy.heal()
        assert await answer.content.readline()
        assert await proxy.send("watch", b"odd") == 1
        async with asyncio.timeout(5):
            while await answer.content.readline() != b"odd\n":
                pass
        assert proxy.cut("watch") == 1
        with pytest.raises(ClientError):
            await asyncio.wait_for(read_on(answer), 5)


async def read_on(answer: ClientResponse) -> None:
    """To the end, if there is one."""
    while await answer.content.readline():
        pass
