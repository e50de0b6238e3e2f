"""The history: a thread that records what the store publishes, and answers for the past.

The event loop hands publications over and waits for nothing. The thread alone has the timeline and
the file; whatever is wrong with the file is the problem of a source, `history`, and nobody else's.
"""

import asyncio
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from traceback import extract_tb
from typing import Any, TypeVar

import msgspec
from loguru import logger

from telemetron.backoff import Backoff
from telemetron.clock import Clock, Timer
from telemetron.history.archive import Archive, ArchiveError, DamagedError
from telemetron.history.delta import shapes
from telemetron.history.place import Place, milliseconds
from telemetron.history.timeline import NAME, Limits, Timeline
from telemetron.slices import sliced
from telemetron.store.rope import CHUNK_BYTES
from telemetron.store.source import Source
from telemetron.store.store import Publication, Store

WRITE_SECONDS = 0.5
LIVE_SECONDS = 10.0
PROMISE_SECONDS = 60.0
# More publications than this that wait for the thread, or hold back more, become one.
BACKLOG = 1_000
BACKLOG_BYTES = 64 * 1024 * 1024
DRAIN_SECONDS = 0.1
MAX_QUESTIONS = 256
DEFAULTS = Limits()
STOP_SECONDS = 0.4
# So long it is told that recording failed; an error that comes again is not tried more often.
FAILED_SECONDS = 30.0
MAX_REST_SECONDS = 5.0
# The thread lets others run at least so often, seconds.
SLICE_SECONDS = 0.001
REST_SECONDS = 0.00005

T = TypeVar("T")
FILE_ERRORS = (sqlite3.Error, ArchiveError, OSError, zlib.error, msgspec.MsgspecError)


class BusyError(Exception):
    """Too many ask for the past at once, or the thread does not answer."""


class History:
    """Of one store, in memory, and in the file `path` where there is one.

    `listeners` are told, on the event loop, of each place up to which something was recorded.
    """

    def __init__(
        self,
        store: Store,
        limits: Limits = DEFAULTS,
        path: str | None = None,
        feeds: Callable[[str], Collection[str]] = lambda collector: (),
    ) -> None:
        self.listeners: list[Callable[[Place], None]] = []
        self._store = store
        self._first = store.snapshot
        self._limits = limits
        self._feeds = feeds
        self._path = path
        self._source: Source | None = None
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._merged: Publication | None = None
        self._questions = 0
        self._given = 0
        """Bytes that were handed over; only the loop counts them, and what was taken the thread."""
        self._taken = 0
        self._well: Timer | None = None
        self._ended: asyncio.Event = asyncio.Event()
        self._thread: threading.Thread | None = None
        store.watchers.append(self._published)

    def start(self) -> None:
        """Begin to record, within the running loop."""
        if self._path is not None:
            self._source = self._store.add(NAME, NAME)
            self._source.start(PROMISE_SECONDS)
        worker = Worker(self, asyncio.get_running_loop())
        # A daemon, so that a disk that hangs does not keep the process from its end.
        self._thread = threading.Thread(target=worker.run, name=NAME, daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Write what is left; wait for that, but not long."""
        if self._thread is None:
            return
        if self._well:
            self._well.cancel()
        self._drain()
        self._queue.put(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._ended.wait()

    async def ask(self, question: Callable[[Timeline], T], timeout: float = 30.0) -> T:
        """What the timeline answers, or raises, after all that is published now; BusyError."""
        if self._questions >= MAX_QUESTIONS or self._ended.is_set():
            raise BusyError("the history cannot answer now; ask again")
        self._drain()
        answered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._questions += 1
        self._queue.put((question, answered))
        try:
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            raise BusyError("the history does not answer in time; ask again") from None

    # on the loop

    def _published(self, publication: Publication) -> None:
        if self._merged is None and self._has_room:
            return self._hand_over(publication)
        if self._merged is None:
            self._store.clock.call_later(DRAIN_SECONDS, self._drain_some)
        self._merged = merged(self._merged, publication)
        return None

    @property
    def _has_room(self) -> bool:
        return self._queue.qsize() < BACKLOG and self._given - self._taken < BACKLOG_BYTES

    def _hand_over(self, publication: Publication) -> None:
        self._given += held(publication)
        self._queue.put((publication, self._store.clock.monotonic()))

    def _drain_some(self) -> None:
        if self._has_room:
            self._drain()
        else:
            self._store.clock.call_later(DRAIN_SECONDS, self._drain_some)

    def _drain(self) -> None:
        if self._merged is not None:
            self._hand_over(self._merged)
            self._merged = None

    def _settle(self, answered: "asyncio.Future[Any]", result: Any, error: Any) -> None:
        """A question counts until here, even if nobody waits for its answer any more."""
        self._questions -= 1
        settle(answered, result, error)

    def _end(self) -> None:
        self._store.watchers.remove(self._published)
        self._ended.set()

    def _news(self, place: Place) -> None:
        for listener in self.listeners:
            listener(place)

    def _confirm(self) -> None:
        if self._source:
            self._source.confirm()

    def _trouble(self, message: str) -> None:
        if self._source:
            self._source.trouble("", "HistoryUnavailable", message)

    def _failed(self, message: str) -> None:
        """A bug of ours is told for a while, in a row of its own where there is no file."""
        if self._source is None:
            self._source = self._store.add(NAME, NAME)
            self._source.start(inf)
            self._source.confirm()
        self._source.report("recording", "", "", "Crashed", message)
        if self._well:
            self._well.cancel()
        self._well = self._store.clock.call_later(
            FAILED_SECONDS, self._source.resolve, "recording", ""
        )


class Worker:
    """The thread's side."""

    def __init__(self, history: History, loop: asyncio.AbstractEventLoop) -> None:
        self._history = history
        self._loop = loop
        self._clock: Clock = history._store.clock
        self._backoff = Backoff(first=1.0, cap=30.0)
        self._rest = Backoff(first=0.05, cap=MAX_REST_SECONDS)
        self._is_torn = False
        self._cried = ""
        self._write_at = 0.0
        self._live_at = 0.0
        self._said = ""

    def run(self) -> None:
        """Until it is told to end."""
        history = self._history
        timeline = Timeline(shapes(), history._first, history._limits, history._feeds)
        try:
            while self._survives(timeline):
                pass
        finally:
            self._close(timeline)
            self._call(history._end)

    def _survives(self, timeline: Timeline) -> bool:
        """A bug costs what it hindered, not all to come; False at the end."""
        try:
            if self._is_torn:
                timeline.restart(self._clock.monotonic(), milliseconds(self._clock.now()))
                self._is_torn = False
                self._call(self._history._news, timeline.tip)
            return self._work(timeline)
        except Exception as error:
            self._is_torn = True
            self._crashed(error)
        return True

    def _crashed(self, error: Exception) -> None:
        where = extract_tb(error.__traceback__)[-1].name
        message = f"{type(error).__name__} in {where}: not all was recorded; it began anew"
        if message != self._cried:
            logger.exception("the history failed; it begins anew")
            self._cried = message
        self._call(self._history._failed, message)
        time.sleep(self._rest.next())

    def _work(self, timeline: Timeline) -> bool:
        """One job, and what is due; False at the end."""
        tip = timeline.tip
        with suppress(Empty):
            job = self._history._queue.get(timeout=self._patience(timeline))
            if job is None:
                return False
            self._do(job, timeline)
        self._tend(timeline)
        if timeline.tip != tip:
            self._call(self._history._news, timeline.tip)
        return True

    def _do(self, job: Any, timeline: Timeline) -> None:
        what, argument = job
        if isinstance(what, Publication):
            self._history._taken += held(what)
            yielding(timeline.record(what, argument))
            self._rest.reset()
        else:
            self._answer(what, argument, timeline)

    def _answer(
        self,
        question: Callable[[Timeline], T],
        answered: "asyncio.Future[T]",
        timeline: Timeline,
    ) -> None:
        result: T | None = None
        error: Exception | None = None
        try:
            if not answered.done():  # else nobody waits for it any more
                result = question(timeline)
        except FILE_ERRORS as failure:
            self._failed(timeline, failure)
            error = BusyError("the file of the history cannot be read")
        except Exception as failure:
            error = failure
        self._call(self._history._settle, answered, result, error)

    def _patience(self, timeline: Timeline) -> float:
        """Seconds until something is due."""
        now = self._clock.monotonic()
        due = timeline.recorder.due
        waits = [LIVE_SECONDS] if due is None else [LIVE_SECONDS, due - now]
        if self._history._path is not None:
            waits.append(self._write_at - now)
        return max(0.0, min(waits))

    def _tend(self, timeline: Timeline) -> None:
        now = self._clock.monotonic()
        yielding(timeline.late(now, milliseconds(self._clock.now())))
        if self._history._path is None or now < self._write_at:
            return
        self._write_at = now + WRITE_SECONDS
        try:
            self._write(timeline)
        except FILE_ERRORS as error:
            self._failed(timeline, error)
        else:
            self._backoff.reset()
            self._said = ""
            self._call(self._history._confirm)

    def _write(self, timeline: Timeline) -> None:
        at = milliseconds(self._clock.now())
        if timeline.file is None:
            first = self._history._first
            file = Archive(
                str(self._history._path), first.id, first.epoch, milliseconds(first.started_at)
            )
            try:
                timeline.open_file(file)
            except BaseException:
                file.close()
                raise
        elif timeline.has_unwritten or self._live_at <= self._clock.monotonic():
            self._live_at = self._clock.monotonic() + LIVE_SECONDS
            timeline.write(at)

    def _failed(self, timeline: Timeline, error: Exception) -> None:
        """Say so; try again later, but for a file that is damaged: it is left as it is."""
        message = f"{type(error).__name__}: {error}"
        if timeline.file is not None and not isinstance(error, sqlite3.OperationalError):
            timeline.file.close()
            timeline.file = None
        if is_damage(error):
            message += "; it is not used any more before the next start"
            self._write_at = inf
        elif self._write_at < inf:
            self._write_at = self._clock.monotonic() + self._backoff.next()
        if message != self._said:
            logger.warning("the file of the history cannot be used: {}", message)
            self._said = message
        self._call(self._history._trouble, message)

    def _close(self, timeline: Timeline) -> None:
        if timeline.file is not None:
            with suppress(*FILE_ERRORS):
                timeline.write(milliseconds(self._clock.now()))
            timeline.file.close()
        timeline.close()

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)


def held(publication: Publication) -> int:
    """How many bytes it holds back at most: what is new, and the chunks that were made for it."""
    sections = publication.snapshot.sections
    chunks = (
        min(len(keys) * 2 * CHUNK_BYTES, sum(chunk.size for chunk in sections[name].rope.chunks))
        for name, keys in publication.changed.items()
    )
    return publication.new_bytes + sum(chunks)


def is_damage(error: Exception) -> bool:
    """Whether what is in the file is not what was written."""
    # Of the database's errors, those without a class of their own say so.
    is_base = type(error) is sqlite3.DatabaseError
    return is_base or isinstance(error, DamagedError | zlib.error | msgspec.MsgspecError)


def merged(old: Publication | None, new: Publication) -> Publication:
    """One publication instead of two."""
    if old is None:
        return new
    changed = {section: dict(keys) for section, keys in old.changed.items()}
    for section, keys in new.changed.items():
        before = changed.setdefault(section, {})
        before.update({key: moved or before.get(key, False) for key, moved in keys.items()})
    return Publication(new.snapshot, changed, old.new_bytes + new.new_bytes)


def yielding(steps: Iterator[None]) -> None:
    """Take all steps; the event loop gets its turn in between."""
    for _ in sliced(steps, SLICE_SECONDS):
        time.sleep(REST_SECONDS)


def settle(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    """Answer, if somebody still waits for it."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
