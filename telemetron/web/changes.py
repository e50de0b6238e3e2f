"""`GET /system/changes`, once or as a stream of events, and `GET /system/history/…`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TypeVar
from urllib.parse import unquote

from telemetron.history import fold
from telemetron.history.delta import MEASURES
from telemetron.history.fold import Asked, UnknownKeyError
from telemetron.history.history import History
from telemetron.history.place import Place, parse
from telemetron.history.timeline import Timeline
from telemetron.http import (
    EMPTY,
    HttpProblem,
    Receive,
    Scope,
    Send,
    answer,
    header,
    require_method,
)
from telemetron.query import parameters, shown
from telemetron.store.store import Store
from telemetron.web.nearest import unknown_key
from telemetron.web.negotiation import preferred
from telemetron.web.recall import recall, when
from telemetron.web.server.connection import Connection
from telemetron.web.streams import Event, Reader, Streams, event

T = TypeVar("T")

PATH = "/system/changes"
LIFE = "/system/history/"
ASKED = ("since", "until", "sections", "key", "measures", "limit", "after")
STREAMED = ("since", "sections", "key", "measures", "limit")
JSON, EVENTS = "application/json", "text/event-stream"
MAX_LIMIT = 1_000
MAX_STREAMS = 4_000
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
        media = preferred(header(scope, b"accept").decode("latin-1"), (JSON, EVENTS))
        if media == EVENTS:
            return self._stream(scope, receive, send)
        if media is None:
            raise HttpProblem(406, f"changes are {JSON} or {EVENTS}")
        return self._changes(scope, send)

    async def _changes(self, scope: Scope, send: Send) -> None:
        given = parameters(scope["query_string"], ASKED)
        now = self._store.clock.now()
        asked = self._asked(given, scope, now)
        found = await self._recall(lambda timeline: fold.changes(timeline, asked, now))
        await answer(scope, send, 200, found.body, _JSON_HEADERS)

    async def _recall(self, question: Callable[[Timeline], T]) -> T:
        """As `recall`; 404 with the nearest keys if nothing has the key that is asked for."""
        try:
            return await recall(self._history, question)
        except UnknownKeyError as error:
            raise unknown_key(self._store.snapshot, error.sections, error.key) from None

    def _asked(self, given: Mapping[str, str], scope: Scope, now: datetime) -> Asked:
        for name in ("since", "until"):
            when(name, given, now)
        names = self._store.snapshot.sections
        sections = tuple(given["sections"].split(",")) if "sections" in given else ()
        for name in sections:
            if name not in names:
                raise HttpProblem(400, f"no section {shown(name)}; there are {', '.join(names)}")
        after = given.get("after", "sources/")
        if "/" not in after or after.partition("/")[0] not in names:
            raise HttpProblem(400, f"after: expected SECTION/KEY, as in `next`; got {shown(after)}")
        return Asked(
            since=given.get("since"),
            until=given.get("until"),
            sections=sections,
            key=given.get("key"),
            measures=_measures(given),
            limit=_limit(given),
            after=given.get("after"),
            root=scope.get("root_path", ""),
        )

    async def _life(self, scope: Scope, send: Send, path: str) -> None:
        section, _, key = path.partition("/")
        given = parameters(scope["query_string"], ("before", "measures", "limit"))
        if section not in self._store.snapshot.sections:
            names = ", ".join(self._store.snapshot.sections)
            raise HttpProblem(404, f"no section {shown(section)}; there are {names}")
        id, measures, limit = (section, unquote(key)), _measures(given), _limit(given)
        now, root = self._store.clock.now(), scope.get("root_path", "")
        when("before", given, now)

        def life(timeline: Timeline) -> bytes:
            return fold.life(timeline, id, given.get("before"), measures, limit, now, root)

        await answer(scope, send, 200, await self._recall(life), _JSON_HEADERS)

    # streams

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        now = self._store.clock.now()
        asked = self._asked(parameters(scope["query_string"], STREAMED), scope, now)
        asked = await self._start(asked, header(scope, b"last-event-id").decode("latin-1"), now)
        if self._open >= MAX_STREAMS:
            raise HttpProblem(503, "too many streams; ask again", {"retry-after": "5"})
        await send({"type": "http.response.start", "status": 200, "headers": _EVENT_HEADERS})
        if scope["method"] == "HEAD":
            return await send(EMPTY)
        reader = Reader(asked)
        gone = asyncio.ensure_future(_disconnected(receive))
        gone.add_done_callback(lambda _: reader.leave())
        self._open += 1
        try:
            await self._tell(reader, scope["state"]["connection"])
        finally:
            self._open -= 1
            gone.cancel()
        return await send(EMPTY)

    async def _start(self, asked: Asked, last: str, now: datetime) -> Asked:
        """After the last event, else from the place that is named, else from now.

        A reader that resumes is refused neither a place that is gone nor a key that is not there
        yet after a restart: a browser would give up.
        """
        if last:
            place = parse(last, now)
            if not isinstance(place, Place):
                raise HttpProblem(400, f"Last-Event-ID: {last!r} is not the id of an event")
            return asked._replace(since=str(place))

        def start(timeline: Timeline) -> Asked:
            fold.require_key(timeline, asked)
            if asked.since is None:
                return asked._replace(since=str(timeline.tip))
            found, is_cut = fold.start(timeline, asked.since, now)
            return asked._replace(since=str(found.place), cut=is_cut)

        return await self._recall(start)

    async def _tell(self, reader: Reader, connection: Connection) -> None:
        told: Event | None = event(b"retry: %d\n" % RETRY_MS, reader.asked)
        while told:
            await connection.share(told.chunks)
            told = await self.streams.wait(reader)


def _measures(given: Mapping[str, str]) -> str:
    measures = given.get("measures", "levels")
    if measures not in MEASURES:
        raise HttpProblem(400, f"measures takes {', '.join(MEASURES)}")
    return measures


def _limit(given: Mapping[str, str]) -> int:
    limit = given.get("limit", "100")
    is_short = limit.isascii() and limit.isdigit() and len(limit) < 10
    if not (is_short and 1 <= int(limit) <= MAX_LIMIT):
        raise HttpProblem(400, f"limit takes 1 to {MAX_LIMIT:,}")
    return int(limit)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
