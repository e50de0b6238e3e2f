"""Consumer groups: real ones, whose members consume what the world says."""

import asyncio
import contextvars
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

if TYPE_CHECKING:
    from tests.real.incidents.broker import Broker, Record, Topic

SESSION_SECONDS = 6
"""So long after a crash the group misses the member."""
OPTIONS = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "heartbeat_interval_ms": 1000,
    "session_timeout_ms": SESSION_SECONDS * 1000,
    "metadata_max_age_ms": 60_000,
    "request_timeout_ms": 8000,
}

_address: contextvars.ContextVar[str | None] = contextvars.ContextVar("address", default=None)


def own_addresses(loop: asyncio.AbstractEventLoop) -> None:
    """Let each member connect from the address of its pod."""
    connect = loop.create_connection

    async def connect_from(*arguments: Any, **options: Any) -> Any:
        if address := _address.get():
            options["local_addr"] = (address, 0)
        return await connect(*arguments, **options)

    loop.create_connection = connect_from  # type: ignore[method-assign]


class Paused(ConsumerRebalanceListener):  # type: ignore[misc]
    """Lets a member take no records from the broker, which would not make it wait for them."""

    consumer: AIOKafkaConsumer

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing to do."""

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Pause them."""
        self.consumer.pause(*assigned)


class Group:
    """What a consumer group has taken and committed, and its members."""

    def __init__(self, broker: "Broker", name: str, topic: "Topic") -> None:
        self.broker, self.name, self.topic = broker, name, topic
        self.next, self.committed = [0] * topic.partitions, [0] * topic.partitions
        self.owners: list[Member | None] = [None] * topic.partitions
        self.members: list[Member] = []
        self._done: list[set[int]] = [set() for _ in topic.logs]
        self._dirty: set[int] = set()
        """Partitions whose commit the broker does not know yet."""
        self._joined: set[Member] = set()
        self._turn = asyncio.Lock()
        self._unsettled: list[tuple[float, float]] = []
        """From when to when it rebalances and takes no commits."""

    @property
    def everyone(self) -> set["Member"]:
        """Its members, and those that are leaving."""
        return {*self.members, *self._joined}

    def waiting(self, partition: int) -> int:
        """Return how many records of a partition are not committed."""
        return len(self.topic.logs[partition]) - self.committed[partition]

    def take(self, member: "Member") -> "tuple[int, int, Record] | None":
        """Return the next record of the member's partitions, with its place."""
        for partition in self._owned(member):
            offset = self.next[partition]
            if offset < len(self.topic.logs[partition]):
                self.next[partition] += 1
                return partition, offset, self.topic.logs[partition][offset]
        return None

    def _owned(self, member: "Member") -> Iterator[int]:
        """Take over its partitions; what their last owner did not commit comes again."""
        for partition in member.partitions():
            owner = self.owners[partition]
            if owner and owner is not member and partition in owner.partitions():
                continue
            if owner is not member:
                self.owners[partition] = member
                self.next[partition] = self.committed[partition]
            yield partition

    def disown(self, member: "Member") -> None:
        """Forget which partitions are the member's, so that it takes them over again."""
        self.owners = [None if owner is member else owner for owner in self.owners]

    def commit(self, member: "Member", partition: int, offset: int) -> None:
        """This record is done; so far as all before it are done too, they are committed."""
        done, upto = self._done[partition], self.committed[partition]
        done.add(offset)
        while upto in done:
            done.remove(upto)
            upto += 1
        if upto != self.committed[partition] and self.owners[partition] is member:
            self.committed[partition] = upto
            self._dirty.add(partition)

    def flush(self) -> None:
        """Commit to the broker what is done."""
        now = time.monotonic()
        if any(begin < now < end for begin, end in self._unsettled):
            return
        for member in self.members:
            if mine := self._dirty.intersection(member.partitions()):
                self._dirty -= mine
                member.commit({partition: self.committed[partition] for partition in mine})

    def rebalance(self, after: float = 0.0) -> None:
        """Rebalance, as its members have changed; the group notices so much later."""
        now = time.monotonic()
        self._unsettled = [one for one in self._unsettled if one[1] > now]
        self._unsettled.append((now + after - 1.5, now + after + 2))
        self.broker.begin(self._settle(after + 0.1))

    async def _settle(self, after: float) -> None:
        """Let all leave and join at once: this broker never misses a member by itself."""
        await asyncio.sleep(after)
        async with self._turn:
            members = set(self.members)
            if members != self._joined:
                left, self._joined = self._joined, members
                await asyncio.gather(*[one.end() for one in left], return_exceptions=True)
                await asyncio.gather(*[one.join() for one in members], return_exceptions=True)


class Member:
    """A real member of a group."""

    def __init__(self, group: Group, client_id: str, address: str) -> None:
        self.group, self.client_id, self.address = group, client_id, address
        self.fixed: list[int] | None = None
        """Its partitions once there is no broker to assign them."""
        self.has_left = False
        """It takes nothing any more, whether or not its group has noticed."""
        self._consumer: AIOKafkaConsumer | None = None
        group.members.append(self)
        group.rebalance()

    async def join(self) -> None:
        """Join the group."""
        _address.set(self.address)
        listener, options = Paused(), {"group_id": self.group.name, "client_id": self.client_id}
        where = self.group.broker.address
        consumer = AIOKafkaConsumer(bootstrap_servers=where, **options, **OPTIONS)
        listener.consumer = consumer
        consumer.subscribe([self.group.topic.name], listener=listener)
        self._consumer = consumer
        await consumer.start()

    async def end(self) -> None:
        """Leave the group at once."""
        consumer, self._consumer = self._consumer, None
        if consumer:
            await consumer.stop()

    def partitions(self) -> list[int]:
        """Return the partitions that it is assigned."""
        if self.fixed is not None:
            return self.fixed
        if not self._consumer or self.has_left:
            return []
        return sorted(one.partition for one in self._consumer.assignment())

    def commit(self, offsets: dict[int, int]) -> None:
        """Commit in the background."""
        if self._consumer:
            topic = self.group.topic.name
            wanted = {TopicPartition(topic, at): offset for at, offset in offsets.items()}
            self.group.broker.begin(self._consumer.commit(wanted))

    def leave(self, after: float = 0.0) -> None:
        """Leave; the group notices so much later: of a crash when the session is over."""
        self.has_left = True
        if self in self.group.members:
            self.group.members.remove(self)
        self.group.rebalance(after)
