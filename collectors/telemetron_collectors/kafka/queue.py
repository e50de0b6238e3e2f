"""A topic as one group reads it, and the queue that the document shows."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from telemetron.document import (
    MAX_PARTITIONS,
    MAX_PROBLEMS,
    Member,
    PartitionLag,
    PendingTask,
    Problem,
    Queue,
)
from telemetron_collectors.kafka.config import QueueConfig
from telemetron_collectors.kafka.partition import Partition, Window, age
from telemetron_collectors.kafka.protocol.membership import GroupInfo, GroupMember

MAX_MEMBERS = 16
MAX_LAGGING = 8
MAX_NAMED = 5
"""Partitions that a problem names."""

MESSAGES = {
    "NoCommit": "the group has committed no offset",
    "OffsetOutOfRange": "the committed offset is outside the log: it was truncated, or the topic"
    " was recreated",
    "OffsetsDeleted": "the log starts after the group's commit; the deleted offsets may have held"
    " records",
    "RecordsLost": "records were deleted before the group consumed them",
}
NO_GROUP = "no group that Telemetron may describe reads this topic"
NO_MATCHING_GROUP = "no group that matches `groups` reads this topic; other groups may"

Refusal = tuple[str, str]
"""A reason and a message: why something cannot be observed."""


class OpenTransaction(NamedTuple):
    """The oldest open transaction of a partition: it holds back all records after it."""

    first: int
    """Its first offset: the last stable offset of the log."""
    offsets: int
    """The number of offsets that it holds back."""
    since: datetime
    """When it was first seen."""
    is_long: bool
    """Whether it is open for so long that it is a problem."""


class KafkaQueue:
    """One topic and one group; None: no group reads the topic."""

    def __init__(self, topic: str, group: str | None, config: QueueConfig) -> None:
        self.topic = topic
        self.group = group
        self.config = config
        self.partitions: list[Partition] = []
        self.part: Queue | None = None
        """The queue in the document."""
        self.is_removed = False
        self.is_idle = False
        """Whether it is not shown: no group reads the topic, and it holds no records."""
        self.is_certain = False
        """Whether it was ever certain that no group reads the topic."""
        self.refusal: Refusal | None = None
        """Why nothing of it can be observed."""
        self.troubles: dict[int, Refusal] = {}
        """Why a partition cannot be observed."""
        self.unread: dict[int, Refusal] = {}
        """Why the records of a partition cannot be read."""
        self.out_of_reach: set[int] = set()
        """Partitions whose leader is out of reach."""
        self.info: GroupInfo | None = None
        self.members_refusal: Refusal | None = None
        """Why the group's members are not known."""
        self.generation: int | None = None
        self.is_share = False
        self.produced_at: datetime | None = None
        self.transactions: Mapping[int, OpenTransaction] | None = None
        """By partition; None: not known."""
        self._since: dict[tuple[str, str], datetime] = {}

    @property
    def id(self) -> str:
        return f"{self.topic}/{self.group}" if self.group is not None else self.topic

    @property
    def shown_tasks(self) -> int:
        """The number of its tasks in the document."""
        return len(self.part.tasks) if self.part else 0

    @property
    def shows_tasks(self) -> bool:
        # A share group acknowledges records one by one: brokers do not say which are pending.
        return self.config.max_tasks > 0 and self.group is not None and not self.is_share

    def resize(self, partitions: int) -> None:
        """Set the number of partitions; only a recreated topic has fewer than before."""
        if partitions < len(self.partitions):
            self.forget()
        self.partitions += [Partition() for _ in range(partitions - len(self.partitions))]

    def forget(self) -> None:
        """Drop the state of the log: the topic was deleted or recreated."""
        self.partitions.clear()
        self.troubles.clear()
        self.unread.clear()
        self.produced_at = None
        self.transactions = None

    def window(self, number: int) -> Window | None:
        """Return the window of a partition; None: its records are not read."""
        return self.partitions[number].window if number < len(self.partitions) else None

    def windows(self) -> Iterator[tuple[int, Window, int]]:
        """Yield number, window and last stable offset of each partition with pending tasks."""
        if not self.shows_tasks:
            return
        for number, partition in enumerate(self.partitions):
            position = partition.position
            if position is None or position.base is None or number in self.troubles:
                continue
            if position.base == position.end:
                continue
            if partition.window is None:
                partition.window = Window()
                partition.window.move(position.base)
            yield number, partition.window, position.end

    def prune_unread(self) -> None:
        """Forget unread records of partitions in which no record is left to read."""
        for number in [number for number in self.unread if not self._misses(number)]:
            del self.unread[number]

    def _misses(self, number: int) -> bool:
        if number >= len(self.partitions):
            return False
        window, position = self.partitions[number].window, self.partitions[number].position
        if position is None or position.base is None:
            return True
        return (window.next if window else position.base) < position.end

    def build(self, now: datetime, shown: int) -> Queue:
        """Return the queue for the document, with at most `shown` tasks."""
        lags = [self._lag(number, it) for number, it in enumerate(self.partitions)]
        known = None not in lags and bool(lags) and not self.refusal
        tasks = self._tasks(shown)
        lagging = self._lagging(lags)
        members = self._members()
        transactions = (self.transactions or {}).values()
        return Queue(
            name=self.topic,
            consumer_group=self.group,
            consumers=self._consumers(members),
            group_state=self.info.state if self.info else None,
            generation=self.generation,
            members=members[:MAX_MEMBERS],
            depth=sum(map(self._depth, self.partitions)) if known else None,
            depth_exact=self._is_exact() if known else None,
            lag=sum(lag for lag in lags if lag) if known else None,
            oldest_submitted_at=self._oldest(lags) if known else None,
            produced_at=self.produced_at,
            open_transaction_since=min((it.since for it in transactions), default=None),
            open_transaction_offsets=None
            if self.transactions is None
            else sum(it.offsets for it in transactions),
            consumed_at=max(filter(None, (it.consumed_at for it in self.partitions)), default=None),
            partitions=len(self.partitions) or None,
            lagging=lagging[:MAX_LAGGING],
            tasks=tasks,
            measured_at=now,
            problems=self._problems(now),
            truncated=self._truncated(members, lagging, tasks),
        )

    def _truncated(
        self, members: list[Member], lagging: list[PartitionLag], tasks: list[PendingTask]
    ) -> dict[str, int] | None:
        """Return the full count of each list that the document truncates."""
        most = max((it.partition_count or 0 for it in members[:MAX_MEMBERS]), default=0)
        counts = {
            "members": (len(members), MAX_MEMBERS),
            "members.partitions": (most, MAX_PARTITIONS),
            "lagging": (len(lagging), MAX_LAGGING),
            "tasks": (self._waiting(), len(tasks)),
        }
        return {name: count for name, (count, shown) in counts.items() if count > shown} or None

    def _lag(self, number: int, partition: Partition) -> int | None:
        return None if number in self.troubles else partition.lag

    def _depth(self, partition: Partition) -> int:
        if partition.window and partition.position and self.shows_tasks:
            return partition.window.depth(partition.position.end)
        return partition.lag or 0

    def _waiting(self) -> int:
        """Return how many tasks could be shown, in the partitions for which that is known."""
        if not self.shows_tasks or _is_forbidden(self.refusal):
            return 0
        return sum(
            self._depth(partition)
            for number, partition in enumerate(self.partitions)
            if not _is_forbidden(self.troubles.get(number))
        )

    def _is_exact(self) -> bool:
        return all(not partition.lag or self._is_read(partition) for partition in self.partitions)

    def _is_read(self, partition: Partition) -> bool:
        """Return whether all pending records were read."""
        position, window = partition.position, partition.window
        return bool(self.shows_tasks and position and window and window.is_exact(position.end))

    def _tasks(self, shown: int) -> list[PendingTask]:
        """Return the oldest tasks of all partitions."""
        if not self.shows_tasks or _is_forbidden(self.refusal):
            return []
        windows = [
            partition.window.by_age
            for number, partition in enumerate(self.partitions)
            if partition.window and not self._is_hidden(number)
        ]
        return list(islice(heapq.merge(*windows, key=age), shown))

    def _is_hidden(self, number: int) -> bool:
        return _is_forbidden(self.troubles.get(number)) or _is_forbidden(self.unread.get(number))

    def _oldest(self, lags: list[int | None]) -> datetime | None:
        """Return when the oldest task was submitted; None if a partition's first task is unread."""
        found = []
        for number, (lag, partition) in enumerate(zip(lags, self.partitions, strict=True)):
            if not lag:
                continue
            if not self.shows_tasks or not partition.window or self._is_hidden(number):
                return None
            if partition.window.tasks:
                found.append(partition.window.by_age[0].submitted_at)
            elif not self._is_read(partition):
                return None
        return min(filter(None, found), default=None)

    def _lagging(self, lags: list[int | None]) -> list[PartitionLag]:
        worst = sorted(
            (number for number, lag in enumerate(lags) if lag),
            key=lambda number: (-(lags[number] or 0), number),
        )
        return [PartitionLag(n, lags[n], self.partitions[n].consumed_at) for n in worst]

    def _members(self) -> list[Member]:
        """Return the members of the group; members with partitions of this topic come first."""
        members = self.info.members if self.info else ()
        return sorted(
            (_member(member, self.topic, len(self.partitions)) for member in members),
            key=lambda it: (
                it.partition_count == 0,
                it.client_id,
                it.host or "",
                it.partitions or [],
            ),
        )

    def _consumers(self, members: Sequence[Member]) -> int | None:
        if self.group is None:
            return None if self.refusal else 0
        counts = [member.partition_count for member in members]
        return None if self.info is None or None in counts else sum(map(bool, counts))

    def _problems(self, now: datetime) -> list[Problem]:
        """Return the problems, each with the time when it was first seen."""
        current = list(dict.fromkeys(self._current_problems()))
        self._since = {key: self._since.get(key, now) for key in current}
        found = [Problem(*key, self._since[key]) for key in current]
        found += self._held_back()
        return found[:MAX_PROBLEMS]

    def _held_back(self) -> list[Problem]:
        """Return one problem for all partitions with a long open transaction."""
        if self.refusal or not self.transactions:
            return []
        long = {n: it for n, it in sorted(self.transactions.items()) if it.is_long}
        if not long:
            return []
        offsets = _rounded(sum(it.offsets for it in long.values()))
        message = f"an open transaction holds back {offsets} ({_names(list(long))})"
        return [Problem("OpenTransaction", message, min(it.since for it in long.values()))]

    def _current_problems(self) -> Iterator[Refusal]:
        if self.refusal:
            yield self.refusal
            return
        if self.members_refusal:
            yield self.members_refusal
        yield from _by_partition(self.troubles)
        states = {
            number: it.position.problem
            for number, it in enumerate(self.partitions)
            if it.position and it.position.problem in MESSAGES and number not in self.troubles
        }
        if self.group is None and "NoCommit" in states.values():
            yield "NoCommit", NO_GROUP if self.config.groups is None else NO_MATCHING_GROUP
            return
        yield from _by_partition({n: (it, MESSAGES[it]) for n, it in states.items()})
        yield from _by_partition(self._unread(), "tasks are not shown: ")

    def _unread(self) -> dict[int, Refusal]:
        """Return why records are not read, without outages of brokers: the source reports them."""
        return {
            number: refusal
            for number, refusal in self.unread.items()
            if number not in self.out_of_reach or _is_forbidden(refusal)
        }


def _is_forbidden(refusal: Refusal | None) -> bool:
    """Return whether to hide the tasks; in any other trouble the last known tasks stay."""
    return refusal is not None and refusal[0] == "Forbidden"


def _by_partition(troubles: Mapping[int, Refusal], prefix: str = "") -> Iterator[Refusal]:
    """Yield one problem for all partitions that have it."""
    partitions: dict[Refusal, list[int]] = {}
    for number, trouble in sorted(troubles.items()):
        partitions.setdefault(trouble, []).append(number)
    for (reason, message), numbers in partitions.items():
        yield reason, f"{prefix}{message} ({_names(numbers)})"


def _rounded(offsets: int) -> str:
    """Round to one digit: otherwise the problem would change with each record."""
    unit = 10 ** (len(str(offsets)) - 1)
    least = "at least " if offsets >= 10 else ""
    return f"{least}{offsets // unit * unit} offset{'s' if offsets > 1 else ''}"


def _names(numbers: list[int]) -> str:
    named = ", ".join(map(str, numbers[:MAX_NAMED]))
    more = ", …" if len(numbers) > MAX_NAMED else ""
    return f"partition{'s' if len(numbers) > 1 else ''} {named}{more}"


def _member(member: GroupMember, topic: str, partitions: int) -> Member:
    host = member.host.lstrip("/") or None
    if member.assignment is None:
        return Member(member.client_id, host)
    # A streams task may have more partitions of its other topics than this one has.
    has = sorted(number for number in member.assignment.get(topic, ()) if number < partitions)
    return Member(member.client_id, host, has[:MAX_PARTITIONS], len(has))
