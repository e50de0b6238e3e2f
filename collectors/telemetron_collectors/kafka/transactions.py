"""Finds open transactions: readers of committed records cannot pass the first one."""

from telemetron_collectors.kafka.brokers import BrokerConnection
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.wire import ResponseBody
from telemetron_collectors.kafka.queue import OpenTransaction
from telemetron_collectors.kafka.topic import LeaderQuery, Topic

HIGHS = "high watermarks"


class Transactions:
    """Compares high watermarks with last stable offsets, leader by leader."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster
        self._topics = cluster.topics
        self._clock = cluster.clock
        self._limits = cluster.limits
        self._due: dict[int, float] = {}

    async def ask(
        self, node: int, connection: BrokerConnection, query: LeaderQuery
    ) -> ResponseBody | None:
        """Return the leader's high watermarks; None if it is not time yet.

        Ask for the stable offsets afterwards: if one is less, a transaction was open in between.
        """
        now = self._clock.monotonic()
        if now < self._due.get(node, 0.0):
            return None
        self._due[node] = now + self._limits.transactions
        return await connection.call(query.high_watermarks)

    def update(self, query: LeaderQuery, highs: ResponseBody, latest: ResponseBody) -> None:
        """Apply the high watermarks of one leader; its stable offsets were applied already."""
        before = query.responses.get(HIGHS)
        query.responses[HIGHS] = highs.content
        if before is not None and highs.content == latest.content:  # so no transaction is open
            for name, numbers in query.partitions.items():
                if (topic := self._topics.get(name)) and topic.opened:
                    self._close(topic, numbers)
            return
        for name, offsets in messages.parse_offsets(highs).items():
            if topic := self._topics.get(name):
                for number, high in offsets.items():
                    if (
                        high.error == messages.NONE
                        and number in topic.ends
                        and topic.is_read(number)
                    ):
                        self._compare(topic, number, high.offset, topic.ends[number].offset)
                    else:  # decode the next response, even if it is the same
                        query.responses.pop(HIGHS, None)

    def _close(self, topic: Topic, numbers: list[int]) -> None:
        for number in numbers:
            topic.opened.pop(number, None)
            if topic.open.pop(number, None):
                self._cluster.mark_changed(topic.queues)

    def _compare(self, topic: Topic, number: int, high: int, stable: int) -> None:
        before, topic.high_watermarks[number] = topic.high_watermarks.get(number), high
        if before is None:
            self._cluster.mark_changed(topic.queues)
        if high <= stable:
            self._close(topic, [number])
            return
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if before is not None and high > before:
            topic.produced_at = now
            self._cluster.mark_changed(topic.queues)
        first, since, began = topic.opened.setdefault(number, (stable, now, monotonic))
        if first != stable:
            self._close(topic, [number])
            topic.opened[number] = stable, now, monotonic
        elif began < monotonic:
            is_long = monotonic - began >= self._limits.long_transaction
            found = OpenTransaction(stable, high - stable, since, is_long)
            if topic.open.get(number) != found:
                topic.open[number] = found
                self._cluster.mark_changed(topic.queues)
