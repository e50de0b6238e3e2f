"""`GET /system/state`: the snapshot or a part of it, at once or after a change."""

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import unquote

from telemetron.history import queries
from telemetron.history.archive import GoneError
from telemetron.history.history import History
from telemetron.history.place import Place
from telemetron.history.timeline import Timeline
from telemetron.http import (
    EMPTY,
    Answer,
    HttpProblem,
    Receive,
    Scope,
    Send,
    Shortcut,
    disconnected,
    header,
    route_path,
)
from telemetron.query import duration, flag, parameters
from telemetron.store.rope import Change
from telemetron.store.snapshot import Snapshot
from telemetron.store.store import Store
from telemetron.web.nearest import require_sections, unknown_key
from telemetron.web.negotiation import accepts_gzip
from telemetron.web.recall import place_or_time, recall
from telemetron.web.representation import Representations, Wanted, etag, matches, not_modified
from telemetron.web.routes import STATE as PATH
from telemetron.web.waiters import View, Waiters

WAITING = ("since", "wait", "measures")
MAX_WAITERS = 10_000
CLOCK_SKEW = timedelta(seconds=1)

Parameters = Mapping[str, str]


class LongPoll(NamedTuple):
    """A request for the state after a change."""

    revision: int | None
    """The revision after which to answer. None: an unknown place, so answer at once."""
    seconds: float
    """How long to wait for a change; 0 to answer at once."""
    measures: bool
    """Whether a change of only measures counts."""


class StateApp:
    """Answers `/system/state`, from representations that are made once for each revision."""

    def __init__(self, store: Store, waiters: Waiters, history: History) -> None:
        self._store = store
        self._history = history
        self._waiters = waiters
        self._representations = Representations(store.snapshot)
        self._whole = View(tuple(name for name in store.snapshot.sections if name != "sources"))
        store.watchers.append(waiters.published)

    def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> Awaitable[None]:
        """Answer a request; `path` begins with `/system/state` and lacks `root_path`."""
        if path == PATH and not scope["query_string"]:
            return self._send(self._whole, scope, send)
        return self._select(scope, receive, send, path)

    def shortcut(self, scope: Scope) -> Shortcut | None:
        """Answer the whole state or a section by a shortcut, as long as its bytes are ready."""
        path = route_path(scope)
        section = path[len(PATH) + 1 :]
        if scope["query_string"] or (path != PATH and section not in self._store.snapshot.sections):
            return None
        view = View((section,)) if section else self._whole
        condition = header(scope, b"if-none-match")
        gzip = accepts_gzip(header(scope, b"accept-encoding"))
        wanted, store = Wanted(view, condition, gzip=gzip), self._store

        def ready(body: bytes) -> Answer | None:
            made = self._representations
            # A client that has just put something must see it.
            if made.snapshot is not store.snapshot or store.is_flush_due:
                return None
            return made.answer(wanted)

        return ready

    async def _select(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        section, _, key = path[len(PATH) + 1 :].partition("/")
        known = ("at", *WAITING) if section else ("sections", "at", *WAITING)
        given = parameters(scope["query_string"], known)
        view, poll = self._view(section, unquote(key), given), await self._long_poll(given)
        if "at" in given:
            past = await self._past(given)
            _require(past, view)
            if poll:
                await self._pause(view, poll)
            return await self._send(view, scope, send, Representations(past))
        _require(self._store.snapshot, view)
        if poll is None:
            return await self._send(view, scope, send)
        newer = await self._is_newer(view, poll, receive)
        _require(self._store.snapshot, view)  # the entity may have gone during the wait
        if newer:
            return await self._send(view, scope, send)
        await send(not_modified(etag(self._store.snapshot, view)))
        return await send(EMPTY)

    async def _send(
        self, view: View, scope: Scope, send: Send, past: Representations | None = None
    ) -> None:
        """Send the view. The connection counts the chunks of a large answer while it is unread."""
        if past is None and self._representations.snapshot is not self._store.snapshot:
            await self._renew(view)
        representations = past or self._representations
        headers = dict(scope["headers"])
        chosen = representations.plain(view)
        if b"if-none-match" in headers and matches(header(scope, b"if-none-match"), chosen.etag):
            await send(not_modified(chosen.etag))
            return await send(EMPTY)
        if b"accept-encoding" in headers and accepts_gzip(header(scope, b"accept-encoding")):
            chosen = await representations.gzip(view)
        if chosen.only is not None:
            await send(chosen.start)
            return await send(chosen.only)
        with scope["state"]["connection"].hold(chosen.chunks):
            await send(chosen.start)
            for chunk in chosen.chunks if scope["method"] == "GET" else ():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            return await send(EMPTY)

    async def _renew(self, view: View) -> None:
        """Turn to the current snapshot; join its chunks one by one, so that others get a turn."""
        if view.key is None:
            for section in self._store.snapshot.sections.values():
                for _ in section.rope.join():
                    await asyncio.sleep(0)
        if self._representations.snapshot is not self._store.snapshot:
            self._representations = Representations(self._store.snapshot)

    # the request

    def _view(self, section: str, key: str, given: Parameters) -> View:
        """Return the view that the path and `sections` name. Raises a 400 or 404."""
        if section:
            require_sections(self._store.snapshot, [section], 404)
            return View((section,), key or None)
        if "sections" not in given:
            return self._whole
        names = given["sections"].split(",")
        require_sections(self._store.snapshot, names, 400)
        return View(tuple(name for name in self._store.snapshot.sections if name in names))

    async def _past(self, given: Parameters) -> Snapshot:
        """Return the snapshot at the place or time `at`."""
        now = self._store.clock.now()
        _require_past(place_or_time("at", given, now), given["at"], now)

        def past(timeline: Timeline) -> Snapshot:
            snapshot = queries.snapshot(timeline, given["at"], now)
            for section in snapshot.sections.values():
                for _ in section.rope.join():  # in the history's thread, not on the event loop
                    pass
            return snapshot

        return await recall(self._history, past)

    async def _long_poll(self, given: Parameters) -> LongPoll | None:
        """Return the long poll that the parameters describe; None to answer with the state now."""
        seconds = duration("wait", given["wait"]) if "wait" in given else 0.0
        measures = flag("measures", given["measures"]) if "measures" in given else False
        now = self._store.clock.now()
        since = place_or_time("since", given, now)
        if isinstance(since, datetime):
            since = await recall(self._history, lambda timeline: _place(timeline, given, now))
        if since is None and not seconds and "since" not in given:
            return None
        known = since is not None and since.epoch == self._store.snapshot.epoch
        return LongPoll(since.revision if since and known else None, seconds, measures)

    # long polls

    async def _is_newer(self, view: View, poll: LongPoll, receive: Receive) -> bool:
        """Wait for a change of the view; return whether there is one.

        An unknown place, and one ahead of the current revision, count as changed at once.
        """
        revision = poll.revision
        if revision is None or revision > self._store.snapshot.change.revision:
            await self._pause(view, poll)
            return True
        if not poll.seconds or self._waiters.stopping:
            return self._has_changed(view, poll, revision)
        if self._has_changed(view, poll, revision):
            await self._pause(view, poll)
        if len(self._waiters) >= MAX_WAITERS:
            raise HttpProblem(503, "too many long polls are waiting; retry", {"retry-after": "5"})
        changed = asyncio.ensure_future(self._changed(view, poll, revision))
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait({changed, gone}, return_when=asyncio.FIRST_COMPLETED)
            return changed.done() and changed.result()
        finally:
            changed.cancel()
            gone.cancel()

    async def _pause(self, view: View, poll: LongPoll) -> None:
        """Delay the answer to a client that repeats a request that need not wait."""
        await self._waiters.pause(min(poll.seconds, self._waiters.at_once((view, poll))))

    async def _changed(self, view: View, poll: LongPoll, revision: int) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + poll.seconds
        while not self._has_changed(view, poll, revision):
            if not await self._waiters.wait(view, poll.measures, until - loop.time()):
                return self._has_changed(view, poll, revision)
        await self._waiters.pause(min(self._waiters.too_soon(revision), until - loop.time()))
        _require(self._store.snapshot, view)
        return True

    def _has_changed(self, view: View, poll: LongPoll, revision: int) -> bool:
        change = _require(self._store.snapshot, view)
        return (change.revision if poll.measures else change.state_revision) > revision


def _place(timeline: Timeline, given: Parameters, now: datetime) -> Place | None:
    """Return the last place before the time `since`; None if that place is not kept."""
    try:
        return timeline.resolve(given["since"], now).place
    except GoneError:
        return None


def _require_past(at: Place | datetime | None, text: str, now: datetime) -> None:
    """Raise a 400 for a time in the future; the client's clock may be slightly ahead."""
    if isinstance(at, datetime) and at > now + CLOCK_SKEW:
        raise HttpProblem(400, f"at: {text!r} is in the future; now is {now:%Y-%m-%dT%H:%M:%SZ}")


def _require(snapshot: Snapshot, view: View) -> Change:
    """Return the view's last change. Raises a 404 that names similar keys."""
    change = snapshot.change_of(*view)
    if change is None:
        raise unknown_key(snapshot, view.sections, str(view.key))
    return change
