"""The activity of one life of an agent: active tasks, outcomes, last failure."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from .text import rfc3339

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import
if TYPE_CHECKING:
    from typing import Any

    from .task import Task

OUTCOMES = ("completed", "failed", "canceled")


class Activity:
    """The tasks of one life; every method may be called from any thread.

    References to tasks are weak: a task that its caller drops without ending it counts as
    `canceled`, so that unended tasks cost no memory. The lock is reentrant because signal handlers
    and the garbage collector (closing a generator) end tasks at any moment.
    """

    def __init__(self, changed: Callable[[], None], wrap: Callable[..., Any] | None = None) -> None:
        self.lock = threading.RLock()
        self.changed = changed
        self.wrap = wrap or _unwrapped
        """Makes each call of a function a task like a given one."""
        self._outcomes = dict.fromkeys(OUTCOMES, 0)
        self._last_failure: dict[str, object] | None = None
        self._tasks: dict[weakref.ref[Task], None] = {}
        self._dropped: deque[weakref.ref[Task]] = deque()

    def start(self, task: Task) -> None:
        """Add an active task."""
        ref = weakref.ref(task, self._dropped.append)
        with self.lock:
            self._tasks[ref] = None
        if self._dropped:
            self._end_dropped()
        self.changed()

    def end(self, task: Task, status: str, error: str | None) -> None:
        """Count the outcome of a task; only its first end counts."""
        with self.lock:
            if self._tasks.pop(weakref.ref(task), self) is self:
                return
            self._outcomes[status] += 1
            if status == "failed":
                self._last_failure = {
                    "task_id": task.id,
                    "error": error or "unknown",
                    "at": rfc3339(time.time()),
                }
        self.changed()

    def forget(self, task: Task) -> None:
        """Drop an active task without an outcome, as if it had never been started."""
        with self.lock:
            self._tasks.pop(weakref.ref(task), None)
        self.changed()

    @property
    def used(self) -> bool:
        """Whether there have been any tasks."""
        return bool(self._tasks) or any(self._outcomes.values())

    def snapshot(self, most: int) -> tuple[list[weakref.ref[Task]], dict[str, object]]:
        """Return the `most` oldest active tasks, and a beat's fields about all of them."""
        self._end_dropped()
        with self.lock:
            # Not islice: the garbage collector may end a task during the iteration.
            tasks = list(self._tasks)[:most]
            fields = {
                "task_count": len(self._tasks),
                "outcomes": dict(self._outcomes),
                "last_failure": self._last_failure,
            }
        return tasks, fields

    def detach(self) -> None:
        """Detach the parent's tasks in a forked child, so that they have no effect there."""
        self.lock = threading.RLock()  # another thread of the parent may have held the old one
        self.changed = nothing

    def _end_dropped(self) -> None:
        """End dropped tasks one at a time, so that no thread waits long for the lock."""
        while self._dropped:
            try:
                ref = self._dropped.popleft()
            except IndexError:  # another thread emptied it
                return
            with self.lock:
                if self._tasks.pop(ref, self) is not self:
                    self._outcomes["canceled"] += 1


def _unwrapped(task: Task, function: Any) -> Any:
    return function


def nothing() -> None:
    """Ignore a change."""
