"""What is known of topics and groups, as they were read last."""

from collections.abc import Iterable
from datetime import datetime

from telemetron_collectors.kafka.protocol import messages as request
from telemetron_collectors.kafka.protocol.membership import REBALANCING, GroupInfo, Rebalances
from telemetron_collectors.kafka.protocol.messages import (
    NONE,
    Commit,
    Commits,
    Offset,
    Partitions,
    TopicInfo,
)
from telemetron_collectors.kafka.protocol.wire import Answer, Request
from telemetron_collectors.kafka.queue import OpenTransaction, TopicQueue

Refusal = tuple[str, str]
"""A reason, and a message."""

UNREAD = Offset(-1, 0)
NO_COMMIT = Commit(-1)
MAX_FOREIGN = 1000
"""Topics that are gone of which a group's commits are kept in mind."""

Stands = dict[str, dict[int, Commit]]
"""Where a group stands, by topic and partition; replaced, never changed."""


class Ends:
    """What one leader is asked in every round, and where the groups stood when it was."""

    def __init__(self, partitions: dict[str, list[int]]) -> None:
        self.partitions = partitions
        self.latest = request.list_offsets(partitions, request.LATEST)
        self.earliest = request.list_offsets(partitions, request.EARLIEST)
        self.highs = request.list_offsets(partitions, request.LATEST, request.UNCOMMITTED)
        self.stands: dict[str, Stands] = {}
        """By group, read before what was answered last was asked."""

    def stand(self, group: str, topic: str) -> dict[int, Commit] | None:
        """Where the group stood then in a topic; None: that was not known."""
        return self.stands.get(group, {}).get(topic)


class Topic:
    """One topic: its partitions, and the ends of their logs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = ""
        self.leaders: tuple[int, ...] = ()
        self.refusal: Refusal | None = None
        self.fault = 0
        """The cluster's error of it as a whole, where that is no other of these."""
        self.missed = 0
        """How many times in a row the cluster did not know it."""
        self.queues: list[TopicQueue] = []
        self.starts: dict[int, Offset] = {}
        self.ends: dict[int, Offset] = {}
        self.asked: dict[int, Ends] = {}
        """The question that the end is the answer of."""
        self.highs: dict[int, int] = {}
        """The end of all records, where a group stands beyond that of the stable ones."""
        self.tops: dict[int, int] = {}
        """The end of all records of every partition, as it was read last."""
        self.open: dict[int, OpenTransaction] = {}
        """Transactions that were seen open more than once."""
        self.opened: dict[int, tuple[int, datetime, float]] = {}
        """First offset of each that was seen open last, and the time and clock then."""
        self.bad_since: dict[int, float] = {}
        """Partitions that their leader said an error of."""
        self.bad: dict[int, set[str]] = {}
        """Which of their ends that was; one that is told does not mend the other."""
        self.broken: dict[tuple[int, int], float] = {}
        """Partition and offset of records that cannot be decoded, until they are tried again."""
        self.unread_until: dict[int, float] = {}
        self.is_compacted = False
        """Whether offsets without anything were seen."""
        self.log = object()
        """Another one once records that were asked for may be gone, and others in their place."""
        self.produced_at: datetime | None = None

    def update(self, info: TopicInfo) -> bool:
        """Take what the metadata says; True: it is another topic of the same name."""
        recreated = bool(self.id and info.id and self.id != info.id)
        if recreated:
            self.forget()
        self.id = info.id or self.id
        self.leaders = info.leaders
        self.refusal = None
        self.missed = 0
        return recreated

    def forget(self) -> None:
        """Its log is gone."""
        self.starts.clear()
        self.ends.clear()
        self.asked.clear()
        self.highs.clear()
        self.tops.clear()
        self.open.clear()
        self.opened.clear()
        self.bad_since.clear()
        self.bad.clear()
        self.broken.clear()
        self.unread_until.clear()
        self.produced_at = None
        self.is_compacted = False
        self.log = object()
        for queue in self.queues:
            queue.forget()

    def commits(self, group: str) -> list[Commit | None]:
        """Where a group stood in each partition when its end was asked; None: not known."""
        found: list[Commit | None] = []
        last, ours = None, None
        for number in range(len(self.leaders)):
            ends = self.asked.get(number)
            if ends is not last:
                last, ours = ends, ends.stand(group, self.name) if ends else None
            found.append(None if ours is None else ours.get(number, NO_COMMIT))
        return found

    def is_bad(self, partition: int, told: str) -> bool:
        """Whether its leader still says an error of an end other than the one just told."""
        bad = self.bad.get(partition, set())
        bad.discard(told)
        return bool(bad)

    def leader(self, partition: int) -> int:
        """The leader's id; -1: none is known."""
        return self.leaders[partition] if partition < len(self.leaders) else -1

    def shrink(self, partition: int) -> None:
        """A partition ends earlier than before: what was read of it may be gone."""
        self.log = object()
        self.broken.clear()
        for queue in self.queues:
            if partition < len(queue.lanes):
                queue.lanes[partition].window = None

    @property
    def has_records(self) -> bool:
        """Whether any of its logs does not end where it starts."""
        return any(
            self.is_read(number) and self.ends[number].offset > self.starts[number].offset
            for number in self.ends.keys() & self.starts.keys()
        )

    def error(self, partition: int) -> int:
        """What its leader said of a partition."""
        return self.ends.get(partition, UNREAD).error or self.starts.get(partition, UNREAD).error

    def is_read(self, partition: int) -> bool:
        return self.error(partition) == NONE


class Group:
    """One consumer group: who coordinates it, where it stands, who its members are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = "classic"
        self.node: int | None = None
        """Its coordinator."""
        self.refusal: Refusal | None = None
        self.request: Request | None = None
        self.raw = b""
        """The last answer, to be spared decoding the same again."""
        self.topics: tuple[str, ...] = ()
        """Those that the request asks for."""
        self.commits: Stands = {}
        self.is_absent = False
        """Whether no broker knows it: nothing is committed."""
        self.read_at: float | None = None
        self._foreign: dict[str, dict[int, int]] = {}
        """Commits on topics that are gone, by partition: none of a new topic's of the name."""
        self._lost: dict[str, dict[int, int]] = {}
        """Commits that are no more, as those on a topic that was just deleted."""
        self.committed: set[str] = set()
        """Topics it has committed on."""
        self.committed_raw = b""
        """The answer that told so."""
        self.is_searched = False
        """Whether it is known on which topics it has committed."""
        self.info: GroupInfo | None = None
        """Its members; None: not known."""
        self.untold: Refusal | None = None
        """Why they are not."""
        self.described_at: float | None = None
        """When its coordinator told that last."""
        self.subscribed: frozenset[str] = frozenset()
        """Topics that its members read."""
        self.rebalances = Rebalances()
        self.queues: list[TopicQueue] = []

    @property
    def is_share(self) -> bool:
        return self.type == "share"

    @property
    def hides_topics(self) -> bool:
        """Whether nobody has told what its members read: it has rebalanced since it was found."""
        return self.info is not None and self.info.state in REBALANCING and not self.subscribed

    def describe(self, info: GroupInfo | None, untold: Refusal | None, now: float) -> bool:
        """Take what is known of its members; whether that is news."""
        is_new = (info, untold) != (self.info, self.untold)
        self.info, self.untold, self.described_at = info, untold, now
        if info is not None and is_new:
            self.rebalances.take(info)
            # While a classic group rebalances, nobody tells what its members read.
            known = frozenset() if info.is_told else self.subscribed
            self.subscribed = known.union(info.topics)
        return is_new

    def update(self, commits: Commits, topics: Iterable[str]) -> None:
        """Take what it has committed on these topics."""
        self.is_absent = False
        taken = dict(self.commits)
        for topic in topics:
            before, after = self.commits.get(topic), commits.topics.get(topic, {})
            if before != after:
                taken[topic] = after = self._judge(topic, before or {}, after)
        if taken != self.commits:
            self.commits = taken

    def _judge(
        self, topic: str, before: dict[int, Commit], after: dict[int, Commit]
    ) -> dict[int, Commit]:
        """Mark what is a commit on an earlier topic, until it is another one, or gone."""
        for partition, commit in before.items():
            if commit.offset >= 0 and after.get(partition, NO_COMMIT).offset < 0:
                self._lost.setdefault(topic, {})[partition] = commit.offset
        foreign = self._foreign.get(topic, {})
        for partition, offset in list(foreign.items()):
            was, commit = before.get(partition, NO_COMMIT), after.get(partition, NO_COMMIT)
            if commit.offset == offset:
                after = {**after, partition: commit._replace(foreign=True)}
            elif commit.offset >= 0 or was.offset == offset:
                del foreign[partition]
        return after

    def disown(self, topic: Topic) -> None:
        """The topic is gone: what was committed while it was there is none of a new one's."""
        name = topic.name
        ours, lost = self.commits.get(name, {}), self._lost.pop(name, {})
        found = lost | {n: commit.offset for n, commit in ours.items() if commit.offset >= 0}
        found = {n: offset for n, offset in found.items() if offset}  # 0 is the start of any log
        foreign = self._foreign.pop(name, {}) | found
        if foreign:
            self._foreign[name] = foreign
        if foreign and name in self.commits:
            self.commits = {**self.commits, name: self._judge(name, {}, ours)}
        if len(self._foreign) > MAX_FOREIGN:
            del self._foreign[next(iter(self._foreign))]

    def forget(self, topic: str) -> None:
        """Nobody asks for it any more, perhaps since it is gone: that is told later."""
        ours = self.commits.get(topic, {})
        found = {n: commit.offset for n, commit in ours.items() if commit.offset >= 0}
        if lost := self._lost.pop(topic, {}) | found:
            self._lost[topic] = lost
        if len(self._lost) > MAX_FOREIGN:
            del self._lost[next(iter(self._lost))]
        self.commits = {name: ours for name, ours in self.commits.items() if name != topic}


def offsets_of(group: Group, partitions: Partitions | None) -> Request:
    """The request for where a group stands in these partitions, or in all it has committed on."""
    make = request.share_offsets if group.is_share else request.fetch_offsets
    return make(group.name, partitions)


def commits_of(group: Group, answer: Answer) -> Commits:
    """What the answer to that says."""
    parse = request.parse_share_offsets if group.is_share else request.parse_commits
    return parse(answer)
