"""`GET /system/changes`, once or as a stream of events, and `GET /system/history/…`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TypeVar
from urllib.parse import unquote

from telemetron.document import KINDS
from telemetron.history import queries
from telemetron.history.delta import MEASURES
from telemetron.history.history import History
from telemetron.history.place import Place, parse
from telemetron.history.queries import Asked, UnknownKeyError
from telemetron.history.selection import selection
from telemetron.history.timeline import Timeline
from telemetron.http import (
    EMPTY,
    HttpProblem,
    Receive,
    Scope,
    Send,
    answer,
    disconnected,
    header,
)
from telemetron.query import parameters, shown
from telemetron.store.store import Store
from telemetron.web import links
from telemetron.web.nearest import require_names, require_sections, unknown_key
from telemetron.web.negotiation import preferred
from telemetron.web.recall import place_or_time, recall
from telemetron.web.routes import LIFE
from telemetron.web.server.connection import ClientConnection
from telemetron.web.streams import Stream, StreamEvent, Streams, event

T = TypeVar("T")

ASKED = ("since", "until", "sections", "key", "kinds", "measures", "limit", "after")
STREAMED = ("since", "sections", "key", "kinds", "measures", "limit")
REMEMBERED = ("before", "kinds", "measures", "limit")
JSON, EVENTS = "application/json", "text/event-stream"
MAX_LIMIT = 1_000
LIFE_LIMIT = "20"
EVERY_KIND = "all"
MAX_STREAMS = 4_000
RETRY_MS = 1_000

_EVENT_HEADERS = [
    (b"content-type", EVENTS.encode()),
    (b"cache-control", b"no-cache"),
    (b"vary", b"Accept"),
    (b"x-accel-buffering", b"no"),  # nginx would buffer events
]
_JSON_HEADERS = {"content-type": JSON, "cache-control": "no-cache", "vary": "Accept"}


class ChangesApp:
    """Answers `/system/changes` and `/system/history/…`."""

    def __init__(self, store: Store, history: History, max_streams: int = MAX_STREAMS) -> None:
        self._store = store
        self._history = history
        self.streams = Streams(history)
        self._max_streams = max_streams
        self._open = 0

    def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> Awaitable[None]:
        """Answer a request; `path` lacks `root_path`."""
        if path.startswith(LIFE):
            return self._life(scope, send, path[len(LIFE) + 1 :])
        media = preferred(header(scope, b"accept").decode("latin-1"), (JSON, EVENTS))
        if media == EVENTS:
            return self._stream(scope, receive, send)
        if media is None:
            raise HttpProblem(406, f"this path answers with {JSON} or {EVENTS}")
        return self._changes(scope, send)

    async def _changes(self, scope: Scope, send: Send) -> None:
        given = parameters(scope["query_string"], ASKED)
        now = self._store.clock.now()
        asked = self._asked(given, scope, now)
        found = await self._recall(lambda timeline: queries.changes(timeline, asked, now))
        await answer(scope, send, 200, found.body, _JSON_HEADERS)

    async def _recall(self, question: Callable[[Timeline], T]) -> T:
        """Ask the history as `recall` does; raise a 404 with similar keys for an unknown key."""
        try:
            return await recall(self._history, question)
        except UnknownKeyError as error:
            raise unknown_key(self._store.snapshot, error.sections, error.key) from None

    def _asked(self, given: Mapping[str, str], scope: Scope, now: datetime) -> Asked:
        """Check the parameters, and return the question to the history."""
        for name in ("since", "until"):
            place_or_time(name, given, now)
        sections = tuple(given["sections"].split(",")) if "sections" in given else ()
        require_sections(self._store.snapshot, sections, 400)
        after = given.get("after", "sources/")
        if "/" not in after:
            raise HttpProblem(400, f"after: expected SECTION/KEY, as in `next`; got {shown(after)}")
        require_sections(self._store.snapshot, [after.partition("/")[0]], 400)
        return Asked(
            since=given.get("since"),
            until=given.get("until"),
            sections=sections,
            key=given.get("key"),
            measures=_measures(given),
            kinds=_kinds(given),
            limit=_limit(given.get("limit", "100")),
            after=given.get("after"),
            link=links.ChangesLink(scope.get("root_path", "")),
        )

    async def _life(self, scope: Scope, send: Send, path: str) -> None:
        section, _, key = path.partition("/")
        given = parameters(scope["query_string"], REMEMBERED)
        require_sections(self._store.snapshot, [section], 404)
        id, limit = (section, unquote(key)), _limit(given.get("limit", LIFE_LIMIT))
        asked_for = selection(_measures(given), _kinds(given))
        now, root = self._store.clock.now(), scope.get("root_path", "")
        link = partial(links.entity_history, root, id, given=given)
        place_or_time("before", given, now)

        def life(timeline: Timeline) -> bytes:
            before = given.get("before")
            return queries.entity_history(timeline, id, before, asked_for, limit, now, link)

        await answer(scope, send, 200, await self._recall(life), _JSON_HEADERS)

    # streams

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        now = self._store.clock.now()
        asked = self._asked(parameters(scope["query_string"], STREAMED), scope, now)
        asked = await self._start(asked, header(scope, b"last-event-id").decode("latin-1"), now)
        if self._open >= self._max_streams:
            raise HttpProblem(503, "too many streams are open; retry", {"retry-after": "5"})
        await send({"type": "http.response.start", "status": 200, "headers": _EVENT_HEADERS})
        if scope["method"] == "HEAD":
            return await send(EMPTY)
        stream = Stream(asked)
        gone = asyncio.ensure_future(disconnected(receive))
        gone.add_done_callback(lambda _: stream.close())
        self._open += 1
        try:
            await self._send_events(stream, scope["state"]["connection"])
        finally:
            self._open -= 1
            gone.cancel()
        return await send(EMPTY)

    async def _start(self, asked: Asked, last: str, now: datetime) -> Asked:
        """Start after the last event, else at `since`, else now.

        A client that resumes is refused neither for a place that is gone nor for a key that does
        not exist yet after a restart: a browser would not reconnect.
        """
        if last:
            place = parse(last, now)
            if not isinstance(place, Place):
                raise HttpProblem(400, f"Last-Event-ID: {last!r} is not the id of an event")
            return asked._replace(since=str(place))

        def start(timeline: Timeline) -> Asked:
            queries.require_key(timeline, asked)
            if asked.since is None:
                return asked._replace(since=str(timeline.tip))
            found, is_cut = queries.start(timeline, asked.since, now)
            return asked._replace(since=str(found.place), cut=is_cut)

        return await self._recall(start)

    async def _send_events(self, stream: Stream, connection: ClientConnection) -> None:
        sent: StreamEvent | None = event(b"retry: %d\n" % RETRY_MS, stream.asked)
        while sent:
            await connection.share(sent.chunks)
            sent = await self.streams.wait(stream)


def _measures(given: Mapping[str, str]) -> str:
    measures = given.get("measures", "levels")
    if measures not in MEASURES:
        raise HttpProblem(400, f"measures: expected one of {', '.join(MEASURES)}")
    return measures


def _kinds(given: Mapping[str, str]) -> tuple[str, ...]:
    """Return the kinds in their order; none if the parameter is not given."""
    if "kinds" not in given:
        return ()
    names = given["kinds"].split(",")
    require_names("kind", names, (*KINDS, EVERY_KIND), 400)
    return tuple(kind for kind in KINDS if kind in names or EVERY_KIND in names)


def _limit(limit: str) -> int:
    is_short = limit.isascii() and limit.isdigit() and len(limit) < 10
    if not (is_short and 1 <= int(limit) <= MAX_LIMIT):
        raise HttpProblem(400, f"limit: expected 1 to {MAX_LIMIT:,}")
    return int(limit)
