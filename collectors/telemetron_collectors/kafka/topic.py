"""Topics: their partitions, the offsets of their logs, and the requests that read these."""

from datetime import datetime

from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.messages import NONE, Commit, Offset, TopicInfo
from telemetron_collectors.kafka.queue import KafkaQueue, OpenTransaction, Refusal

UNREAD = Offset(-1, 0)
NO_COMMIT = Commit(-1)

CommitsByTopic = dict[str, dict[int, Commit]]
"""A group's commits by topic and partition; replaced, never changed."""


class LeaderQuery:
    """The requests that one leader answers in every round, and the last responses.

    It also keeps the commits that were read before the last requests were sent. A log's end is
    compared only with those: compared with later commits, a slow leader's end would be too small.
    """

    def __init__(self, partitions: dict[str, list[int]]) -> None:
        self.partitions = partitions
        self.latest = messages.list_offsets(partitions, messages.LATEST)
        self.earliest = messages.list_offsets(partitions, messages.EARLIEST)
        self.high_watermarks = messages.list_offsets(
            partitions, messages.LATEST, messages.UNCOMMITTED
        )
        self.responses: dict[str, bytes] = {}
        """The last response to each request: an equal one is not decoded again."""
        self.commits: dict[str, CommitsByTopic] = {}
        """By group."""

    def commits_of(self, group: str, topic: str) -> dict[int, Commit] | None:
        """Return a group's commits on a topic; None: they were not known then."""
        return self.commits.get(group, {}).get(topic)


class Topic:
    """One topic: its partitions, and the offsets of their logs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = ""
        self.leaders: tuple[int, ...] = ()
        self.refusal: Refusal | None = None
        self.fault = 0
        """The error code of its metadata, if it is no missing topic and no missing permission."""
        self.missed = 0
        """How many times in a row the metadata did not contain it."""
        self.queues: list[KafkaQueue] = []
        self.is_compacted = False
        """Whether an offset without a record was seen."""
        self._reset()

    def _reset(self) -> None:
        self.starts: dict[int, Offset] = {}
        self.ends: dict[int, Offset] = {}
        """The last stable offsets."""
        self.asked: dict[int, LeaderQuery] = {}
        """The query that each end is an answer to."""
        self.high_watermarks: dict[int, int] = {}
        """Of every partition, read every second to find open transactions."""
        self.fresh_watermarks: dict[int, int] = {}
        """Of partitions in which a group has committed beyond the last stable offset."""
        self.open: dict[int, OpenTransaction] = {}
        """Transactions that were open in more than one check."""
        self.opened: dict[int, tuple[int, datetime, float]] = {}
        """First offset, wall time and monotonic time of each transaction that is open."""
        self.bad_since: dict[int, float] = {}
        """When the leader of each partition first returned an error, or was gone."""
        self.bad: dict[int, set[str]] = {}
        """The requests with errors of each such partition."""
        self.broken: dict[tuple[int, int], float] = {}
        """Partition and offset of records that cannot be decoded, and when to try them again."""
        self.unread_until: dict[int, float] = {}
        """When to fetch a partition's records again."""
        self.log = object()
        """Replaced when records may be gone and others in their place."""
        self.produced_at: datetime | None = None

    def update(self, info: TopicInfo) -> bool:
        """Apply the topic's metadata; return whether the topic was recreated."""
        is_recreated = self.is_other(info)
        if is_recreated:
            self.forget()
        self.id = info.id or self.id
        self.leaders = info.leaders
        self.refusal = None
        self.missed = 0
        return is_recreated

    def is_other(self, info: TopicInfo) -> bool:
        """Return whether the metadata is of another topic with the same name."""
        return bool(self.id and info.id and self.id != info.id)

    def forget(self) -> None:
        """Drop the state of the log: the topic was deleted or recreated."""
        self.is_compacted = False
        self._reset()
        for queue in self.queues:
            queue.forget()

    def commits(self, group: str) -> list[Commit | None]:
        """Return a group's commit in each partition when its end was asked for; None: unknown."""
        found: list[Commit | None] = []
        last, ours = None, None
        for number in range(len(self.leaders)):
            query = self.asked.get(number)
            if query is not last:
                last, ours = query, query.commits_of(group, self.name) if query else None
            found.append(None if ours is None else ours.get(number, NO_COMMIT))
        return found

    def is_bad(self, partition: int, answered: str) -> bool:
        """Return whether a request other than the one just answered still has an error."""
        bad = self.bad.get(partition, set())
        bad.discard(answered)
        return bool(bad)

    def leader(self, partition: int) -> int:
        """Return the leader's id; -1: none is known."""
        return self.leaders[partition] if partition < len(self.leaders) else -1

    def shrink(self, partition: int) -> None:
        """The partition's end moved back: drop its records, which may be gone."""
        self.log = object()
        self.broken.clear()
        for queue in self.queues:
            if partition < len(queue.partitions):
                queue.partitions[partition].window = None

    @property
    def has_records(self) -> bool:
        """Whether the log of any partition ends after its start."""
        return any(
            self.is_read(number) and self.ends[number].offset > self.starts[number].offset
            for number in self.ends.keys() & self.starts.keys()
        )

    def error(self, partition: int) -> int:
        """Return the error code that the leader returned for a partition."""
        return self.ends.get(partition, UNREAD).error or self.starts.get(partition, UNREAD).error

    def is_read(self, partition: int) -> bool:
        return self.error(partition) == NONE
