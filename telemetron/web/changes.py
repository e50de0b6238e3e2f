"""`GET /system/changes`, once or as a stream of events, and `GET /system/history/…`."""

import asyncio
from collections.abc import Awaitable, Mapping
from urllib.parse import unquote

from telemetron.archive import GoneError
from telemetron.delta import MEASURES
from telemetron.history import History
from telemetron.http import EMPTY, HttpProblem, Receive, Scope, Send, answer, require_method
from telemetron.query import parameters
from telemetron.store import Store
from telemetron.timeline import Answer, Asked, Timeline
from telemetron.web.accept import preferred
from telemetron.web.recall import recall
from telemetron.web.streams import Streams, Waiter

PATH = "/system/changes"
LIFE = "/system/history/"
ASKED = ("since", "until", "sections", "key", "measures", "limit", "after")
STREAMED = ("since", "sections", "key", "measures", "limit")
JSON, EVENTS = "application/json", "text/event-stream"
MAX_LIMIT = 1_000
MAX_STREAMS = 4_000
COMMENT_SECONDS = 15.0
RETRY_MS = 1_000

_EVENT_HEADERS = [
    (b"content-type", EVENTS.encode()),
    (b"cache-control", b"no-cache"),
    (b"vary", b"Accept"),
    (b"x-accel-buffering", b"no"),  # a proxy that collects would hold events back
]
_JSON_HEADERS = {"content-type": JSON, "cache-control": "no-cache", "vary": "Accept"}


class ChangesApp:
    """Answers from the history."""

    def __init__(self, store: Store, history: History) -> None:
        self._store = store
        self._history = history
        self.streams = Streams(history)
        self._open = 0

    def claims(self, path: str) -> bool:
        """Whether it answers that path."""
        return path == PATH or path.startswith(LIFE)

    def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> Awaitable[None]:
        """`path` is below `root_path`."""
        require_method(scope, "GET", "HEAD")
        if path.startswith(LIFE):
            return self._life(scope, send, path[len(LIFE) :])
        headers = dict(scope["headers"])
        accept = headers.get(b"accept", b"").decode("latin-1")
        media = preferred(accept, (JSON, EVENTS))
        if media == EVENTS:
            return self._stream(scope, receive, send, headers)
        if media is None:
            raise HttpProblem(406, f"changes are {JSON} or {EVENTS}")
        return self._changes(scope, send)

    async def _changes(self, scope: Scope, send: Send) -> None:
        given = parameters(scope["query_string"], ASKED)
        asked = self._asked(given)
        now = self._store.clock.now()
        found = await recall(self._history, lambda timeline: timeline.changes(asked, now))
        await answer(scope, send, 200, found.body, _JSON_HEADERS)

    def _asked(self, given: Mapping[str, str]) -> Asked:
        names = self._store.snapshot.faces
        sections = tuple(given["sections"].split(",")) if "sections" in given else ()
        for name in sections:
            if name not in names:
                raise HttpProblem(400, f"no section {name!r}; there are {', '.join(names)}")
        return Asked(
            since=given.get("since"),
            until=given.get("until"),
            sections=sections,
            key=given.get("key"),
            measures=_measures(given),
            limit=_limit(given),
            after=given.get("after"),
        )

    async def _life(self, scope: Scope, send: Send, path: str) -> None:
        section, _, key = path.partition("/")
        given = parameters(scope["query_string"], ("before", "measures", "limit"))
        if section not in self._store.snapshot.faces:
            names = ", ".join(self._store.snapshot.faces)
            raise HttpProblem(404, f"no section {section!r}; there are {names}")
        id, measures, limit = (section, unquote(key)), _measures(given), _limit(given)
        now = self._store.clock.now()

        def life(timeline: Timeline) -> bytes:
            return timeline.life(id, given.get("before"), measures, limit, now)

        try:
            body = await recall(self._history, life)
        except LookupError:
            raise HttpProblem(404, f"nothing is known of {id[1]!r} in {section}") from None
        await answer(scope, send, 200, body, _JSON_HEADERS)

    # streams

    async def _stream(
        self, scope: Scope, receive: Receive, send: Send, headers: Mapping[bytes, bytes]
    ) -> None:
        given = dict(parameters(scope["query_string"], STREAMED))
        if last := headers.get(b"last-event-id"):
            given["since"] = last.decode("latin-1")
        asked = await self._start(self._asked(given))
        if self._open >= MAX_STREAMS:
            raise HttpProblem(503, "too many streams; ask again", {"retry-after": "5"})
        await send({"type": "http.response.start", "status": 200, "headers": _EVENT_HEADERS})
        if scope["method"] == "HEAD":
            return await send(EMPTY)
        gone = asyncio.ensure_future(_disconnected(receive))
        self._open += 1
        try:
            await _send(send, b"retry: %d\n%s\n" % (RETRY_MS, _id(asked)))
            await self._tell(asked, send, gone)
        finally:
            self._open -= 1
            gone.cancel()
        return await send(EMPTY)

    async def _start(self, asked: Asked) -> Asked:
        """From the place that it names, else from now; 410 before anything is sent."""
        now = self._store.clock.now()

        def start(timeline: Timeline) -> str:
            return str(timeline.resolve(asked.since, now).place if asked.since else timeline.tip)

        return asked._replace(since=await recall(self._history, start))

    async def _tell(self, asked: Asked, send: Send, gone: "asyncio.Future[None]") -> None:
        while not self.streams.stopping:
            waiter = self.streams.wait(asked)
            try:
                while not await _told(waiter, gone):
                    if gone.done():
                        return
                    await _send(send, b": still here\n%s\n" % _id(waiter.asked))
            finally:
                self.streams.leave(waiter)
            if waiter.told.cancelled():
                return
            found = waiter.told.result()
            if isinstance(found, GoneError):
                found = await self._gap(str(found), waiter.asked)
                await _send(send, b"event: gap\n" + _event(found))
            else:
                await _send(send, _event(found))
            asked = waiter.asked._replace(since=found.to)

    async def _gap(self, why: str, asked: Asked) -> Answer:
        """Says that changes after `asked.since` are lost; the stream goes on from now."""
        return await recall(self._history, lambda timeline: timeline.gap(why, asked.since))


async def _told(waiter: Waiter, gone: "asyncio.Future[None]") -> bool:
    futures: set[asyncio.Future[object]] = {waiter.told, gone}  # type: ignore[arg-type]
    await asyncio.wait(futures, timeout=COMMENT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    return waiter.told.done()


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


def _id(asked: Asked) -> bytes:
    return f"id: {asked.since}\n".encode()


def _event(found: Answer) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (found.to.encode(), found.body)


def _measures(given: Mapping[str, str]) -> str:
    measures = given.get("measures", "levels")
    if measures not in MEASURES:
        raise HttpProblem(400, f"measures takes {', '.join(MEASURES)}")
    return measures


def _limit(given: Mapping[str, str]) -> int:
    limit = given.get("limit", "100")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_LIMIT):
        raise HttpProblem(400, f"limit takes 1 to {MAX_LIMIT:,}")
    return int(limit)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
