"""The daemon thread that sends heartbeats, and backs off when the server fails."""

from __future__ import annotations

import http.client
import queue
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from .beat import MAX_BYTES, MAX_TASKS, encode, encode_ends
from .endpoint import Answer, Endpoint, InvalidTokenError
from .log import warn
from .once import Once
from .task import Task
from .text import rfc3339, text

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import
if TYPE_CHECKING:
    from .activity import End

GOODBYE_TIMEOUT = 1.0
LAST_BEAT_TIMEOUT = 0.5
"""Seconds for the beat before the goodbye, which is only sent if it has ends to list."""
MAX_BACKOFF = 15.0
REFUSED = (400, 404, 413, 415, 422)
"""The statuses that mean that the beat itself is invalid."""
MAX_WARNINGS = 16
"""The most different refusals that one reporter logs."""
LEAST_BYTES = 8 * 1024
"""A 413 never makes the limit of a beat smaller than this."""


class Timing(NamedTuple):
    """Durations in seconds."""

    debounce: float = 0.25
    """From the first change to the beat that reports it and all later changes."""
    request_timeout: float = 5.0
    first_backoff: float = 0.25


TIMING = Timing()

State = Callable[[int], "tuple[dict[str, object], list[weakref.ref[Task]]]"]
"""Returns a beat's head and at most so many of the oldest tasks."""


class Reporter:
    """Sends beats for one instance of an agent until closed, then a goodbye.

    state(most) returns a beat's head and its `most` oldest tasks, ends() the ends to list, token()
    the bearer token; all are called for each beat. accept(end) is called when the server has
    accepted a beat with this end. The first beat waits for `after`, the goodbye of an earlier life.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        name: str,
        instance: str,
        namespace: str | None,
        interval: float,
        token: Callable[[], str | None],
        state: State,
        ends: Callable[[], list[End]] = list,
        accept: Callable[[End], object] = id,
        after: Once | None = None,
        timing: Timing = TIMING,
    ) -> None:
        self._endpoint = endpoint
        self._name = name
        agent = f"/agents/{quote(name, safe='')}"
        query = f"?namespace={quote(namespace, safe='')}" if namespace else ""
        self._beats = f"{agent}/heartbeat"
        self._goodbyes = f"{agent}/instances/{quote(instance, safe='')}{query}"
        self._interval = interval
        self._token = token
        self._state = state
        self._ends = ends
        self._accept = accept
        self._after = after
        self._timing = timing
        self._sequence = 0
        self._limit = MAX_BYTES
        self._trouble = Trouble(f"agent {name!r}", endpoint.place, timing.first_backoff)
        # Not an Event: a signal handler or the garbage collector may interrupt put() and call
        # it again; an Event would then deadlock.
        self._signals: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._changed = False
        self._flushes: deque[Flush] = deque()
        self._closed: deque[float] = deque()
        self._unstarted = [None]
        self._thread = 0
        self.started = False
        self.done = Once()
        """Set once the goodbye was sent, or failed."""

    @property
    def _closing(self) -> bool:
        return bool(self._closed)

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        if self._closing:
            return
        try:
            self._unstarted.pop()  # atomic; a lock would deadlock in a signal handler
        except IndexError:
            return
        self.started = True
        try:
            threading.Thread(target=self._run, name="telemetron", daemon=True).start()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            self.done.set()
            warn("agent %r does not report: %s", self._name, error)

    def change(self) -> None:
        """Send a beat soon, because tasks have changed."""
        if not self._changed:
            self._changed = True
            self._signals.put(None)

    def flush(self, timeout: float) -> bool:
        """Send a beat now, even during a backoff; return whether it was accepted in time."""
        if self._closing or self.done.happened or self._is_here():
            return False
        self.start()
        flush = Flush()
        self._flushes.append(flush)
        self._signals.put(None)
        return flush.over.wait(_seconds(timeout)) and flush.accepted

    def close(self, timeout: float) -> None:
        """Let the thread send the goodbye and end; wait at most `timeout` seconds.

        The timeout counts from the first call, so that signal handlers that interrupt each other
        and all call close() share it.
        """
        self._closed.append(time.monotonic())
        self._signals.put(None)
        last = self.last
        if last and not self._is_here():
            last.wait(max(0.0, self._closed[0] + _seconds(timeout) - time.monotonic()))

    @property
    def last(self) -> Once | None:
        """The goodbye that may still be sent: an earlier life's if this reporter never started."""
        return self.done if self.started else self._after

    def _is_here(self) -> bool:
        """Return whether this is the reporter's thread, as in a log handler that calls flush()."""
        return self._thread == threading.get_ident()

    def _run(self) -> None:
        self._thread = threading.get_ident()
        if self._after:
            self._after.wait(self._timing.request_timeout + GOODBYE_TIMEOUT)
        while not self._closing:
            flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
            pause = self._beat()
            for flush in flushes:
                flush.end(accepted=not self._trouble.failures)
            self._pause(pause)
        while self._flushes:
            self._flushes.popleft().end(accepted=False)
        self._goodbye()
        self.done.set()

    def _beat(self, timeout: float | None = None) -> float:
        """Send one beat; return the seconds until the next."""
        self._changed = False
        self._sequence += 1
        pause = self._interval * random.uniform(0.9, 1.1)
        try:
            head, tasks = self._state(MAX_TASKS)
            head.update(sequence=self._sequence, sent_at=rfc3339(time.time()))
            ends = self._ends()
            ended, listed = encode_ends(ends, self._limit)
            body = encode(head, tasks, self._limit, ended)
            timeout = self._timing.request_timeout if timeout is None else timeout
            answer = self._endpoint.send("POST", self._beats, body, self._token(), timeout)
        except Exception as error:
            return self._trouble.begin(describe(error))
        if answer.status < 300:
            self._trouble.end()
            if listed:
                self._accept(listed[-1])
            if len(listed) < len(ends):
                self.change()  # the others with the next beat
            return pause
        if answer.status == 413:
            self._limit = max(len(body) // 2, LEAST_BYTES)
        backoff = self._trouble.begin(refusal(answer), answer.status in REFUSED)
        return max(backoff, answer.retry_after)

    def _pause(self, seconds: float) -> None:
        """Sleep; a change shortens the sleep to the debounce, but not during a backoff."""
        until = time.monotonic() + seconds
        while not self._closing and not self._flushes:
            remaining = until - time.monotonic()
            if remaining <= 0:
                return
            try:
                self._signals.get(timeout=remaining)
            except queue.Empty:
                return
            if not self._trouble.failures:
                until = min(until, time.monotonic() + self._timing.debounce)

    def _goodbye(self) -> None:
        """Send the goodbye, and before it the ends that no beat has listed."""
        if not self._trouble.failures and self._ends():
            self._beat(LAST_BEAT_TIMEOUT)
        try:
            self._endpoint.send("DELETE", self._goodbyes, None, self._token(), GOODBYE_TIMEOUT)
        except Exception:  # the server will notice the silence
            return


class Flush:
    """A caller that waits for a beat."""

    def __init__(self) -> None:
        self.over = Once()
        self.accepted = False

    def end(self, *, accepted: bool) -> None:
        """Let the caller return with this result."""
        self.accepted = accepted
        self.over.set()


class Trouble:
    """Consecutive failures: log their start and their end, and let the pause grow."""

    def __init__(self, who: str, place: str, first_backoff: float = TIMING.first_backoff) -> None:
        self._who = who
        self._first_backoff = first_backoff
        self._place = place
        self._since = 0.0
        self._logged: set[str] = set()
        self.failures = 0

    def begin(self, why: str, refused: bool = False) -> float:
        """Count a failure; return the seconds to back off.

        refused: whether the beat itself is invalid, which is logged during other failures too.
        """
        if not self.failures or (refused and why not in self._logged):
            warn("%s cannot report to %s: %s; it keeps trying", self._who, self._place, why)
            if refused and len(self._logged) < MAX_WARNINGS:
                self._logged.add(why)
        if not self.failures:
            self._since = time.monotonic()
        pause = min(self._first_backoff * 2.0 ** min(self.failures, 10), MAX_BACKOFF)
        self.failures += 1
        return pause * random.uniform(0.5, 1.5)

    def end(self) -> None:
        """Count a success, which ends the failures."""
        if self.failures:
            seconds = time.monotonic() - self._since
            warn("%s reports to %s again, after %.0f s", self._who, self._place, seconds)
        self.failures = 0


def refusal(answer: Answer) -> str:
    """Return an answer other than 2xx as text for the log."""
    return f"HTTP {answer.status}" + (f": {answer.reason}" if answer.reason else "")


def describe(error: Exception) -> str:
    """Return an exception for the log; only the system's cannot quote a token or an answer."""
    kind = type(error).__name__
    if isinstance(error, InvalidTokenError):
        return str(error)
    if isinstance(error, OSError) and not isinstance(error, http.client.BadStatusLine):
        return f"{kind}: {text(error, 200)}"
    return kind


def _seconds(timeout: object) -> float:
    """Return a caller's timeout as a valid number of seconds."""
    try:
        return max(0.0, min(float(timeout), 300.0))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0
