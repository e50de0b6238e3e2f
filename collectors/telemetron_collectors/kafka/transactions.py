"""Open transactions: records behind the first one are held back from readers of committed ones."""

from telemetron_collectors.kafka.cluster import Known
from telemetron_collectors.kafka.group import Ends, Topic
from telemetron_collectors.kafka.protocol import messages as ask
from telemetron_collectors.kafka.protocol.wire import Answer
from telemetron_collectors.kafka.queue import OpenTransaction

LOOK_SECONDS = 1.0
LONG_SECONDS = 10.0
"""A transaction that is open for longer is a problem: most last for less than a second."""


class Transactions:
    """Compares the ends of all records with the last stable offsets, leader by leader."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self._due: dict[int, float] = {}

    async def ask(self, node: int, ends: Ends) -> Answer | None:
        """The ends of all records; None: it is not time yet.

        Ask for the stable ends afterwards: where one is less, a transaction was open between.
        """
        now = self.known.clock.monotonic()
        if now < self._due.get(node, 0.0):
            return None
        self._due[node] = now + LOOK_SECONDS
        return await self.known.brokers.known[node].control.call(ends.highs)

    def take(self, node: int, ends: Ends, highs: Answer, latest: Answer) -> None:
        """Both answers of one leader, the later one of which has been taken already."""
        before = self.known.raw.get(("highs", node))
        self.known.raw["highs", node] = highs.data[4:]
        if before is not None and highs.data[4:] == latest.data[4:]:  # so it is without any
            for name in ends.partitions:
                if (topic := self.known.topics.get(name)) and topic.opened:
                    self._close(topic, ends.partitions[name])
            return
        for name, offsets in ask.parse_offsets(highs).items():
            if topic := self.known.topics.get(name):
                for number, high in offsets.items():
                    if high.error == ask.NONE and number in topic.ends and topic.is_read(number):
                        self._look(topic, number, high.offset, topic.ends[number].offset)
                    else:  # to be looked at the next time, though nothing be written
                        self.known.raw.pop(("highs", node), None)

    def _close(self, topic: Topic, numbers: list[int]) -> None:
        for number in numbers:
            topic.opened.pop(number, None)
            if topic.open.pop(number, None):
                self.known.touched.update(topic.queues)

    def _look(self, topic: Topic, number: int, high: int, stable: int) -> None:
        before, topic.tops[number] = topic.tops.get(number), high
        if before is None:
            self.known.touched.update(topic.queues)
        if high <= stable:
            self._close(topic, [number])
            return
        now, monotonic = self.known.clock.now(), self.known.clock.monotonic()
        if before is not None and high > before:
            topic.produced_at = now
            self.known.touched.update(topic.queues)
        first, since, began = topic.opened.setdefault(number, (stable, now, monotonic))
        if first != stable:
            self._close(topic, [number])
            topic.opened[number] = stable, now, monotonic
        elif began < monotonic:
            is_long = monotonic - began >= LONG_SECONDS
            found = OpenTransaction(stable, high - stable, since, is_long)
            if topic.open.get(number) != found:
                topic.open[number] = found
                self.known.touched.update(topic.queues)
