"""A receiver of webhooks and alerts: a real HTTP server that fails as a test wants."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from aiohttp import web
from standardwebhooks import Webhook as Verifier

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECONDS = 60.0
HANG, CUT, TAKE_AND_CUT, SLOW = "hang", "cut", "take and cut", "slow"
"""Instead of a status: no answer, a cut connection, one after the event was taken, a late 204."""


class Request(NamedTuple):
    """One request that came in, and how it was answered."""

    path: str
    headers: Mapping[str, str]
    body: Any
    answer: int | str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def edge(self) -> tuple[str, str]:
        """The last word of the event's type, and its subject."""
        return self.body["type"].rpartition(".")[2], self.body.get("subject", "")


class Receiver:
    """Answers with `answers` in turn, then with 204; keeps every request."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.answers: deque[int | str] = deque()
        self.always: int | str = 204
        self.choose: Callable[[], int | str] = lambda: self.always
        self.watch: Callable[[Request], object] = lambda request: None
        """Called with each request."""
        self.headers: dict[str, str] = {}
        """Of each answer."""
        self._changed = asyncio.Event()

    @property
    def taken(self) -> list[Request]:
        """The requests that it has accepted, whether or not the answer was lost."""
        return [one for one in self.requests if one.answer in (204, 200, TAKE_AND_CUT, SLOW)]

    @property
    def edges(self) -> list[tuple[str, str]]:
        """The accepted events."""
        return [one.edge for one in self.taken]

    async def got(self, number: int) -> list[Request]:
        """Wait until that many requests came in."""
        return await self._until(lambda: self.requests, number)

    async def took(self, number: int) -> list[Request]:
        """Wait until that many requests were accepted."""
        return await self._until(lambda: self.taken, number)

    async def _until(self, found: Any, number: int) -> list[Request]:
        async with asyncio.timeout(SECONDS):
            while len(found()) < number:
                self._changed.clear()
                await self._changed.wait()
        return list(found())

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        answer = self.answers.popleft() if self.answers else self.choose()
        if "webhook-id" in request.headers:
            check_signature(request.headers, body)
        made = Request(request.path, request.headers, msgspec.json.decode(body), answer)
        self.watch(made)
        self.requests.append(made)
        self._changed.set()
        if answer == HANG:
            await asyncio.sleep(3_600)
        if answer == SLOW:
            await asyncio.sleep(0.2)
            return web.Response(status=204)
        if isinstance(answer, str):
            assert request.transport
            request.transport.abort()
            return web.Response()
        return web.Response(status=answer, headers=self.headers, text="<b>text of others</b>")


def check_signature(headers: Mapping[str, str], body: bytes) -> None:
    """Check it as Standard Webhooks' own library does, by the clock of the test."""
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    signed = Verifier(SECRET).sign(headers["webhook-id"], at, body.decode())
    assert headers["webhook-signature"] == signed


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver, ended with the context."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver._answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"http://127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
