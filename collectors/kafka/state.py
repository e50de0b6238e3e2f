"""What is known of topics and groups, as they were read last."""

from datetime import datetime

from collectors.kafka import request
from collectors.kafka.queue import TopicQueue
from collectors.kafka.request import (
    NONE,
    Commit,
    Commits,
    GroupInfo,
    Offset,
    Partitions,
    TopicInfo,
)
from collectors.kafka.wire import Answer, Request

Refusal = tuple[str, str]
"""A reason, and a message."""

UNREAD = Offset(-1, 0)
NO_COMMIT = Commit(-1)


class Topic:
    """One topic: its partitions, and the ends of their logs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = ""
        self.leaders: tuple[int, ...] = ()
        self.refusal: Refusal | None = None
        self.missed = 0
        """How many times in a row the cluster did not know it."""
        self.queues: list[TopicQueue] = []
        self.starts: dict[int, Offset] = {}
        self.ends: dict[int, Offset] = {}
        self.highs: dict[int, int] = {}
        """The end of all records, where a group stands beyond that of the stable ones."""
        self.bad_since: dict[int, float] = {}
        """Partitions that their leader said an error of."""
        self.unread_until: dict[int, float] = {}
        self.produced_at: datetime | None = None
        self.seen_at = 0.0
        """When the cluster named it last."""

    def update(self, info: TopicInfo, now: float) -> bool:
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
        for known in (self.starts, self.ends, self.highs, self.bad_since, self.unread_until):
            known.clear()
        self.produced_at = None
        for queue in self.queues:
            queue.forget()

    def leader(self, partition: int) -> int:
        """The leader's id; -1: none is known."""
        return self.leaders[partition] if partition < len(self.leaders) else -1

    def shrink(self, partition: int) -> None:
        """A partition ends earlier than before: what was read of it may be gone."""
        for queue in self.queues:
            if partition < len(queue.lanes):
                queue.lanes[partition].window = None

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
        self.commits: dict[str, dict[int, Commit]] = {}
        self.read_at: float | None = None
        self.changed_at: dict[str, float] = {}
        self.foreign: dict[tuple[str, int], int] = {}
        """Commits on a topic that is gone, by topic and partition: none of the new one's."""
        self._lost: dict[tuple[str, int], int] = {}
        """Commits that are no more, as those on a topic that was just deleted."""
        self.committed: set[str] = set()
        """Topics it has committed on."""
        self.committed_raw = b""
        """The answer that told so."""
        self.info: GroupInfo | None = None
        self.queues: list[TopicQueue] = []

    def update(self, commits: Commits, now: float) -> list[str]:
        """Take what it has committed; gives the topics where that is something else."""
        changed = [
            topic for topic, ours in commits.topics.items() if self.commits.get(topic) != ours
        ]
        for topic in changed:
            before, after = self.commits.get(topic, {}), commits.topics[topic]
            for partition, commit in before.items():
                if commit.offset >= 0 and after.get(partition, NO_COMMIT).offset < 0:
                    self._lost[topic, partition] = commit.offset
            self.commits[topic] = after
            if before and any(commit.offset >= 0 for commit in after.values()):
                self.changed_at[topic] = now
        return changed

    def disown(self, topic: Topic) -> None:
        """The topic is gone: what was committed while it was there is none of a new one's."""
        if self.changed_at.get(topic.name, 0.0) <= topic.seen_at:
            for partition, commit in self.commits.get(topic.name, {}).items():
                here = (topic.name, partition)
                offset = commit.offset if commit.offset >= 0 else self._lost.pop(here, -1)
                if offset >= 0:
                    self.foreign[here] = offset

    def commit(self, topic: str, partition: int) -> tuple[Commit, bool]:
        """Where it stands, and whether that is a commit on an earlier topic of the name."""
        commit = self.commits.get(topic, {}).get(partition, NO_COMMIT)
        foreign = self.foreign.get((topic, partition))
        if foreign is None:
            return commit, False
        if foreign != commit.offset and commit.offset >= 0:
            del self.foreign[topic, partition]
            return commit, False
        return commit, foreign == commit.offset


def offsets_of(group: Group, partitions: Partitions | None) -> Request:
    """The request for where a group stands in these partitions, or in all it has committed on."""
    make = request.share_offsets if group.type == "share" else request.fetch_offsets
    return make(group.name, partitions)


def commits_of(group: Group, answer: Answer) -> Commits:
    """What the answer to that says."""
    parse = request.parse_share_offsets if group.type == "share" else request.parse_commits
    return parse(answer)
