"""A Kafka topic as a queue between processes: the same methods as a folder has."""

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from telemetron.demo.broker import GROUPS, SESSION_SECONDS, TOPICS, silence_client
from telemetron.demo.queue import RECORD, Item

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

CALL_SECONDS = 15.0
"""The timeout of one call: joining a group takes until all its members have rejoined."""
CLOSE_SECONDS = 1.0
HEARTBEAT_MS = 500
CLAIM_SECONDS = 0.2
"""How long a claim waits for an item."""
MAX_POLL_MS = 8_000
"""A consumer that claims nothing for so long leaves its group; the other members take over."""
INVOKED_BY = "invoked-by"
"""The header that names the agent that sent an item."""

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]
"""A function, so that a process that ends before its turn leaves no coroutine unawaited."""


class KafkaClients:
    """The Kafka clients of one agent, on an event loop in a thread: the agents' code blocks."""

    def __init__(self, address: str, name: str, prefix: str = "") -> None:
        self.address = address
        self.name = name
        self.prefix = prefix
        self._loop = asyncio.new_event_loop()
        # aiokafka continues a commit after its timeout and would log its failure here.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._turn = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._consumers: dict[str, AIOKafkaConsumer] = {}
        silence_client()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka", daemon=True)
        self._thread.start()

    def call(self, work: Work[T], otherwise: T, seconds: float = CALL_SECONDS) -> T:
        """Return the result, or `otherwise` if the broker does not answer or refuses."""
        from aiokafka.errors import KafkaError

        future = asyncio.run_coroutine_threadsafe(self._do(work, seconds), self._loop)
        try:
            return future.result()
        except (KafkaError, OSError):  # TimeoutError is one
            return otherwise
        finally:
            future.cancel()  # a signal may end this process while it waits

    async def _do(self, work: Work[T], seconds: float) -> T:
        """Run one call at a time, so that a cancelled one has ended before the next begins."""
        async with self._turn:
            return await asyncio.wait_for(work(), seconds)

    def close(self) -> None:
        """Leave the consumer group and end the thread."""
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

    async def consumer(self, topic: str, group: str) -> "AIOKafkaConsumer":
        """Return the consumer that is a member of the topic's group."""
        from aiokafka import AIOKafkaConsumer

        if topic not in self._consumers:
            consumer = AIOKafkaConsumer(
                topic,
                bootstrap_servers=self.address,
                client_id=self.name,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                heartbeat_interval_ms=HEARTBEAT_MS,
                session_timeout_ms=int(SESSION_SECONDS * 1000),
                max_poll_interval_ms=MAX_POLL_MS,
                max_poll_records=1,
            )
            self._consumers[topic] = await _started(consumer)
        return self._consumers[topic]

    async def observer(self, topic: str, group: str) -> "AIOKafkaConsumer":
        """Return a consumer that sees the group's commits without being a member."""
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


class KafkaQueue:
    """Items are records; each is claimed by one member of a group, and committed by the next claim.

    So an item runs in an agent and waits in the topic at the same time until it is committed.
    """

    def __init__(self, kafka: KafkaClients, name: str) -> None:
        self.name = kafka.prefix + name
        self._group = kafka.prefix + GROUPS[name]
        self._kafka = kafka
        self._partition = itertools.cycle(range(TOPICS[name]))

    def __len__(self) -> int:
        return self._kafka.call(self._lag, 0)

    def put(self, item: Item) -> bool:
        """Append an item; return False if that failed."""
        return self._kafka.call(lambda: self._send(item), False)

    def claim(self, worker: str) -> Item | None:
        """Commit the item before, and return the next one, or None if there is none."""
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
        consumer = await self._kafka.consumer(self.name, self._group)
        if consumer.assignment():
            await _commit(consumer)
        found = await consumer.getmany(timeout_ms=int(CLAIM_SECONDS * 1000), max_records=1)
        for records in found.values():
            return {**json.loads(records[0].value), RECORD: records[0]}
        return None

    async def _lag(self) -> int:
        """Return how many items the consumers of the topic have not committed."""
        observer = await self._kafka.observer(self.name, self._group)
        ends = await observer.end_offsets(observer.assignment())
        return sum([end - (await observer.committed(one) or 0) for one, end in ends.items()])


async def _started(client: T) -> T:
    """Start a client, and close it if the start fails."""
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
        return  # another member has the partition now, and repeats the item
