"""From what was read to what is shown."""

import asyncio
from collections.abc import Iterator

import msgspec

from telemetron.collector import Put
from telemetron.slices import sliced
from telemetron_collectors.kafka import request as ask
from telemetron_collectors.kafka.config import MAX_SHOWN
from telemetron_collectors.kafka.known import CLUSTER, Known
from telemetron_collectors.kafka.lane import Log
from telemetron_collectors.kafka.queue import TopicQueue
from telemetron_collectors.kafka.request import Commit
from telemetron_collectors.kafka.state import NO_COMMIT, Group, Refusal, Topic

GONE = ("Unreachable", "the partition has no leader")
STRANGE = ("Unreachable", "its leader is no broker that is known")
UNSERVED = ("Unreachable", "its leader does not serve it")
LATE = ("Unreachable", "nobody tells where the group stands")


class Publisher:
    """Puts every queue that something has changed of."""

    def __init__(self, known: Known) -> None:
        self.known = known

    async def publish(self) -> None:
        """Show what has changed."""
        for _ in sliced(self._put_touched()):
            await asyncio.sleep(0)
        if not self.known.is_complete:
            # An earlier run may have left queues that nobody watches any more.
            self.known.is_complete = True
            self.known.share_out()
            await self.known.output.replace(
                [Put("queues", id, id, part) for id, part in self.known.parts.items()],
                scope=CLUSTER,
            )

    def _put_touched(self) -> Iterator[None]:
        while self.known.touched:
            self._put(self.known.touched.pop())
            yield

    def _put(self, queue: TopicQueue) -> None:
        self._place(queue)
        if queue.is_idle:
            self._take_back(queue)
            return
        before = self.known.parts.get(queue.id)
        part = queue.build(self.known.clock.now(), self.known.wanted(queue))
        room = MAX_SHOWN - self.known.total + (len(before.tasks) if before else 0)
        if len(part.tasks) > room:
            self.known.cut.add(queue)
            part = queue.build(self.known.clock.now(), room)
        if before and msgspec.structs.replace(part, measured_at=before.measured_at) == before:
            return
        self.known.total += len(part.tasks) - (len(before.tasks) if before else 0)
        self.known.parts[queue.id] = part
        self.known.output.put("queues", queue.id, queue.id, part)

    def _place(self, queue: TopicQueue) -> None:
        """Take into the queue what is known of its topic and its group."""
        topic = self.known.topics[queue.topic]
        group = self.known.groups.get(queue.group) if queue.group is not None else None
        queue.resize(len(topic.leaders))
        queue.produced_at = topic.produced_at
        queue.refusal = topic.refusal or (group.refusal if group else self._unseen(queue))
        queue.cut_off = self._cut_off(topic)
        self._place_lanes(queue, topic, group)
        is_known = 0 < len(queue.lanes) <= len(topic.tops) and not (queue.troubles or queue.refusal)
        queue.transactions = topic.open if is_known else None

    def _place_lanes(self, queue: TopicQueue, topic: Topic, group: Group | None) -> None:
        now, policy = self.known.clock.now(), queue.config.on_no_commit
        if group is None:
            commits: list[Commit | None] = [NO_COMMIT] * len(queue.lanes)
            queue.is_idle = queue.config.is_pattern and (
                queue.refusal is not None or not topic.has_records
            )
        else:
            commits = topic.commits(group.name)
            queue.info, queue.untold, queue.is_share = group.info, group.untold, group.is_share
            queue.generation = group.rebalances.count if group.info else None
        is_late = group is not None and self._is_late(group)
        for number, lane in enumerate(queue.lanes):
            commit = commits[number]
            trouble, is_good = self._trouble(topic, group, number, commit)
            if is_late and not trouble:
                trouble = LATE
            if trouble:
                queue.troubles[number] = trouble
                continue
            if commit is None or not is_good:
                continue  # the last known stands for a while
            queue.troubles.pop(number, None)
            start, end = topic.starts[number].offset, topic.ends[number].offset
            lane.place(commit, Log(start, end, topic.highs.get(number)), policy, now)
        queue.prune_unread()
        if any(window.wants(end, self.known.wanted(queue)) for _, window, end in queue.windows()):
            self.known.hungry.add(queue)

    def _take_back(self, queue: TopicQueue) -> None:
        if part := self.known.parts.pop(queue.id, None):
            self.known.total -= len(part.tasks)
            self.known.output.remove("queues", queue.id)

    def _unseen(self, queue: TopicQueue) -> Refusal | None:
        """Why it is not known that no group reads the topic; once it was known, it stays so."""
        queue.is_seen |= self.known.unseen is None
        return None if queue.is_seen else self.known.unseen

    def _cut_off(self, topic: Topic) -> set[int]:
        """The partitions whose leader is out of reach: the source says so."""
        if not self.known.troubles:
            return set()
        return {n for n, leader in enumerate(topic.leaders) if self.known.silence(leader)}

    def _is_late(self, group: Group) -> bool:
        is_old = group.read_at is not None and self.known.is_old(group.read_at)
        return is_old and self.known.silence(group.node) is None

    def _trouble(
        self, topic: Topic, group: Group | None, number: int, commit: Commit | None
    ) -> tuple[Refusal | None, bool]:
        """Why a partition is not known, and whether what was read of it last is good."""
        error, leader = topic.error(number), topic.leader(number)
        if ask.TOPIC_DENIED in (error, commit.error if commit else ask.NONE):
            return ("Forbidden", "no permission to describe the topic"), False
        is_gone = leader not in self.known.brokers.known
        is_good = error == ask.NONE and not is_gone and number not in topic.bad_since
        if is_good and not self.known.troubles:  # nearly always, for thousands of partitions
            return None, True
        now = self.known.clock.monotonic()
        if is_gone:
            topic.bad_since.setdefault(number, now)
        trouble = None if number in topic.ends else self._silence(leader)
        if trouble is None and group is not None and group.read_at is None:
            trouble = self._silence(group.node)
        is_out = number in topic.bad_since and now - topic.bad_since[number] > self.known.hold
        if trouble is None and is_out and self.known.silence(leader) is None:
            trouble = GONE if leader < 0 else STRANGE if is_gone else UNSERVED
        return trouble, is_good

    def _silence(self, node: int | None) -> Refusal | None:
        """Why nothing is known of what a broker has never told.

        What it told before stays, as long as it is out of reach: the source says so.
        """
        told = None if node is None else self.known.silence(node)
        return (told.reason, f"broker {node}: {told.message}") if told else None
