"""One partition as one group sees it: where the group stands, and the first tasks that wait."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from telemetron.document import PendingTask
from telemetron_collectors.kafka.protocol.messages import NO_OFFSET, Commit

UNKNOWN = "Unknown"


class Log(NamedTuple):
    """A partition's log: where it starts, where what is stable ends, where all of it ends."""

    start: int
    end: int
    high: int | None = None
    """Known only where a group stands beyond `end`, as behind an open transaction."""


class Stand(NamedTuple):
    """Where a group stands; `base` is the first offset that waits, None: unknown."""

    base: int | None
    end: int
    problem: str = ""

    @property
    def lag(self) -> int | None:
        return None if self.base is None else self.end - self.base


def stand(commit: Commit, log: Log, policy: str) -> Stand:
    """What waits: from the commit, or the start of the log where that is later, up to its end.

    `policy` is the group's own where it has no valid commit: `earliest`, `latest`, `unknown`.
    """
    offset, end = commit.offset, max(log.start, log.end)
    if commit.foreign:
        return _reset(log.start, end, policy, "OffsetOutOfRange")
    if offset == NO_OFFSET:
        return _reset(log.start, end, policy, "NoCommit")
    if offset > end:
        if log.high is None:
            return Stand(None, end, UNKNOWN)  # the end of all records is asked for next
        if offset > log.high:
            return _reset(log.start, end, policy, "OffsetOutOfRange")
        return Stand(end, end)
    if offset < log.start:
        return Stand(log.start, end, "OffsetsDeleted")  # whether they held records: see `Window`
    return Stand(offset, end)


def _reset(start: int, end: int, policy: str, problem: str) -> Stand:
    if start == end:  # nothing waits, whatever the group does; out of range it stays
        return Stand(end, end, problem if problem != "NoCommit" else "")
    if policy == "unknown":
        return Stand(None, end, problem)
    told = problem if problem != "NoCommit" else ""
    return Stand(start if policy == "earliest" else end, end, told)


def age(task: PendingTask) -> tuple[float, int, int]:
    """For sorting: the oldest first, those of unknown age last."""
    at = task.submitted_at.timestamp() if task.submitted_at else float("inf")
    return at, task.partition or 0, task.offset or 0


class Window:
    """The first tasks that wait in a lane: popped as commits advance, filled from the log."""

    __slots__ = (  # there are thousands
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
        """In the order of their offsets."""
        self._by_age: Sequence[PendingTask] | None = ()
        self.begin = 0
        self.next = 0
        """All tasks from `begin` up to here are in it, or were."""
        self.check: int | None = None
        """Where to read again what compaction may have removed; None: nowhere."""
        self.is_keyed = False
        """Whether a record in it has a key: no other one is ever compacted away."""
        self._read_from = 0
        """All from here to `next` was read, and the group has consumed no record of it."""
        self._last_lost = NO_OFFSET
        """The last record that is known to have been deleted before the group committed it."""

    def move(self, base: int, commit: int | None = None) -> None:
        """The group stands at `base` now; a step back, or past all that is known, starts anew.

        If the log was deleted up to `base`, `commit` is less, and the tasks between are lost.
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
        """A task is lost if the group has not committed it; else it may be set back to it."""
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
        """The problem, if any, with the offsets between the commit and the start of the log."""
        if self._last_lost >= commit:
            return "RecordsLost"
        return "" if self._read_from <= commit else "OffsetsDeleted"

    def wants(self, end: int, shown: int) -> bool:
        """Whether to read on: there is more, and it is short of tasks, or there is little more."""
        missing = end - self.next
        return missing > 0 and (len(self.tasks) < shown or len(self.tasks) + missing <= 2 * shown)

    def take(self, tasks: Sequence[PendingTask], next: int, shown: int) -> None:
        """Append what was read up to `next`; it began at or before our own `next`."""
        room = max(0, 2 * shown - len(self.tasks))
        new = [task for task in tasks if (task.offset or 0) >= self.next]
        if new:
            self._set([*self.tasks, *new[:room]])
        if len(new) <= room:
            self.next = max(self.next, next)
        elif room:
            self.next = (new[room - 1].offset or 0) + 1

    def recheck(self) -> None:
        """Have all of it read again."""
        self.check = self.begin if self.tasks else None

    def renew(self, tasks: Sequence[PendingTask], next: int) -> None:
        """Drop what is no longer there; the tasks were read from `check`, or before, to `next`."""
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
        return len(self.tasks) + max(0, end - self.next)

    def is_exact(self, end: int) -> bool:
        """Whether `depth` counts tasks: all was read. Any other offset may be without one."""
        return self.next >= end


class Lane:
    """One partition of a queue."""

    __slots__ = ("_placed", "commit", "consumed_at", "stand", "told", "window")

    def __init__(self) -> None:
        self.stand: Stand | None = None
        self.told: int | None = None
        """The lag as the broker tells it (share groups)."""
        self.commit: int | None = None
        self.consumed_at: datetime | None = None
        self.window: Window | None = None
        self._placed: tuple[Commit, Log] | None = None

    @property
    def lag(self) -> int | None:
        if self.stand is None:
            return None
        return self.stand.lag if self.told is None else self.told

    def place(self, commit: Commit, log: Log, policy: str, now: datetime) -> None:
        """Take what was read of the group and of the log."""
        if self._placed == (commit, log):
            return
        found = stand(commit, log, policy)
        if found.problem == UNKNOWN and self.stand is not None:
            return  # the last known stands until it is
        self._placed = (commit, log)
        self.told = commit.lag
        self.stand = found
        offset = NO_OFFSET if commit.foreign else commit.offset
        if self.commit is not None and self.commit < offset:
            self.consumed_at = now
        self.commit = offset
        if found.base is None:
            self.window = None
        elif self.window:
            self.window.move(found.base, commit.offset)
        if found.problem == "OffsetsDeleted" and self.window:
            self.stand = found._replace(problem=self.window.loss(commit.offset))
