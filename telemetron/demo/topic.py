"""A Kafka topic as a queue between processes: the same methods as a folder has."""

import asyncio
import itertools
import json
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from telemetron.demo.queue import RECORD, Item

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

PATIENCE = 15.0
"""Seconds for one call: to join a group takes until all its members have noticed."""
CLOSE_SECONDS = 1.0
HEARTBEAT_MS = 500
LOOK_SECONDS = 0.2
"""How long a claim waits for an item."""
ABSENT_MS = 8_000
"""Who claims nothing for so long gives its partitions to the others of its group."""
INVOKED_BY = "invoked-by"
"""Header: who handed an item over."""

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]
"""Begun when its turn has come: a process that ends before leaves no coroutine behind."""


class Kafka:
    """One process's clients, on an event loop in a thread: the agents themselves just block."""

    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.name = name
        self.group = name.partition("-")[0]
        self._loop = asyncio.new_event_loop()
        # aiokafka goes on with a commit that was given up, and nobody is left to hear of its end.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._turn = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._consumers: dict[str, AIOKafkaConsumer] = {}
        # What it says of a broker that is gone, Telemetron says better.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka", daemon=True)
        self._thread.start()

    def call(self, work: Work[T], otherwise: T, seconds: float = PATIENCE) -> T:
        """The result; `otherwise` where the broker does not answer or refuses."""
        from aiokafka.errors import KafkaError

        future = asyncio.run_coroutine_threadsafe(self._do(work, seconds), self._loop)
        try:
            return future.result()
        except (KafkaError, OSError):  # TimeoutError is one
            return otherwise
        finally:
            future.cancel()  # where this process is told to end

    async def _do(self, work: Work[T], seconds: float) -> T:
        """One call at a time: what was cancelled ends first."""
        async with self._turn:
            return await asyncio.wait_for(work(), seconds)

    def close(self) -> None:
        """Leave the group, end the thread."""
        self.call(self._close, None, CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    async def _close(self) -> None:
        for client in (*self._consumers.values(), self._producer):
            if client is not None:
                await client.stop()

    async def producer(self) -> "AIOKafkaProducer":
        from aiokafka import AIOKafkaProducer

        if self._producer is None:
            producer = AIOKafkaProducer(bootstrap_servers=self.address, client_id=self.name)
            self._producer = await _started(producer)
        return self._producer

    async def consumer(self, topic: str) -> "AIOKafkaConsumer":
        from aiokafka import AIOKafkaConsumer

        if topic not in self._consumers:
            consumer = AIOKafkaConsumer(
                topic,
                bootstrap_servers=self.address,
                client_id=self.name,
                group_id=self.group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                heartbeat_interval_ms=HEARTBEAT_MS,
                max_poll_interval_ms=ABSENT_MS,
                max_poll_records=1,
            )
            self._consumers[topic] = await _started(consumer)
        return self._consumers[topic]

    async def observer(self, topic: str, group: str) -> "AIOKafkaConsumer":
        """It has the partitions without a member's part in the group, and reads none of them."""
        from aiokafka import AIOKafkaConsumer, TopicPartition

        if group not in self._consumers:
            partitions = await (await self.producer()).partitions_for(topic)
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.address,
                client_id=self.name,
                group_id=group,
                enable_auto_commit=False,
            )
            await _started(consumer)
            consumer.assign([TopicPartition(topic, number) for number in partitions])
            consumer.pause(*consumer.assignment())
            self._consumers[group] = consumer
        return self._consumers[group]


class TopicQueue:
    """Items are records; each is claimed by one process of a group, and done with the next claim.

    So an item is running in an agent and pending in the topic at once, until it is committed.
    """

    def __init__(self, kafka: Kafka, name: str, consumers: str, partitions: int) -> None:
        self.name = name
        self._kafka = kafka
        self._consumers = consumers
        self._partition = itertools.cycle(range(partitions))

    def __len__(self) -> int:
        return self._kafka.call(self._lag, 0)

    def put(self, item: Item) -> bool:
        """Append an item; False: not now."""
        return self._kafka.call(lambda: self._send(item), False)

    def claim(self, worker: str) -> Item | None:
        """Take the next item, and say that the one before is done; None when there is none."""
        return self._kafka.call(self._next, None)

    async def _send(self, item: Item) -> bool:
        producer = await self._kafka.producer()
        headers = [
            ("telemetron-task-id", item["id"].encode()),
            (INVOKED_BY, self._kafka.name.encode()),
        ]
        value, partition = json.dumps(item).encode(), next(self._partition)
        await producer.send_and_wait(self.name, value, headers=headers, partition=partition)
        return True

    async def _next(self) -> Item | None:
        consumer = await self._kafka.consumer(self.name)
        if consumer.assignment():
            await _commit(consumer)
        found = await consumer.getmany(timeout_ms=int(LOOK_SECONDS * 1000), max_records=1)
        for records in found.values():
            return {**json.loads(records[0].value), RECORD: records[0]}
        return None

    async def _lag(self) -> int:
        """How many items those that take from it have not done."""
        observer = await self._kafka.observer(self.name, self._consumers)
        ends = await observer.end_offsets(observer.assignment())
        return sum([end - (await observer.committed(one) or 0) for one, end in ends.items()])


async def _started(client: T) -> T:
    """A client that is of use, or none that is left open."""
    made: Any = client
    try:
        await made.start()
    except BaseException:
        await made.stop()
        raise
    return client


async def _commit(consumer: "AIOKafkaConsumer") -> None:
    from aiokafka.errors import CommitFailedError, IllegalStateError

    try:
        await consumer.commit()
    except (CommitFailedError, IllegalStateError):
        return  # another has taken over, and does it once more
