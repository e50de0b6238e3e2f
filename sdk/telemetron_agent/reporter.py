"""The daemon thread that beats: how often, and what it does when the server is in trouble."""

from __future__ import annotations

import http.client
import queue
import random
import threading
import time
import weakref
from collections.abc import Callable
from urllib.parse import quote

from .beat import encode
from .endpoint import Answer, Endpoint
from .log import warn
from .task import Task
from .text import rfc3339, text

DEBOUNCE = 0.25
"""Seconds between the first change and the beat that tells it, with all that came since."""
REQUEST_TIMEOUT = 5.0
GOODBYE_TIMEOUT = 1.0
MAX_BACKOFF = 15.0


class Reporter:
    """Beats for one instance of an agent until closed, then says goodbye.

    state() gives a beat's head and its tasks, oldest first; token() the bearer token; both are
    asked anew for each beat.
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
        state: Callable[[], tuple[dict[str, object], list[weakref.ref[Task]]]],
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
        self._sequence = 0
        self._trouble = Trouble(f"agent {name!r}", endpoint.place)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # Not an Event: this put() may be interrupted by another, from a signal handler or
        # the garbage collector, without a deadlock.
        self._signals: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._changed = False
        self._closing = False
        self._done = threading.Event()

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        if self._thread is not None or self._closing:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="telemetron", daemon=True)
                self._start(self._thread)

    def change(self) -> None:
        """Tasks changed: beat soon."""
        if not self._changed:
            self._changed = True
            self._signals.put(None)

    def close(self, timeout: float) -> None:
        """Let the thread say goodbye and end; waits for that `timeout` seconds at most."""
        self._closing = True
        self._signals.put(None)
        if self._thread is not None:
            self._done.wait(timeout)

    def _start(self, thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is shutting down
            self._done.set()
            warn("agent %r does not report: %s", self._name, error)

    def _run(self) -> None:
        while not self._closing:
            self._pause(self._beat())
        self._goodbye()
        self._done.set()

    def _beat(self) -> float:
        """Send one beat; returns the seconds until the next."""
        self._changed = False
        self._sequence += 1
        pause = self._interval * random.uniform(0.9, 1.1)
        try:
            head, tasks = self._state()
            head.update(sequence=self._sequence, sent_at=rfc3339(time.time()))
            body = encode(head, tasks)
            answer = self._endpoint.send("POST", self._beats, body, self._token(), REQUEST_TIMEOUT)
        except Exception as error:
            return max(pause, self._trouble.begin(describe(error), self._interval))
        if answer.status < 300:
            self._trouble.end()
            return pause
        backoff = self._trouble.begin(refusal(answer), self._interval)
        return max(pause, backoff, answer.retry_after)

    def _pause(self, seconds: float) -> None:
        """Sleep; a change shortens it to the debounce, except while the server is in trouble."""
        until = time.monotonic() + seconds
        while not self._closing:
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


class Trouble:
    """Failures in a row: said once when they start and once when they end; the pause grows."""

    def __init__(self, who: str, place: str) -> None:
        self._who = who
        self._place = place
        self._since = 0.0
        self.failures = 0

    def begin(self, why: str, interval: float) -> float:
        """One more failure; returns the seconds to back off."""
        if not self.failures:
            self._since = time.monotonic()
            warn("%s cannot report to %s: %s (it goes on trying)", self._who, self._place, why)
        pause = min(interval * 2.0 ** min(self.failures, 10), MAX_BACKOFF)
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
    if isinstance(error, OSError) and not isinstance(error, http.client.BadStatusLine):
        return f"{kind}: {text(error, 200)}"
    return kind
