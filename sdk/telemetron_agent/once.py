"""An event that happens once, and that signal handlers may wait for."""

from __future__ import annotations

import threading


class Once:
    """Like threading.Event, but a wait may be interrupted by another one for the same event.

    Event.wait holds a lock that is not reentrant: a signal handler that interrupts it and waits
    for the same event, or sets it, never returns.
    """

    def __init__(self) -> None:
        self.happened = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let all waits return; only the first call counts."""
        if not self.happened:
            self.happened = True
            self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Wait `timeout` seconds at most; return whether the event has happened."""
        if not self.happened and self._lock.acquire(timeout=timeout):
            self._lock.release()  # for the next waiting thread
        return self.happened
