"""Consumer groups: their coordinator, their commits, their members."""

from collections.abc import Iterable

from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.membership import REBALANCING, GroupInfo
from telemetron_collectors.kafka.protocol.messages import Commit, Commits, Partitions
from telemetron_collectors.kafka.protocol.wire import Request, ResponseBody
from telemetron_collectors.kafka.queue import KafkaQueue, Refusal
from telemetron_collectors.kafka.topic import NO_COMMIT, CommitsByTopic, Topic

MAX_DELETED_TOPICS = 1000
"""Deleted topics of which a group's commits are remembered."""


class Rebalances:
    """Counts the rebalances of one group, as far as they are observed."""

    def __init__(self) -> None:
        self.count: int | None = None
        self._epoch: int | None = None
        self._settled: object = None
        self._is_moving = False

    def observe(self, info: GroupInfo) -> None:
        """Compare a description with the one before."""
        self.count = 0 if self.count is None else self.count + self._grown(info)
        self._epoch = 0 if info.is_absent else info.epoch
        self._is_moving = info.state in REBALANCING
        if not self._is_moving:
            self._settled = _settled(info)

    def _grown(self, info: GroupInfo) -> int:
        if info.is_absent:
            return 0
        if info.epoch is None:
            return int(not self._is_moving and self._moves(info))
        if self._epoch is None:  # it was a classic group
            return 1
        # A lower epoch: the group was deleted and created again.
        return info.epoch - (self._epoch if info.epoch >= self._epoch else 0)

    def _moves(self, info: GroupInfo) -> bool:
        return info.state in REBALANCING or _settled(info) != self._settled


def _settled(info: GroupInfo) -> object:
    members = sorted(info.members, key=lambda member: member.id)
    return [(member.id, member.assignment) for member in members]


class ConsumerGroup:
    """One consumer group, as it was read last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = "classic"
        self.node: int | None = None
        """Its coordinator."""
        self.refusal: Refusal | None = None
        self.queues: list[KafkaQueue] = []
        self.request: Request | None = None
        """Reads its commits on `topics`; None: to be built again."""
        self.topics: tuple[str, ...] = ()
        self.raw = b""
        """The last response: an equal one is not decoded again."""
        self.commits: CommitsByTopic = {}
        self.is_absent = False
        """Whether no broker knows it: nothing is committed."""
        self.read_at: float | None = None
        """When its commits were read last."""
        self._foreign: dict[str, dict[int, int]] = {}
        """Offsets committed on deleted topics: they do not count for a new topic of the name."""
        self._lost: dict[str, dict[int, int]] = {}
        """Offsets of commits that disappeared, as those on a topic that was just deleted."""
        self.committed: set[str] = set()
        """Topics that it has committed on."""
        self.committed_raw = b""
        """The response that `committed` was read from."""
        self.is_searched = False
        """Whether `committed` is known."""
        self.info: GroupInfo | None = None
        """Its state and members; None: not known."""
        self.members_refusal: Refusal | None = None
        """Why its members are not known."""
        self.described_at: float | None = None
        """When its coordinator described it last."""
        self.subscribed: frozenset[str] = frozenset()
        """Topics that its members read."""
        self.rebalances = Rebalances()

    @property
    def is_share(self) -> bool:
        return self.type == "share"

    @property
    def hides_topics(self) -> bool:
        """Whether it has rebalanced since it was found: its members' topics are not known."""
        return self.info is not None and self.info.state in REBALANCING and not self.subscribed

    def add(self, queue: KafkaQueue) -> None:
        self.queues.append(queue)
        self.request = None

    def remove(self, queue: KafkaQueue) -> None:
        self.queues.remove(queue)
        self.request = None
        self.forget(queue.topic)

    def move(self, node: int, kind: str) -> bool:
        """Set its coordinator and type; return whether either changed."""
        if (self.node, self.type) == (node, kind):
            return False
        self.node, self.type, self.request = node, kind, None
        self.committed_raw = b""
        return True

    def set_members(self, info: GroupInfo | None, refusal: Refusal | None, now: float) -> bool:
        """Apply a description, or why there is none; return whether it is news."""
        is_new = (info, refusal) != (self.info, self.members_refusal)
        self.info, self.members_refusal, self.described_at = info, refusal, now
        if info is not None and is_new:
            self.rebalances.observe(info)
            # While a classic group rebalances, its subscriptions are not described.
            known = frozenset() if info.has_assignments else self.subscribed
            self.subscribed = known.union(info.topics)
        return is_new

    def set_absent(self, info: GroupInfo, now: float) -> None:
        """No broker knows the group: it has no members and no commits."""
        self.read_at = now
        self.set_members(info, None, now)
        self.is_absent = self.is_searched = True
        self.refusal = None

    def update(self, commits: Commits, topics: Iterable[str]) -> None:
        """Apply its commits on these topics."""
        self.is_absent = False
        updated = dict(self.commits)
        for topic in topics:
            before, after = self.commits.get(topic), commits.topics.get(topic, {})
            if before != after:
                updated[topic] = after = self._mark_foreign(topic, before or {}, after)
        if updated != self.commits:
            self.commits = updated

    def _mark_foreign(
        self, topic: str, before: dict[int, Commit], after: dict[int, Commit]
    ) -> dict[int, Commit]:
        """Mark commits on a deleted topic of the name, until they change or disappear."""
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
        """The topic is deleted: its commits do not count for a new topic of the same name."""
        name = topic.name
        ours, lost = self.commits.get(name, {}), self._lost.pop(name, {})
        found = lost | {n: commit.offset for n, commit in ours.items() if commit.offset >= 0}
        found = {n: offset for n, offset in found.items() if offset}  # 0 is the start of any log
        foreign = self._foreign.pop(name, {}) | found
        if foreign:
            self._foreign[name] = foreign
        if foreign and name in self.commits:
            self.commits = {**self.commits, name: self._mark_foreign(name, {}, ours)}
        if len(self._foreign) > MAX_DELETED_TOPICS:
            del self._foreign[next(iter(self._foreign))]

    def forget(self, topic: str) -> None:
        """Drop the commits on a topic that is no longer shown, and may turn out to be deleted."""
        ours = self.commits.get(topic, {})
        found = {n: commit.offset for n, commit in ours.items() if commit.offset >= 0}
        if lost := self._lost.pop(topic, {}) | found:
            self._lost[topic] = lost
        if len(self._lost) > MAX_DELETED_TOPICS:
            del self._lost[next(iter(self._lost))]
        self.commits = {name: ours for name, ours in self.commits.items() if name != topic}


def offsets_request(group: ConsumerGroup, partitions: Partitions | None) -> Request:
    """Build the request for a group's commits on these partitions; None: on all topics."""
    make = messages.share_offsets if group.is_share else messages.fetch_offsets
    return make(group.name, partitions)


def parse_commits(group: ConsumerGroup, response: ResponseBody) -> Commits:
    """Decode the response to that request."""
    parse = messages.parse_share_offsets if group.is_share else messages.parse_commits
    return parse(response)
