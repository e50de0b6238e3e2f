"""The activity of one life of an agent: active tasks, outcomes, last failure."""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .text import rfc3339

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import
if TYPE_CHECKING:
    from typing import Any

    from .task import Task

    End = tuple[int, "Task | Facts", str, "str | None", float]

OUTCOMES = ("completed", "failed", "canceled")
MAX_ENDS = 64
"""The most ends that a beat may list; of more, the newest are kept."""


class Facts(NamedTuple):
    """What is known of a task after it is gone, by the names in `Task`."""

    id: str
    parent_id: str | None
    started_on: float
    queue: str | None
    partition: int | None
    offset: int | None


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
        self._ends: deque[End] = deque(maxlen=MAX_ENDS)
        """Ends that no accepted beat has listed, oldest first: number, task, outcome, error, time.

        It holds the tasks, as most get their id only when a beat lists them.
        """
        self._end_count = 0
        self._tasks: dict[weakref.ref[Task], list[Any]] = {}
        """Active tasks, and the values of `Facts`, but no id before it was made."""
        self._dropped: deque[weakref.ref[Task]] = deque()

    def start(self, task: Task) -> None:
        """Add an active task."""
        ref = weakref.ref(task, self._dropped.append)
        id, queue = task.given_id, task.queue
        facts = [id, task.parent_id, task.started_on, queue, task.partition, task.offset]
        with self.lock:
            self._tasks[ref] = facts
        if self._dropped:
            self._end_dropped()
        self.changed()

    def name(self, task: Task) -> None:
        """Note the id that was made for a task."""
        facts = self._tasks.get(weakref.ref(task))
        if facts is not None:
            facts[0] = task.given_id

    def end(self, task: Task, status: str, error: str | None) -> None:
        """Count the outcome of a task; only its first end counts."""
        with self.lock:
            if self._tasks.pop(weakref.ref(task), self) is self:
                return
            now = time.time()
            error = (error or "unknown") if status == "failed" else None
            if error:
                self._last_failure = {"task_id": task.id, "error": error, "at": rfc3339(now)}
            self._add(task, status, error, now)
        self.changed()

    def _add(self, task: Task | Facts, status: str, error: str | None, now: float) -> None:
        self._outcomes[status] += 1
        self._end_count += 1
        self._ends.append((self._end_count, task, status, error, now))

    def forget(self, task: Task) -> None:
        """Drop an active task without an outcome, as if it had never been started."""
        with self.lock:
            self._tasks.pop(weakref.ref(task), None)
        self.changed()

    @property
    def used(self) -> bool:
        """Whether there have been any tasks."""
        return bool(self._tasks) or any(self._outcomes.values())

    def ends(self) -> list[End]:
        """Return the ends that no accepted beat has listed, oldest first."""
        return list(self._ends)

    def accept(self, end: End) -> None:
        """Forget an end, and all before it: the server has accepted a beat that lists them."""
        with self.lock:
            while self._ends and self._ends[0][0] <= end[0]:
                self._ends.popleft()

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
                facts = self._tasks.pop(ref, None)
                if facts is not None:
                    gone = Facts(facts[0] or str(uuid.uuid4()), *facts[1:])
                    self._add(gone, "canceled", None, time.time())


def _unwrapped(task: Task, function: Any) -> Any:
    return function


def nothing() -> None:
    """Ignore a change."""
