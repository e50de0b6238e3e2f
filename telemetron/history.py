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
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import msgspec
from loguru import logger

from telemetron.archive import Archive, ArchiveError
from telemetron.backoff import Backoff
from telemetron.clock import Clock
from telemetron.delta import shapes
from telemetron.place import Place, milliseconds
from telemetron.source import Source
from telemetron.store import Publication, Store
from telemetron.timeline import NAME, Limits, Timeline

WRITE_SECONDS = 0.5
LIVE_SECONDS = 10.0
PROMISE_SECONDS = 60.0
# More publications than this that wait for the thread become one.
BACKLOG = 1_000
DRAIN_SECONDS = 0.1
MAX_QUESTIONS = 256
DEFAULTS = Limits()
STOP_SECONDS = 0.4
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
        try:
            self._queue.put((question, answered))
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            raise BusyError("the history does not answer in time; ask again") from None
        finally:
            self._questions -= 1

    # on the loop

    def _published(self, publication: Publication) -> None:
        if self._merged is None and self._queue.qsize() < BACKLOG:
            self._queue.put((publication, self._store.clock.monotonic()))
            return
        if self._merged is None:
            self._store.clock.call_later(DRAIN_SECONDS, self._drain_some)
        self._merged = merged(self._merged, publication)

    def _drain_some(self) -> None:
        if self._queue.qsize() < BACKLOG:
            self._drain()
        else:
            self._store.clock.call_later(DRAIN_SECONDS, self._drain_some)

    def _drain(self) -> None:
        if self._merged is not None:
            self._queue.put((self._merged, self._store.clock.monotonic()))
            self._merged = None

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


class Worker:
    """The thread's side."""

    def __init__(self, history: History, loop: asyncio.AbstractEventLoop) -> None:
        self._history = history
        self._loop = loop
        self._clock: Clock = history._store.clock
        self._backoff = Backoff(first=1.0, cap=30.0)
        self._write_at = 0.0
        self._live_at = 0.0
        self._said = ""

    def run(self) -> None:
        """Until it is told to end."""
        history = self._history
        timeline = Timeline(shapes(), history._first, history._limits, history._feeds)
        try:
            while self._work(timeline):
                pass
        except Exception:
            logger.exception("the history failed; nothing is recorded any more")
        finally:
            self._close(timeline)
            self._call(history._end)

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
            yielding(timeline.record(what, argument))
            return
        result: Any = None
        error: Exception | None = None
        try:
            result = what(timeline)
        except FILE_ERRORS as failure:
            self._failed(timeline, failure)
            error = BusyError("the file of the history cannot be read")
        except Exception as failure:
            error = failure
        self._call(settle, argument, result, error)

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
        """Say so; try again later. A file that is damaged is not touched until it is looked at."""
        full = isinstance(error, sqlite3.OperationalError)
        if timeline.file is not None and not full:
            timeline.file.close()
            timeline.file = None
        self._write_at = self._clock.monotonic() + self._backoff.next()
        message = f"{type(error).__name__}: {error}"
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
    until = time.perf_counter() + SLICE_SECONDS
    for _ in steps:
        if time.perf_counter() > until:
            time.sleep(REST_SECONDS)
            until = time.perf_counter() + SLICE_SECONDS


def settle(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    """Answer, if somebody still waits for it."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
