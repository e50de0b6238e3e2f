"""A scripted HTTP proxy: passes everything on to a real server, but for what a test spoils.

It runs on the test's own event loop. `where` is a regular expression that is searched in
`METHOD PATH?QUERY`. Toxiproxy is for faults of the connection, this one for faults of HTTP.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple

from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector, web

LINE_BYTES = 4 << 20
DROPPED = {"accept-encoding", "content-length", "host", "connection", "transfer-encoding"}
Change = Callable[[bytes], bytes]


class Seen(NamedTuple):
    """A request that came."""

    at: float
    """Monotonic seconds."""
    line: str
    """`METHOD PATH?QUERY`."""
    authorization: str


class Answer(NamedTuple):
    """What is answered instead; `times` is how often (None: always)."""

    status: int
    body: str | bytes
    headers: dict[str, str]
    times: int | None


class Stream(NamedTuple):
    """A watch that is open."""

    line: str
    request: web.Request
    response: web.StreamResponse


class FaultProxy:
    """The rules, and what was seen; `url` is where it listens."""

    def __init__(self, upstream: str, session: ClientSession) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.statuses: list[tuple[str, int]] = []
        """Of what upstream answered: `METHOD PATH?QUERY`, status."""
        self._upstream = upstream
        self._session = session
        self._answers: list[tuple[str, Answer]] = []
        self._changes: list[tuple[str, Change]] = []
        self._frozen: list[str] = []
        self._healed = asyncio.Event()
        self._streams: list[Stream] = []

    def answer(
        self,
        where: str,
        status: int,
        body: str | bytes = "",
        times: int | None = None,
        **headers: str,
    ) -> None:
        """Answer this instead of asking upstream; a header `retry_after` is `retry-after`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._answers.append((where, Answer(status, body, named, times)))

    def change(self, where: str, change: Change) -> None:
        """Change each line of a watch, or the whole of another answer."""
        self._changes.append((where, change))

    def freeze(self, where: str) -> None:
        """Let nothing more through, of streams that are open and of what is asked from now on."""
        self._frozen.append(where)

    def heal(self) -> None:
        """Pass everything on again."""
        self._answers.clear()
        self._changes.clear()
        self.thaw()

    def thaw(self) -> None:
        """What was frozen goes on."""
        self._frozen.clear()
        self._healed.set()
        self._healed = asyncio.Event()

    def cut(self, where: str) -> int:
        """Reset the streams that are open; gives how many there were."""
        found = [stream for stream in self._streams if re.search(where, stream.line)]
        for stream in found:
            if stream.request.transport:
                stream.request.transport.abort()
        return len(found)

    async def send(self, where: str, line: bytes) -> int:
        """Write a line into the streams that are open; gives how many there were."""
        found = [stream for stream in self._streams if re.search(where, stream.line)]
        for stream in found:
            await stream.response.write(line + b"\n")
        return len(found)

    def asked(self, where: str, since: float = 0.0) -> list[Seen]:
        """The requests that came."""
        return [one for one in self.seen if one.at >= since and re.search(where, one.line)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        line = f"{request.method} {request.path_qs}"
        self.seen.append(Seen(monotonic(), line, request.headers.get("authorization", "")))
        if answer := self._answer(line):
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        await self._thawed(line)
        async with self._session.request(
            request.method,
            self._upstream + request.path_qs,
            headers={**_passed(request.headers), "accept-encoding": "identity"},
            data=await request.read(),
        ) as upstream:
            self.statuses.append((line, upstream.status))
            if "watch=true" in line and upstream.status == 200:
                return await self._stream(line, request, upstream)
            body = self._changed(line, await upstream.read())
            return web.Response(
                status=upstream.status, headers=_passed(upstream.headers), body=body
            )

    async def _stream(
        self, line: str, request: web.Request, upstream: ClientResponse
    ) -> web.StreamResponse:
        """Line for line, until one of the two ends it."""
        response = web.StreamResponse(headers=_passed(upstream.headers))
        await response.prepare(request)
        stream = Stream(line, request, response)
        self._streams.append(stream)
        try:
            async for event in upstream.content:
                await self._thawed(line)
                await response.write(self._changed(line, event))
        finally:
            self._streams.remove(stream)
        return response

    def _answer(self, line: str) -> Answer | None:
        for at, (where, answer) in enumerate(self._answers):
            if re.search(where, line):
                if answer.times is not None:
                    left = answer.times - 1
                    self._answers[at : at + 1] = [(where, answer._replace(times=left))] * (left > 0)
                return answer
        return None

    def _changed(self, line: str, body: bytes) -> bytes:
        for where, change in self._changes:
            if re.search(where, line):
                body = change(body)
        return body

    async def _thawed(self, line: str) -> None:
        while any(re.search(where, line) for where in self._frozen):
            await self._healed.wait()


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in DROPPED}


@asynccontextmanager
async def fault_proxy(upstream: str, ca: str | None = None) -> AsyncIterator[FaultProxy]:
    """A proxy on a free port of loopback, without TLS; it trusts what `ca` (a file) signed."""
    trust = ssl.create_default_context(cafile=ca)
    session = ClientSession(
        connector=TCPConnector(ssl=trust, limit=0),
        timeout=ClientTimeout(total=None, sock_connect=5),
        read_bufsize=LINE_BYTES,
    )
    async with session:
        proxy = FaultProxy(upstream, session)
        app = web.Application(client_max_size=LINE_BYTES)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            proxy.url = f"http://{host}:{port}"
            yield proxy
        finally:
            await runner.cleanup()
