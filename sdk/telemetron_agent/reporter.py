"""The daemon thread that beats: how often, and what it does when the server is in trouble."""

from __future__ import annotations

import http.client
import queue
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from urllib.parse import quote

from .beat import MAX_BYTES, MAX_TASKS, encode
from .endpoint import Answer, Endpoint, InvalidTokenError
from .log import warn
from .once import Once
from .task import Task
from .text import rfc3339, text

DEBOUNCE = 0.25
"""Seconds between the first change and the beat that tells it, with all that came since."""
REQUEST_TIMEOUT = 5.0
GOODBYE_TIMEOUT = 1.0
FIRST_BACKOFF = 0.25
MAX_BACKOFF = 15.0
REFUSED = (400, 404, 413, 415, 422)
"""What the server answers where the beat itself is at fault."""
MAX_SAID = 16
"""Different refusals that are said in a reporter's life."""
LEAST_BYTES = 8 * 1024
"""A beat may be that large, whatever the server says."""

State = Callable[[int], "tuple[dict[str, object], list[weakref.ref[Task]]]"]
"""A beat's head, and so many of the oldest tasks."""


class Reporter:
    """Beats for one instance of an agent until closed, then says goodbye.

    state(most) gives a beat's head and its `most` oldest tasks; token() the bearer token; both
    are asked anew for each beat. The first one waits for `after`, the goodbye of another life.
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
        after: Once | None = None,
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
        self._after = after
        self._sequence = 0
        self._limit = MAX_BYTES
        self._trouble = Trouble(f"agent {name!r}", endpoint.place)
        # Not an Event: this put() may be interrupted by another, from a signal handler or
        # the garbage collector, without a deadlock.
        self._signals: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._changed = False
        self._flushes: deque[Flush] = deque()
        self._closed: deque[float] = deque()
        self._unstarted = [None]
        self._thread = 0
        self.started = False
        self.done = Once()
        """The goodbye is said, or cannot be."""

    @property
    def _closing(self) -> bool:
        return bool(self._closed)

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        if self._closing:
            return
        try:
            self._unstarted.pop()  # not a lock: a signal handler may come in between
        except IndexError:
            return
        self.started = True
        try:
            threading.Thread(target=self._run, name="telemetron", daemon=True).start()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            self.done.set()
            warn("agent %r does not report: %s", self._name, error)

    def change(self) -> None:
        """Tasks changed: beat soon."""
        if not self._changed:
            self._changed = True
            self._signals.put(None)

    def flush(self, timeout: float) -> bool:
        """Beat now, even in trouble; whether that was taken within `timeout` seconds."""
        if self._closing or self.done.happened or self._is_here():
            return False
        self.start()
        flush = Flush()
        self._flushes.append(flush)
        self._signals.put(None)
        return flush.over.wait(_seconds(timeout)) and flush.taken

    def close(self, timeout: float) -> None:
        """Let the thread say goodbye and end.

        Waits until `timeout` seconds after the first call at most: signal handlers that
        interrupt each other and each close have one time in all.
        """
        self._closed.append(time.monotonic())
        self._signals.put(None)
        last = self.last
        if last and not self._is_here():
            last.wait(max(0.0, self._closed[0] + _seconds(timeout) - time.monotonic()))

    @property
    def last(self) -> Once | None:
        """The goodbye that a closed reporter may still send; of one never started, the former's."""
        return self.done if self.started else self._after

    def _is_here(self) -> bool:
        """Whether this is the reporter's own thread, as in a log handler that flushes."""
        return self._thread == threading.get_ident()

    def _run(self) -> None:
        self._thread = threading.get_ident()
        if self._after:
            self._after.wait(REQUEST_TIMEOUT + GOODBYE_TIMEOUT)
        while not self._closing:
            flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
            pause = self._beat()
            for flush in flushes:
                flush.end(taken=not self._trouble.failures)
            self._pause(pause)
        while self._flushes:
            self._flushes.popleft().end(taken=False)
        self._goodbye()
        self.done.set()

    def _beat(self) -> float:
        """Send one beat; returns the seconds until the next."""
        self._changed = False
        self._sequence += 1
        pause = self._interval * random.uniform(0.9, 1.1)
        try:
            head, tasks = self._state(MAX_TASKS)
            head.update(sequence=self._sequence, sent_at=rfc3339(time.time()))
            body = encode(head, tasks, self._limit)
            answer = self._endpoint.send("POST", self._beats, body, self._token(), REQUEST_TIMEOUT)
        except Exception as error:
            return self._trouble.begin(describe(error))
        if answer.status < 300:
            self._trouble.end()
            return pause
        if answer.status == 413:
            self._limit = max(len(body) // 2, LEAST_BYTES)
        backoff = self._trouble.begin(refusal(answer), answer.status in REFUSED)
        return max(backoff, answer.retry_after)

    def _pause(self, seconds: float) -> None:
        """Sleep; a change shortens it to the debounce, except while the server is in trouble."""
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
                until = min(until, time.monotonic() + DEBOUNCE)

    def _goodbye(self) -> None:
        try:
            self._endpoint.send("DELETE", self._goodbyes, None, self._token(), GOODBYE_TIMEOUT)
        except Exception:  # the server will see the silence
            return


class Flush:
    """One who waits for a beat."""

    def __init__(self) -> None:
        self.over = Once()
        self.taken = False

    def end(self, *, taken: bool) -> None:
        """The beat was answered, or was not."""
        self.taken = taken
        self.over.set()


class Trouble:
    """Failures in a row: said once when they start and once when they end; the pause grows."""

    def __init__(self, who: str, place: str) -> None:
        self._who = who
        self._place = place
        self._since = 0.0
        self._said: set[str] = set()
        self.failures = 0

    def begin(self, why: str, refused: bool = False) -> float:
        """One more failure; returns the seconds to back off.

        refused: whether the beat itself is at fault. That is said too while other trouble lasts.
        """
        if not self.failures or (refused and why not in self._said):
            warn("%s cannot report to %s: %s (it goes on trying)", self._who, self._place, why)
            if refused and len(self._said) < MAX_SAID:
                self._said.add(why)
        if not self.failures:
            self._since = time.monotonic()
        pause = min(FIRST_BACKOFF * 2.0 ** min(self.failures, 10), MAX_BACKOFF)
        self.failures += 1
        return pause * random.uniform(0.5, 1.5)

    def end(self) -> None:
        """A success."""
        if self.failures:
            seconds = time.monotonic() - self._since
            warn("%s reports to %s again, after %.0f s", self._who, self._place, seconds)
        self.failures = 0


def refusal(answer: Answer) -> str:
    """An answer that is not a 2xx, for the log."""
    return f"HTTP {answer.status}" + (f": {answer.reason}" if answer.reason else "")


def describe(error: Exception) -> str:
    """An exception for the log: others than the system's could quote a token or an answer."""
    kind = type(error).__name__
    if isinstance(error, InvalidTokenError):
        return str(error)
    if isinstance(error, OSError) and not isinstance(error, http.client.BadStatusLine):
        return f"{kind}: {text(error, 200)}"
    return kind


def _seconds(timeout: object) -> float:
    """What a caller gave as time to wait, as what can be waited."""
    try:
        return max(0.0, min(float(timeout), 300.0))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0
