"""The state of one Kafka cluster: its topics, groups and queues, and which of them changed."""

from collections.abc import Iterable, Iterator, Set

from telemetron.collector import Output
from telemetron.document import Queue
from telemetron_collectors.kafka.brokers import Brokers, ConnectionSettings
from telemetron_collectors.kafka.config import KafkaConfig
from telemetron_collectors.kafka.group import ConsumerGroup
from telemetron_collectors.kafka.jobs import Schedule
from telemetron_collectors.kafka.limits import LIMITS, KafkaLimits
from telemetron_collectors.kafka.queue import KafkaQueue, Refusal
from telemetron_collectors.kafka.scopes import Scopes
from telemetron_collectors.kafka.topic import Topic


class KafkaCluster:
    """One source's cluster. Its flags are private; methods say what happened."""

    def __init__(
        self,
        config: KafkaConfig,
        output: Output,
        settings: ConnectionSettings,
        limits: KafkaLimits = LIMITS,
    ) -> None:
        self.config = config
        self.output = output
        self.clock = output.clock
        self.limits = limits
        self.hold_seconds = limits.hold_seconds(config.interval)
        """How long a value stays that is no longer confirmed."""
        self.schedule = Schedule(output.clock)
        self.brokers = Brokers(config.bootstrap_servers, settings, output.clock, limits)
        self.topics = {
            entry.topic: Topic(entry.topic) for entry in config.entries if not entry.is_pattern
        }
        self.groups: dict[str, ConsumerGroup] = {}
        self.queues: dict[str, KafkaQueue] = {}
        self.scopes = Scopes(output, self.brokers, list(self.topics), self._mark_unread)
        self.groups_unknown: Refusal | None = ("Unreachable", "the groups are not known yet")
        """Why there may be groups that we do not know; None: we know all that we may see."""
        self.layout = 0
        """Rises when the requests of a round must be planned again; see `replan`."""
        self.is_complete = False
        """Whether the first complete state was published."""
        self.task_count = 0
        """Tasks of all queues in the document."""
        self._changed: set[KafkaQueue] = set()
        self._short: set[KafkaQueue] = set()

    def replan(self) -> None:
        """Leaders, brokers or queues changed: the next round asks other brokers for other data."""
        self.layout += 1

    # Queues that changed, and queues that are short of tasks

    @property
    def changed(self) -> Set[KafkaQueue]:
        """The queues to publish again; a queue that was removed may be among them."""
        return self._changed

    def mark_changed(self, queues: Iterable[KafkaQueue]) -> None:
        """Have the queues published again."""
        self._changed.update(queues)

    def mark_all_changed(self) -> None:
        self._changed.update(self.queues.values())

    def pop_changed(self) -> Iterator[KafkaQueue]:
        """Yield each queue that changed, and forget the change."""
        while self._changed:
            queue = self._changed.pop()
            if not queue.is_removed:
                yield queue

    @property
    def short(self) -> Set[KafkaQueue]:
        """The queues that may show more tasks than were read."""
        return self._short

    def mark_short(self, queue: KafkaQueue) -> None:
        """Have the queue's next tasks fetched."""
        self._short.add(queue)

    def mark_filled(self, queue: KafkaQueue) -> None:
        self._short.discard(queue)

    def _mark_unread(self) -> None:
        """Trouble began or ended: queues do not report unread records that the source explains."""
        self.mark_changed(queue for queue in self.queues.values() if queue.unread)

    def mark_complete(self) -> None:
        self.is_complete = True

    # The queues

    def add(self, queue: KafkaQueue) -> None:
        self.queues[queue.id] = queue
        topic = self.topics.get(queue.topic)
        if topic is None:
            topic = self.topics[queue.topic] = Topic(queue.topic)
            self.schedule.hasten("topics")
        topic.queues.append(queue)
        if queue.group is not None:
            self.groups[queue.group].add(queue)
        self.mark_changed([queue])
        self.replan()

    def remove(self, queue: KafkaQueue) -> None:
        """Remove a queue. Its topic stays until the metadata says that it is gone."""
        del self.queues[queue.id]
        queue.is_removed = True
        self.hide(queue)
        self._changed.discard(queue)
        self._short.discard(queue)
        self.topics[queue.topic].queues.remove(queue)
        if queue.group in self.groups:
            self.groups[queue.group].remove(queue)
        self.replan()

    def show(self, queue: KafkaQueue, part: Queue) -> None:
        """Put a queue into the document."""
        self.task_count += len(part.tasks) - queue.shown_tasks
        queue.part = part
        self.output.put("queues", queue.id, queue.id, part)

    def hide(self, queue: KafkaQueue) -> None:
        """Take a queue out of the document."""
        self.task_count -= queue.shown_tasks
        queue.part = None
        self.output.remove("queues", queue.id)

    # What is known of the groups

    def set_groups_unknown(self, refusal: Refusal | None) -> None:
        """Record why some groups may be unknown; None: all are known."""
        if refusal != self.groups_unknown:
            self.groups_unknown = refusal
            self.mark_changed(queue for queue in self.queues.values() if queue.group is None)

    def refuse(self, group: ConsumerGroup, refusal: Refusal) -> None:
        """Show nothing of a group until it is read again."""
        if group.refusal != refusal:
            group.refusal, group.raw = refusal, b""
            self.mark_changed(group.queues)

    def lose(self, group: ConsumerGroup, refusal: Refusal) -> None:
        """No coordinator serves the group: show nothing of it once its last offsets are too old.

        If its coordinator is out of reach, they stay until it is back: the source reports that.
        """
        if group.read_at is None or self.is_late(group.read_at, group.node):
            self.refuse(group, refusal)

    def is_late(self, read_at: float | None, node: int | None) -> bool:
        """Return whether a value is too old, and no reported outage of its broker explains it."""
        return (
            read_at is not None
            and self.clock.monotonic() - read_at > self.hold_seconds
            and self.scopes.trouble_with(node) is None
        )
