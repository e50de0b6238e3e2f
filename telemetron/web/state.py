"""`GET /system/state`: the snapshot, whole or in part, at once or when it has changed."""

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import unquote

from telemetron.history import fold
from telemetron.history.archive import GoneError
from telemetron.history.history import History
from telemetron.history.place import Place
from telemetron.history.timeline import Timeline
from telemetron.http import EMPTY, HttpProblem, Receive, Scope, Send, header, require_method
from telemetron.query import duration, flag, parameters, shown
from telemetron.store.rope import Change
from telemetron.store.snapshot import Snapshot
from telemetron.store.store import Store
from telemetron.web.answer import Answers, accepts_gzip, etag, matches, not_modified
from telemetron.web.nearest import unknown_key
from telemetron.web.recall import recall, when
from telemetron.web.waiters import View, Waiters

PATH = "/system/state"
WAITING = ("since", "wait", "measures")
MAX_WAITERS = 10_000
CLOCK_SKEW = timedelta(seconds=1)

Asked = Mapping[str, str]


class Wait(NamedTuple):
    """What a long poll asks for: a change after this revision, and for how long."""

    revision: int | None
    """None: an unknown place, or none."""
    seconds: float
    measures: bool


class StateApp:
    """Answers for the snapshot; what is asked without parameters is ready before it is asked."""

    def __init__(self, store: Store, waiters: Waiters, history: History) -> None:
        self._store = store
        self._history = history
        self._waiters = waiters
        self._answers = Answers(store.snapshot)
        self._whole = View(tuple(name for name in store.snapshot.sections if name != "sources"))
        store.watchers.append(waiters.published)

    def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> Awaitable[None]:
        """`path` is below `root_path`, and begins with `/system/state`."""
        if scope["method"] not in ("GET", "HEAD"):
            require_method(scope, "GET", "HEAD")
        if path == PATH and not scope["query_string"]:
            return self._send(self._whole, scope, send)
        return self._select(scope, receive, send, path)

    async def _select(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        section, _, key = path[len(PATH) + 1 :].partition("/")
        known = ("at", *WAITING) if section else ("sections", "at", *WAITING)
        asked = parameters(scope["query_string"], known)
        view, wait = self._view(section, unquote(key), asked), await self._wait(asked)
        if "at" in asked:
            past = await self._past(asked)
            _require(past, view)
            if wait:
                await self._pause(view, wait)
            return await self._send(view, scope, send, Answers(past))
        _require(self._store.snapshot, view)
        if wait is None:
            return await self._send(view, scope, send)
        newer = await self._is_newer(view, wait, receive)
        _require(self._store.snapshot, view)  # it may have gone while it was waited for
        if newer:
            return await self._send(view, scope, send)
        await send(not_modified(etag(self._store.snapshot, view)))
        return await send(EMPTY)

    async def _send(
        self, view: View, scope: Scope, send: Send, past: Answers | None = None
    ) -> None:
        """Of a large answer a slow reader holds references, for which its connection answers."""
        if past is None and self._answers.snapshot is not self._store.snapshot:
            await self._renew(view)
        answers = past or self._answers
        headers = dict(scope["headers"])
        answer = answers.plain(view)
        if b"if-none-match" in headers and matches(header(scope, b"if-none-match"), answer.etag):
            await send(not_modified(answer.etag))
            return await send(EMPTY)
        if b"accept-encoding" in headers and accepts_gzip(header(scope, b"accept-encoding")):
            answer = await answers.gzip(view)
        if answer.only is not None:
            await send(answer.start)
            return await send(answer.only)
        with scope["state"]["connection"].hold(answer.chunks):
            await send(answer.start)
            for chunk in answer.chunks if scope["method"] == "GET" else ():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            return await send(EMPTY)

    async def _renew(self, view: View) -> None:
        """Answer for the present snapshot; where that is large, others get their turn meanwhile."""
        if view.key is None:
            for section in self._store.snapshot.sections.values():
                for _ in section.rope.join():
                    await asyncio.sleep(0)
        if self._answers.snapshot is not self._store.snapshot:
            self._answers = Answers(self._store.snapshot)

    # what is asked

    def _view(self, section: str, key: str, asked: Asked) -> View:
        """All, some sections, one, or one entity of it; 404 names what there is."""
        known = self._store.snapshot.sections
        if not section:
            return self._sections(asked)
        if section not in known:
            raise HttpProblem(404, f"no section {shown(section)}; there are {', '.join(known)}")
        return View((section,), key or None)

    async def _past(self, asked: Asked) -> Snapshot:
        now = self._store.clock.now()
        _require_past(when("at", asked, now), asked["at"], now)

        def past(timeline: Timeline) -> Snapshot:
            snapshot = fold.snapshot(timeline, asked["at"], now)
            for section in snapshot.sections.values():
                for _ in section.rope.join():  # here, not on the event loop
                    pass
            return snapshot

        return await recall(self._history, past)

    def _sections(self, asked: Asked) -> View:
        if "sections" not in asked:
            return self._whole
        known = self._store.snapshot.sections
        names = asked["sections"].split(",")
        for name in names:
            if name not in known:
                raise HttpProblem(400, f"no section {shown(name)}; there are {', '.join(known)}")
        return View(tuple(name for name in known if name in names))

    async def _wait(self, asked: Asked) -> Wait | None:
        """What to wait for; None: the present state is asked for, whatever it is."""
        seconds = duration("wait", asked["wait"]) if "wait" in asked else 0.0
        measures = flag("measures", asked["measures"]) if "measures" in asked else False
        now = self._store.clock.now()
        since = when("since", asked, now)
        if isinstance(since, datetime):
            since = await recall(self._history, lambda timeline: _place(timeline, asked, now))
        if since is None and not seconds and "since" not in asked:
            return None
        known = since is not None and since.epoch == self._store.snapshot.epoch
        return Wait(since.revision if since and known else None, seconds, measures)

    # long polls

    async def _is_newer(self, view: View, wait: Wait, receive: Receive) -> bool:
        """Whether there is something to show: at once for an unknown or future place."""
        revision = wait.revision
        if revision is None or revision > self._store.snapshot.change.revision:
            await self._pause(view, wait)
            return True
        if not wait.seconds or self._waiters.stopping:
            return self._has_changed(view, wait, revision)
        if self._has_changed(view, wait, revision):
            await self._pause(view, wait)
        if len(self._waiters) >= MAX_WAITERS:
            raise HttpProblem(503, "too many long polls wait; ask again", {"retry-after": "5"})
        changed = asyncio.ensure_future(self._changed(view, wait, revision))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({changed, gone}, return_when=asyncio.FIRST_COMPLETED)
            return changed.done() and changed.result()
        finally:
            changed.cancel()
            gone.cancel()

    async def _pause(self, view: View, wait: Wait) -> None:
        """Hold back a client that asks the same again and again, and need not wait."""
        await self._waiters.pause(min(wait.seconds, self._waiters.at_once((view, wait))))

    async def _changed(self, view: View, wait: Wait, revision: int) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + wait.seconds
        while not self._has_changed(view, wait, revision):
            if not await self._waiters.wait(view, wait.measures, until - loop.time()):
                return self._has_changed(view, wait, revision)
        await self._waiters.pause(min(self._waiters.too_soon(revision), until - loop.time()))
        _require(self._store.snapshot, view)
        return True

    def _has_changed(self, view: View, wait: Wait, revision: int) -> bool:
        change = _require(self._store.snapshot, view)
        return (change.revision if wait.measures else change.state_revision) > revision


def _place(timeline: Timeline, asked: Asked, now: datetime) -> Place | None:
    """The place that `since` means, which is a time; None: nothing is kept of it."""
    try:
        return timeline.resolve(asked["since"], now).place
    except GoneError:
        return None


def _require_past(at: Place | datetime | None, text: str, now: datetime) -> None:
    """400 for what is yet to come; the reader's clock may be a little ahead."""
    if isinstance(at, datetime) and at > now + CLOCK_SKEW:
        raise HttpProblem(400, f"at: {text!r} is in the future; now is {now:%Y-%m-%dT%H:%M:%SZ}")


def _require(snapshot: Snapshot, view: View) -> Change:
    """When it changed last; 404 with the nearest keys where there is no such entity."""
    change = snapshot.change_of(*view)
    if change is None:
        raise unknown_key(snapshot, view.sections, str(view.key))
    return change


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
