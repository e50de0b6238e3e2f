"""One partition as one group sees it: where the group stands, and the first tasks that wait."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from collectors.kafka.request import NO_OFFSET, Commit
from telemetron.document import PendingTask

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
        return Stand(log.start, end, "RecordsLost")
    return Stand(offset, end)


def _reset(start: int, end: int, policy: str, problem: str) -> Stand:
    if start == end:  # nothing waits, whatever the group does; out of range it stays
        return Stand(end, end, problem if problem != "NoCommit" else "")
    if policy == "unknown":
        return Stand(None, end, problem)
    told = problem if problem != "NoCommit" else ""
    return Stand(start if policy == "earliest" else end, end, told)


class Window:
    """The first tasks that wait in a lane: popped as commits advance, filled from the log."""

    __slots__ = ("begin", "next", "tasks")  # there are thousands

    def __init__(self) -> None:
        self.tasks: list[PendingTask] = []
        self.begin = 0
        self.next = 0
        """All tasks from `begin` up to here are in it, or were."""

    def move(self, base: int) -> None:
        """The group stands at `base` now; a step back, or past all that is known, starts anew."""
        if base < self.begin or base > self.next:
            self.tasks.clear()
            self.begin = self.next = base
        if self.tasks and (self.tasks[0].offset or 0) < base:
            self.tasks = [task for task in self.tasks if (task.offset or 0) >= base]
        self.begin = base

    def wants(self, end: int, shown: int) -> bool:
        """Whether to read on: there is more, and it is short of tasks, or there is little more."""
        missing = end - self.next
        return missing > 0 and (len(self.tasks) < shown or len(self.tasks) + missing <= 2 * shown)

    def take(self, tasks: Sequence[PendingTask], next: int, shown: int) -> None:
        """Append what was read up to `next`; it began at or before our own `next`."""
        for task in tasks:
            offset = task.offset or 0
            if offset >= self.next:
                if len(self.tasks) >= 2 * shown:
                    return
                self.tasks.append(task)
                self.next = offset + 1
        self.next = max(self.next, next)

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
            self.window.move(found.base)
