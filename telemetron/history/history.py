"""The history: a thread that records the publications of the store and answers queries of the past.

The event loop puts publications into a queue and never waits. Only the thread uses the timeline and
the file. Trouble with the file is a problem of the source `history`; everything else goes on.
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
from telemetron.history.limits import DEFAULTS, HistoryLimits
from telemetron.history.place import Place, milliseconds
from telemetron.history.timeline import NAME, Timeline
from telemetron.slices import sliced
from telemetron.store.rope import CHUNK_BYTES
from telemetron.store.source import Source
from telemetron.store.store import Publication, Store

WRITE_SECONDS = 0.5
ALIVE_SECONDS = 10.0
MAX_AGE_SECONDS = 60.0
STOP_SECONDS = 0.4
MAX_RESTART_SECONDS = 5.0
# The thread lets the event loop run at least this often.
SLICE_SECONDS = 0.001
REST_SECONDS = 0.00005

T = TypeVar("T")
FILE_ERRORS = (sqlite3.Error, ArchiveError, OSError, zlib.error, msgspec.MsgspecError)


class BusyError(Exception):
    """There are too many queries, or the thread does not answer in time."""


class History:
    """The history of one store, in memory, and in the file `path` if there is one.

    `listeners` are called on the event loop with each new place.
    """

    def __init__(
        self,
        store: Store,
        limits: HistoryLimits = DEFAULTS,
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
        self._queries = 0
        self._bytes_queued = 0
        """Bytes ever put into the queue; the event loop counts them, the thread those recorded."""
        self._bytes_recorded = 0
        self._end_of_crash: Timer | None = None
        self._ended: asyncio.Event = asyncio.Event()
        self._thread: threading.Thread | None = None
        store.watchers.append(self._published)

    @property
    def has_file(self) -> bool:
        """Whether it outlives the process."""
        return self._path is not None

    def start(self) -> None:
        """Start the thread; call it on the event loop."""
        if self._path is not None:
            self._source = self._store.add(NAME, NAME)
            self._source.start(MAX_AGE_SECONDS)
        recording = HistoryThread(self, asyncio.get_running_loop())
        # A daemon: a disk that hangs must not keep the process from exiting.
        self._thread = threading.Thread(target=recording.run, name=NAME, daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Stop the thread after a last write; wait at most `STOP_SECONDS`."""
        if self._thread is None:
            return
        if self._end_of_crash:
            self._end_of_crash.cancel()
        self._queue_merged()
        self._queue.put(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._ended.wait()

    async def ask(self, query: Callable[[Timeline], T], timeout: float = 30.0) -> T:
        """Run a query in the thread, after everything published so far; return or raise its result.

        Raise BusyError if there are too many, or after `timeout` seconds.
        """
        if self._queries >= self._limits.queries or self._ended.is_set():
            raise BusyError("the history cannot answer now; retry")
        self._queue_merged()
        answered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queries += 1
        self._queue.put((query, answered))
        try:
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            raise BusyError("the history did not answer in time; retry") from None

    # on the loop

    def _published(self, publication: Publication) -> None:
        if self._merged is None and self._has_room:
            return self._queue_up(publication)
        if self._merged is None:
            self._store.clock.call_later(self._limits.drain_seconds, self._drain)
        self._merged = merged(self._merged, publication)
        return None

    @property
    def _has_room(self) -> bool:
        limits = self._limits
        held_bytes = self._bytes_queued - self._bytes_recorded
        return self._queue.qsize() < limits.backlog and held_bytes < limits.backlog_bytes

    def _queue_up(self, publication: Publication) -> None:
        self._bytes_queued += held(publication)
        self._queue.put((publication, self._store.clock.monotonic()))

    def _drain(self) -> None:
        if self._has_room:
            self._queue_merged()
        else:
            self._store.clock.call_later(self._limits.drain_seconds, self._drain)

    def _queue_merged(self) -> None:
        if self._merged is not None:
            self._queue_up(self._merged)
            self._merged = None

    def _settle(self, answered: "asyncio.Future[Any]", result: Any, error: Any) -> None:
        """Deliver an answer; the query counts until then, even if its client has given up."""
        self._queries -= 1
        settle(answered, result, error)

    def _end(self) -> None:
        self._store.watchers.remove(self._published)
        self._ended.set()

    def _call_listeners(self, place: Place) -> None:
        for listener in self.listeners:
            listener(place)

    def _confirm(self) -> None:
        if self._source:
            self._source.confirm()

    def _trouble(self, message: str) -> None:
        if self._source:
            self._source.trouble("", "HistoryUnavailable", message)

    def _crashed(self, message: str) -> None:
        """Show a problem for `failed_seconds`, in a source that is added if there is no file."""
        if self._source is None:
            self._source = self._store.add(NAME, NAME)
            self._source.start(inf)
            self._source.confirm()
        self._source.report("recording", "", "", "Crashed", message)
        if self._end_of_crash:
            self._end_of_crash.cancel()
        self._end_of_crash = self._store.clock.call_later(
            self._limits.failed_seconds, self._source.resolve, "recording", ""
        )


class HistoryThread:
    """The loop of the thread."""

    def __init__(self, history: History, loop: asyncio.AbstractEventLoop) -> None:
        self._history = history
        self._loop = loop
        self._clock: Clock = history._store.clock
        self._backoff = Backoff(first=history._limits.retry_seconds, cap=30.0)
        self._restarts = Backoff(first=0.05, cap=MAX_RESTART_SECONDS)
        self._needs_restart = False
        self._last_crash = ""
        self._write_at = 0.0
        self._alive_at = 0.0
        self._last_trouble = ""

    def run(self) -> None:
        """Work until `History.stop`."""
        history = self._history
        timeline = Timeline(shapes(), history._first, history._limits, history._feeds)
        try:
            while self._work_or_crash(timeline):
                pass
        finally:
            self._close(timeline)
            self._call(history._end)

    def _work_or_crash(self, timeline: Timeline) -> bool:
        """Do one job; after a bug the next call restarts the recording. Return False at the end."""
        try:
            if self._needs_restart:
                timeline.restart(self._clock.monotonic(), milliseconds(self._clock.now()))
                self._needs_restart = False
                self._call(self._history._call_listeners, timeline.tip)
            return self._work(timeline)
        except Exception as error:
            self._needs_restart = True
            self._crashed(error)
        return True

    def _crashed(self, error: Exception) -> None:
        where = extract_tb(error.__traceback__)[-1].name
        message = (
            f"history recording failed ({type(error).__name__} in {where});"
            " some changes were lost and recording restarted"
        )
        if message != self._last_crash:
            logger.exception("history recording failed and restarts; some changes are lost")
            self._last_crash = message
        self._call(self._history._crashed, message)
        time.sleep(self._restarts.next())

    def _work(self, timeline: Timeline) -> bool:
        """Do one job and everything that is due. Return False at the end."""
        tip = timeline.tip
        if timeline.file is None:
            self._do_due(timeline)  # a query may need the file
        with suppress(Empty):
            job = self._history._queue.get(timeout=self._seconds_to_next(timeline))
            if job is None:
                return False
            self._do(job, timeline)
        self._do_due(timeline)
        if timeline.tip != tip:
            self._call(self._history._call_listeners, timeline.tip)
        return True

    def _do(self, job: Any, timeline: Timeline) -> None:
        what, argument = job
        if isinstance(what, Publication):
            self._history._bytes_recorded += held(what)
            yielding(timeline.record(what, argument))
            self._restarts.reset()
        else:
            self._answer(what, argument, timeline)

    def _answer(
        self,
        query: Callable[[Timeline], T],
        answered: "asyncio.Future[T]",
        timeline: Timeline,
    ) -> None:
        result: T | None = None
        error: Exception | None = None
        try:
            if not answered.done():  # else its client has given up
                result = query(timeline)
        except FILE_ERRORS as failure:
            self._report_trouble(timeline, failure)
            error = BusyError("the history file cannot be read; retry")
        except Exception as failure:
            error = failure
        self._call(self._history._settle, answered, result, error)

    def _seconds_to_next(self, timeline: Timeline) -> float:
        """Return the seconds until something is due."""
        now = self._clock.monotonic()
        due = timeline.recorder.due
        waits = [ALIVE_SECONDS] if due is None else [ALIVE_SECONDS, due - now]
        if self._history._path is not None:
            waits.append(self._write_at - now)
        return max(0.0, min(waits))

    def _do_due(self, timeline: Timeline) -> None:
        now = self._clock.monotonic()
        yielding(timeline.record_due(now, milliseconds(self._clock.now())))
        if self._history._path is None or now < self._write_at:
            return
        self._write_at = now + WRITE_SECONDS
        try:
            self._write(timeline)
        except FILE_ERRORS as error:
            self._report_trouble(timeline, error)
        else:
            self._backoff.reset()
            self._last_trouble = ""
            self._call(self._history._confirm)

    def _write(self, timeline: Timeline) -> None:
        at = milliseconds(self._clock.now())
        if timeline.file is None:
            first = self._history._first
            file = Archive(
                str(self._history._path),
                first.id,
                first.epoch,
                milliseconds(first.started_at),
                self._history._limits,
            )
            try:
                timeline.open_file(file)
            except BaseException:
                file.close()
                raise
        elif timeline.has_unwritten or self._alive_at <= self._clock.monotonic():
            self._alive_at = self._clock.monotonic() + ALIVE_SECONDS
            timeline.write(at)

    def _report_trouble(self, timeline: Timeline, error: Exception) -> None:
        """Report an error of the file and retry later; a damaged file is not used again."""
        message = f"{type(error).__name__}: {error}"
        if timeline.file is not None and not isinstance(error, sqlite3.OperationalError):
            timeline.file.close()
            timeline.file = None
        if is_damage(error):
            message += "; it is not used again before the next start"
            self._write_at = inf
        elif self._write_at < inf:
            self._write_at = self._clock.monotonic() + self._backoff.next()
        if message != self._last_trouble:
            logger.warning("the history file cannot be used: {}", message)
            self._last_trouble = message
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
    """Return the bytes that a publication holds at most: its new bodies and the chunks for it."""
    sections = publication.snapshot.sections
    chunks = (
        min(len(keys) * 2 * CHUNK_BYTES, sum(chunk.size for chunk in sections[name].rope.chunks))
        for name, keys in publication.changed.items()
    )
    return publication.new_bytes + sum(chunks)


def is_damage(error: Exception) -> bool:
    """Return whether an error means that the file is damaged."""
    # sqlite3 raises DatabaseError itself, not a subclass, for a damaged file.
    is_base = type(error) is sqlite3.DatabaseError
    return is_base or isinstance(error, DamagedError | zlib.error | msgspec.MsgspecError)


def merged(old: Publication | None, new: Publication) -> Publication:
    """Return one publication in place of two."""
    if old is None:
        return new
    changed = {section: dict(keys) for section, keys in old.changed.items()}
    for section, keys in new.changed.items():
        before = changed.setdefault(section, {})
        before.update({key: moved or before.get(key, False) for key, moved in keys.items()})
    return Publication(new.snapshot, changed, old.new_bytes + new.new_bytes)


def yielding(steps: Iterator[None]) -> None:
    """Run all steps, and let the event loop run in between."""
    for _ in sliced(steps, SLICE_SECONDS):
        time.sleep(REST_SECONDS)


def settle(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    """Deliver an answer, unless its client has given up."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
