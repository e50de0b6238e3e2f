"""One partition as one group reads it: the group's position, and the first pending tasks."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from telemetron.document import PendingTask
from telemetron_collectors.kafka.protocol.messages import NO_OFFSET, Commit

UNKNOWN = "Unknown"


class LogRange(NamedTuple):
    """The offsets of a partition's log; `end` is the last stable offset."""

    start: int
    end: int
    high_watermark: int | None = None
    """Known only if a group has committed beyond `end`."""


class Position(NamedTuple):
    """A group's position; `base` is the first pending offset, None: unknown."""

    base: int | None
    end: int
    problem: str = ""

    @property
    def lag(self) -> int | None:
        return None if self.base is None else self.end - self.base


def position(commit: Commit, log: LogRange, policy: str) -> Position:
    """Return the group's position: its commit, or the start of the log if that is later.

    `policy` says where a group without a valid commit begins: `earliest`, `latest`, `unknown`.
    """
    offset, end = commit.offset, max(log.start, log.end)
    if commit.foreign:
        return _reset(log.start, end, policy, "OffsetOutOfRange")
    if offset == NO_OFFSET:
        return _reset(log.start, end, policy, "NoCommit")
    if offset > end:
        if log.high_watermark is None:
            return Position(None, end, UNKNOWN)  # the high watermark is read next
        if offset > log.high_watermark:
            return _reset(log.start, end, policy, "OffsetOutOfRange")
        return Position(end, end)
    if offset < log.start:
        return Position(
            log.start, end, "OffsetsDeleted"
        )  # `Window` knows whether they held records
    return Position(offset, end)


def _reset(start: int, end: int, policy: str, problem: str) -> Position:
    shown = problem if problem != "NoCommit" else ""  # the policy, or an empty log, resolves it
    if start == end:
        return Position(end, end, shown)
    if policy == "unknown":
        return Position(None, end, problem)
    return Position(start if policy == "earliest" else end, end, shown)


def age(task: PendingTask) -> tuple[float, int, int]:
    """Return a key that sorts the oldest task first, and tasks of unknown age last."""
    at = task.submitted_at.timestamp() if task.submitted_at else float("inf")
    return at, task.partition or 0, task.offset or 0


class Window:
    """The first pending tasks of a partition: dropped as commits advance, filled from the log."""

    __slots__ = (  # a source may have thousands of windows
        "_by_age",
        "_last_lost",
        "_read_from",
        "begin",
        "check",
        "is_keyed",
        "next",
        "tasks",
    )

    def __init__(self) -> None:
        self.tasks: Sequence[PendingTask] = ()
        """By offset."""
        self._by_age: Sequence[PendingTask] | None = ()
        self.begin = 0
        self.next = 0
        """Where to read on: all tasks before it are in the window, or were."""
        self.check: int | None = None
        """Where to read again tasks that may be compacted away; None: nowhere."""
        self.is_keyed = False
        """Whether a record has a key: records without one are never compacted away."""
        self._read_from = 0
        """All records from here to `next` were read, and the group has consumed none of them."""
        self._last_lost = NO_OFFSET
        """The last record that was deleted before the group committed it, as far as known."""

    def move(self, base: int, commit: int | None = None) -> None:
        """Move to the position `base`; a step back, or past `next`, empties the window.

        If records were deleted up to `base`, `commit` is less, and the tasks in between are lost.
        """
        passed = 0
        while passed < len(self.tasks) and (self.tasks[passed].offset or 0) < base:
            passed += 1
        if passed:
            for task in self.tasks[:passed]:
                self._pass(task.offset or 0, base if commit is None else commit)
            self._set(self.tasks[passed:])
        if base < self.begin or base > self.next:
            self._set(())
            self.next = self._read_from = base
            self.check, self.is_keyed = None, False
        self.begin = base

    def _pass(self, offset: int, commit: int) -> None:
        """Drop a task: it is lost, unless the group has committed it."""
        if offset >= commit:
            self._last_lost = offset
        else:
            self._read_from = offset + 1

    def _set(self, tasks: Sequence[PendingTask]) -> None:
        self.tasks, self._by_age = tasks, None

    @property
    def by_age(self) -> Sequence[PendingTask]:
        """The tasks, oldest first."""
        if self._by_age is None:
            self._by_age = sorted(self.tasks, key=age)
        return self._by_age

    def loss(self, commit: int) -> str:
        """Return the problem with the offsets between the commit and the start of the log."""
        if self._last_lost >= commit:
            return "RecordsLost"
        return "" if self._read_from <= commit else "OffsetsDeleted"

    def wants(self, end: int, shown: int) -> bool:
        """Return whether to read on: tasks are missing, or only a few offsets are left."""
        missing = end - self.next
        return missing > 0 and (len(self.tasks) < shown or len(self.tasks) + missing <= 2 * shown)

    def append(self, tasks: Sequence[PendingTask], next: int, shown: int) -> None:
        """Append the tasks up to `next`; they were read from our `next`, or before it."""
        room = max(0, 2 * shown - len(self.tasks))
        new = [task for task in tasks if (task.offset or 0) >= self.next]
        if new:
            self._set([*self.tasks, *new[:room]])
        if len(new) <= room:
            self.next = max(self.next, next)
        elif room:
            self.next = (new[room - 1].offset or 0) + 1

    def recheck(self) -> None:
        """Have all tasks read again."""
        self.check = self.begin if self.tasks else None

    def drop_missing(self, tasks: Sequence[PendingTask], next: int) -> None:
        """Drop tasks that no longer exist; `tasks` were read from `check`, or before, to `next`."""
        if self.check is None:
            return
        there, first = {task.offset for task in tasks}, max(self.check, self.begin)
        left = [
            task
            for task in self.tasks
            if task.offset in there or not first <= (task.offset or 0) < next
        ]
        if len(left) < len(self.tasks):
            self._set(left)
        self.check = next if left and next <= (left[-1].offset or 0) else None

    def depth(self, end: int) -> int:
        """Return how many tasks are pending at most; an unread offset counts as a task."""
        return len(self.tasks) + max(0, end - self.next)

    def is_exact(self, end: int) -> bool:
        """Return whether `depth` is exact: all records were read."""
        return self.next >= end


class Partition:
    """One partition of a queue."""

    __slots__ = ("_broker_lag", "_commit", "_last", "consumed_at", "position", "window")

    def __init__(self) -> None:
        self.position: Position | None = None
        self.consumed_at: datetime | None = None
        self.window: Window | None = None
        self._broker_lag: int | None = None
        """The lag that the broker returns (share groups)."""
        self._commit: int | None = None
        self._last: tuple[Commit, LogRange] | None = None

    @property
    def lag(self) -> int | None:
        if self.position is None:
            return None
        return self.position.lag if self._broker_lag is None else self._broker_lag

    def update(self, commit: Commit, log: LogRange, policy: str, now: datetime) -> None:
        """Apply the group's commit and the offsets of the log."""
        if self._last == (commit, log):
            return
        found = position(commit, log, policy)
        if found.problem == UNKNOWN and self.position is not None:
            return  # the last known position stays until the next one is known
        self._last = (commit, log)
        self._broker_lag = commit.lag
        self._advance(NO_OFFSET if commit.foreign else commit.offset, now)
        if found.base is None:
            self.window = None
        elif self.window:
            self.window.move(found.base, commit.offset)
        if found.problem == "OffsetsDeleted" and self.window:
            found = found._replace(problem=self.window.loss(commit.offset))
        self.position = found

    def _advance(self, offset: int, now: datetime) -> None:
        if self._commit is not None and self._commit < offset:
            self.consumed_at = now
        self._commit = offset
