"""Applies the state of topics and groups to the queues, and publishes the changed queues."""

import msgspec

from telemetron.collector import Put
from telemetron.slices import paced
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.config import MAX_SHOWN
from telemetron_collectors.kafka.group import ConsumerGroup
from telemetron_collectors.kafka.partition import LogRange
from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.messages import Commit
from telemetron_collectors.kafka.queue import KafkaQueue, Refusal
from telemetron_collectors.kafka.scopes import CLUSTER
from telemetron_collectors.kafka.topic import NO_COMMIT, Topic

NO_LEADER = ("Unreachable", "the partition has no leader")
UNKNOWN_LEADER = ("Unreachable", "the metadata does not name the partition's leader")
NOT_SERVED = ("Unreachable", "the leader does not serve the partition")
LATE = ("Unreachable", "the group's offsets cannot be read")


class Publisher:
    """Publishes queues, with a limit on the tasks of all of them."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster
        self._brokers = cluster.brokers
        self._clock = cluster.clock
        self._topics = cluster.topics
        self._queues = cluster.queues
        self._groups = cluster.groups
        self._scopes = cluster.scopes
        self._max_tasks = MAX_SHOWN
        """Of each queue, so that all queues have room."""
        self._without_room: set[KafkaQueue] = set()
        """Queues with tasks for which there was no room."""

    def max_tasks(self, queue: KafkaQueue) -> int:
        """Return how many of the queue's tasks are shown at most."""
        return min(queue.config.max_tasks, self._max_tasks)

    def share_tasks(self) -> None:
        """Share the room for tasks among the queues; queues that had no room try again."""
        self._cluster.mark_changed(self._without_room)
        self._without_room.clear()
        waiting = [q for q in self._queues.values() if q.shows_tasks and any(q.windows())]
        asked = sum(queue.config.max_tasks for queue in waiting)
        share = MAX_SHOWN if asked <= MAX_SHOWN else max(1, MAX_SHOWN // len(waiting))
        if share != self._max_tasks:
            self._max_tasks = share
            self._cluster.mark_changed(waiting)

    async def publish(self) -> None:
        """Publish the queues that changed."""
        async for queue in paced(self._cluster.pop_changed()):
            self._publish(queue)
        if not self._cluster.is_complete:
            await self._replace()

    async def _replace(self) -> None:
        """Replace everything once: an earlier run may have left queues that no longer exist."""
        self._cluster.mark_complete()
        self.share_tasks()
        shown = [(queue.id, queue.part) for queue in self._queues.values()]
        puts = [Put("queues", id, id, part) for id, part in shown if part is not None]
        await self._cluster.output.replace(puts, scope=CLUSTER)

    def _publish(self, queue: KafkaQueue) -> None:
        self._update(queue)
        before = queue.part
        if queue.is_idle:
            if before:
                self._cluster.hide(queue)
            return
        part = queue.build(self._clock.now(), self.max_tasks(queue))
        room = MAX_SHOWN - self._cluster.task_count + queue.shown_tasks
        if len(part.tasks) > room:
            self._without_room.add(queue)
            part = queue.build(self._clock.now(), room)
        if before and msgspec.structs.replace(part, measured_at=before.measured_at) == before:
            return
        self._cluster.show(queue, part)

    def _update(self, queue: KafkaQueue) -> None:
        """Apply the state of the queue's topic and group."""
        topic = self._topics[queue.topic]
        group = self._groups.get(queue.group) if queue.group is not None else None
        queue.resize(len(topic.leaders))
        queue.produced_at = topic.produced_at
        queue.refusal = topic.refusal or (group.refusal if group else self._no_group(queue))
        queue.out_of_reach = self._out_of_reach(topic)
        if group:
            queue.info, queue.members_refusal = group.info, group.members_refusal
            queue.is_share = group.is_share
            queue.generation = group.rebalances.count if group.info else None
        else:
            is_hidden = queue.refusal is not None or not topic.has_records
            queue.is_idle = queue.config.is_pattern and is_hidden
        self._update_partitions(queue, topic, group)
        queue.prune_unread()
        max_tasks = self.max_tasks(queue)
        if any(window.wants(end, max_tasks) for _, window, end in queue.windows()):
            self._cluster.mark_short(queue)
        is_known = 0 < len(queue.partitions) <= len(topic.high_watermarks)
        is_known = is_known and not (queue.troubles or queue.refusal)
        queue.transactions = topic.open if is_known else None

    def _update_partitions(
        self, queue: KafkaQueue, topic: Topic, group: ConsumerGroup | None
    ) -> None:
        now, policy = self._clock.now(), queue.config.on_no_commit
        commits: list[Commit | None] = [NO_COMMIT] * len(queue.partitions)
        is_late = False
        if group is not None:
            commits = topic.commits(group.name)
            is_late = self._cluster.is_late(group.read_at, group.node)
        for number, partition in enumerate(queue.partitions):
            commit = commits[number]
            trouble, is_good = self._trouble(topic, group, number, commit)
            if is_late and not trouble:
                trouble = LATE
            if trouble:
                queue.troubles[number] = trouble
                continue
            if commit is None or not is_good:
                continue  # the last known position stays for a while
            queue.troubles.pop(number, None)
            start, end = topic.starts[number].offset, topic.ends[number].offset
            log = LogRange(start, end, topic.fresh_watermarks.get(number))
            partition.update(commit, log, policy, now)

    def _no_group(self, queue: KafkaQueue) -> Refusal | None:
        """Return why a group may read the topic; None once it was certain that no group does."""
        unknown = self._cluster.groups_unknown
        queue.is_certain |= unknown is None
        return None if queue.is_certain else unknown

    def _out_of_reach(self, topic: Topic) -> set[int]:
        """Return the partitions whose leader is out of reach: the source reports that."""
        if not self._scopes.has_trouble:
            return set()
        leaders = enumerate(topic.leaders)
        return {n for n, leader in leaders if self._scopes.trouble_with(leader)}

    def _trouble(
        self, topic: Topic, group: ConsumerGroup | None, number: int, commit: Commit | None
    ) -> tuple[Refusal | None, bool]:
        """Return why a partition is not known, and whether its last offsets are good."""
        error, leader = topic.error(number), topic.leader(number)
        if messages.TOPIC_DENIED in (error, commit.error if commit else messages.NONE):
            return ("Forbidden", "no permission to describe the topic"), False
        is_gone = leader not in self._brokers.known
        is_good = error == messages.NONE and not is_gone and number not in topic.bad_since
        if is_good and not self._scopes.has_trouble:  # nearly always, for thousands of partitions
            return None, True
        now = self._clock.monotonic()
        if is_gone:
            topic.bad_since.setdefault(number, now)
        trouble = None if number in topic.ends else self._silence(leader)
        if trouble is None and group is not None and group.read_at is None:
            trouble = self._silence(group.node)
        bad_seconds = now - topic.bad_since.get(number, now)
        is_late = bad_seconds > self._cluster.hold_seconds
        if trouble is None and is_late and self._scopes.trouble_with(leader) is None:
            trouble = NO_LEADER if leader < 0 else UNKNOWN_LEADER if is_gone else NOT_SERVED
        return trouble, is_good

    def _silence(self, node: int | None) -> Refusal | None:
        """Return why a broker has never returned a value.

        Values that it returned before stay while it is out of reach: the source reports that.
        """
        trouble = None if node is None else self._scopes.trouble_with(node)
        return (trouble.reason, f"broker {node}: {trouble.message}") if trouble else None
