"""A topic as one group sees it, and the queue that the document shows of it."""

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
from telemetron_collectors.kafka.partition import Lane, Window, age
from telemetron_collectors.kafka.protocol.membership import GroupInfo, GroupMember

MAX_MEMBERS = 16
MAX_LAGGING = 8
MAX_NAMED = 5
"""Partitions that a problem names."""

SAYS = {
    "NoCommit": "the group has committed no offset",
    "OffsetOutOfRange": "the committed offset is none of this log: it was truncated, or the topic"
    " made anew",
    "OffsetsDeleted": "the log starts after the group's commit; whether the deleted offsets held"
    " records is not known",
    "RecordsLost": "records were deleted before the group consumed them",
    "Unknown": "not observed yet",
}
NOBODY = "no group that Telemetron sees reads this topic"
NO_SUCH_GROUP = "no group that fits the configuration's `groups` reads this topic; others may"


class OpenTransaction(NamedTuple):
    """The oldest open transaction of a partition: it holds back all that is behind it."""

    first: int
    """Its first offset: the last stable one of the log."""
    offsets: int
    """So many are behind it."""
    since: datetime
    """When it was seen first."""
    is_long: bool
    """Whether that is a problem by now."""


class TopicQueue:
    """One topic and one group (None: no group reads it), lane by lane."""

    def __init__(self, topic: str, group: str | None, config: QueueConfig) -> None:
        self.topic = topic
        self.group = group
        self.config = config
        self.lanes: list[Lane] = []
        self.troubles: dict[int, tuple[str, str]] = {}
        """Reason and message by partition, of those that cannot be observed."""
        self.refusal: tuple[str, str] | None = None
        """Reason and message where nothing of it can be observed."""
        self.unread: dict[int, tuple[str, str]] = {}
        """Reason and message by partition, of those whose records cannot be read."""
        self.info: GroupInfo | None = None
        self.untold: tuple[str, str] | None = None
        """Reason and message where the members of the group are not known."""
        self.generation: int | None = None
        self.is_share = False
        self.is_idle = False
        """Whether it is not shown: no group reads the topic, and it holds no records."""
        self.is_seen = False
        """Whether it was known for certain that no group reads the topic."""
        self.cut_off: set[int] = set()
        """Partitions whose leader is out of reach."""
        self.produced_at: datetime | None = None
        self.transactions: Mapping[int, OpenTransaction] | None = None
        """By partition; None: not known."""
        self._since: dict[tuple[str, str], datetime] = {}

    @property
    def id(self) -> str:
        return f"{self.topic}/{self.group}" if self.group is not None else self.topic

    @property
    def shows_tasks(self) -> bool:
        # In a share group records are acknowledged one by one: which of them wait is not told.
        return self.config.max_tasks > 0 and self.group is not None and not self.is_share

    def resize(self, partitions: int) -> None:
        """The topic has so many partitions; they are never fewer, but in a topic made anew."""
        if partitions < len(self.lanes):
            self.forget()
        self.lanes += [Lane() for _ in range(partitions - len(self.lanes))]

    def forget(self) -> None:
        """What is known of the log is of another one."""
        self.lanes.clear()
        self.troubles.clear()
        self.unread.clear()
        self.produced_at = None
        self.transactions = None

    def window(self, number: int) -> Window | None:
        """Of one partition; None: nothing is read of it."""
        return self.lanes[number].window if number < len(self.lanes) else None

    def windows(self) -> Iterator[tuple[int, Window, int]]:
        """Partition, window and known end of each lane in which tasks wait."""
        if not self.shows_tasks:
            return
        for number, lane in enumerate(self.lanes):
            stand = lane.stand
            if stand is None or stand.base is None or number in self.troubles:
                continue
            if stand.base == stand.end:
                continue
            if lane.window is None:
                lane.window = Window()
                lane.window.move(stand.base)
            yield number, lane.window, stand.end

    def prune_unread(self) -> None:
        """Records that could not be read are no problem where none is left to read."""
        for number in [number for number in self.unread if not self._misses(number)]:
            del self.unread[number]

    def _misses(self, number: int) -> bool:
        if number >= len(self.lanes):
            return False
        lane = self.lanes[number]
        if lane.stand is None or lane.stand.base is None:
            return True
        return (lane.window.next if lane.window else lane.stand.base) < lane.stand.end

    def build(self, now: datetime, shown: int) -> Queue:
        """What the document shows; at most `shown` tasks of it."""
        lags = [self._lag(number, lane) for number, lane in enumerate(self.lanes)]
        known = None not in lags and bool(lags) and not self.refusal
        depth = sum(map(self._depth, self.lanes)) if known else None
        tasks = self._tasks(shown)
        waiting = self._waiting()
        lagging = self._lagging(lags)
        members = self._members()
        transactions = (self.transactions or {}).values()
        most = max((it.partition_count or 0 for it in members[:MAX_MEMBERS]), default=0)
        cut = {
            "members": len(members) if len(members) > MAX_MEMBERS else 0,
            "members.partitions": most if most > MAX_PARTITIONS else 0,
            "lagging": len(lagging) if len(lagging) > MAX_LAGGING else 0,
            "tasks": waiting if waiting > len(tasks) else 0,
        }
        return Queue(
            name=self.topic,
            consumer_group=self.group,
            consumers=self._consumers(members),
            group_state=self.info.state if self.info else None,
            generation=self.generation,
            members=members[:MAX_MEMBERS],
            depth=depth,
            depth_exact=self._is_exact() if known else None,
            lag=sum(lag for lag in lags if lag) if known else None,
            oldest_submitted_at=self._oldest(lags) if known else None,
            produced_at=self.produced_at,
            open_transaction_since=min((one.since for one in transactions), default=None),
            open_transaction_offsets=None
            if self.transactions is None
            else sum(one.offsets for one in transactions),
            consumed_at=max(filter(None, (lane.consumed_at for lane in self.lanes)), default=None),
            partitions=len(self.lanes) or None,
            lagging=lagging[:MAX_LAGGING],
            tasks=tasks,
            measured_at=now,
            problems=self._problems(now),
            truncated={name: count for name, count in cut.items() if count} or None,
        )

    def _lag(self, number: int, lane: Lane) -> int | None:
        return None if number in self.troubles else lane.lag

    def _depth(self, lane: Lane) -> int:
        if lane.window and lane.stand and self.shows_tasks:
            return lane.window.depth(lane.stand.end)
        return lane.lag or 0

    def _waiting(self) -> int:
        """How many tasks might be shown, of all partitions of which that is known."""
        if not self.shows_tasks or _is_forbidden(self.refusal):
            return 0
        lanes = enumerate(self.lanes)
        return sum(
            self._depth(lane) for n, lane in lanes if not _is_forbidden(self.troubles.get(n))
        )

    def _is_exact(self) -> bool:
        return all(
            not lane.lag
            or bool(self.shows_tasks and lane.window and lane.window.is_exact(lane.stand.end))
            for lane in self.lanes
            if lane.stand
        )

    def _tasks(self, shown: int) -> list[PendingTask]:
        """The oldest of all that was read."""
        if not self.shows_tasks or _is_forbidden(self.refusal):
            return []
        windows = [
            lane.window.by_age
            for number, lane in enumerate(self.lanes)
            if lane.window and not self._is_hidden(number)
        ]
        return list(islice(heapq.merge(*windows, key=age), shown))

    def _is_hidden(self, number: int) -> bool:
        return _is_forbidden(self.troubles.get(number)) or _is_forbidden(self.unread.get(number))

    def _oldest(self, lags: list[int | None]) -> datetime | None:
        """Of all that was read; unknown as long as the head of one lagging partition is."""
        found = []
        for number, (lag, lane) in enumerate(zip(lags, self.lanes, strict=True)):
            if not lag:
                continue
            if not (self.shows_tasks and lane.window) or self._is_hidden(number):
                return None
            if lane.window.tasks:
                found.append(lane.window.by_age[0].submitted_at)
            elif not lane.window.is_exact(lane.stand.end if lane.stand else 0):
                return None
        return min(filter(None, found), default=None)

    def _lagging(self, lags: list[int | None]) -> list[PartitionLag]:
        worst = sorted(
            (number for number, lag in enumerate(lags) if lag),
            key=lambda number: (-(lags[number] or 0), number),
        )
        return [PartitionLag(n, lags[n], self.lanes[n].consumed_at) for n in worst]

    def _members(self) -> list[Member]:
        """Those that have partitions of this topic come first."""
        members = self.info.members if self.info else ()
        return sorted(
            (_member(member, self.topic, len(self.lanes)) for member in members),
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
        """What is wrong, each since it was seen first."""
        said = list(dict.fromkeys(self._said()))
        self._since = {key: self._since.get(key, now) for key in said}
        found = [Problem(*key, self._since[key]) for key in said]
        found += self._held_back()
        return found[:MAX_PROBLEMS]

    def _held_back(self) -> list[Problem]:
        """One problem for all partitions with a transaction that has been open for long."""
        if self.refusal or not self.transactions:
            return []
        long = {n: one for n, one in sorted(self.transactions.items()) if one.is_long}
        if not long:
            return []
        offsets = _rounded(sum(one.offsets for one in long.values()))
        message = f"an open transaction holds back {offsets} ({_names(list(long))})"
        return [Problem("OpenTransaction", message, min(one.since for one in long.values()))]

    def _said(self) -> Iterator[tuple[str, str]]:
        if self.refusal:
            yield self.refusal
            return
        if self.untold:
            yield self.untold
        yield from _by_partition(self.troubles)
        states = {
            number: lane.stand.problem
            for number, lane in enumerate(self.lanes)
            if lane.stand and lane.stand.problem and number not in self.troubles
        }
        if self.group is None and "NoCommit" in states.values():
            yield "NoCommit", NOBODY if self.config.groups is None else NO_SUCH_GROUP
            return
        yield from _by_partition(
            {n: (problem, SAYS[problem]) for n, problem in states.items() if problem != "Unknown"}
        )
        yield from _by_partition(self._unread(), "tasks are not shown: ")

    def _unread(self) -> dict[int, tuple[str, str]]:
        """Without what the source says: that a broker is out of reach."""
        return {
            number: told
            for number, told in self.unread.items()
            if number not in self.cut_off or _is_forbidden(told)
        }


def _is_forbidden(trouble: tuple[str, str] | None) -> bool:
    """Any other trouble leaves the tasks that were read last."""
    return trouble is not None and trouble[0] == "Forbidden"


def _by_partition(
    troubles: Mapping[int, tuple[str, str]], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """One problem for all partitions that have it."""
    partitions: dict[tuple[str, str], list[int]] = {}
    for number, trouble in sorted(troubles.items()):
        partitions.setdefault(trouble, []).append(number)
    for (reason, message), numbers in partitions.items():
        yield reason, f"{prefix}{message} ({_names(numbers)})"


def _rounded(offsets: int) -> str:
    """With one digit, so that a problem does not change with each record."""
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
    # A task of a stream may have more partitions of its other topics.
    has = sorted(number for number in member.assignment.get(topic, ()) if number < partitions)
    return Member(member.client_id, host, has[:MAX_PARTITIONS], len(has))
