"""The Kafka broker: a real one, small, whose topics the gateway fills."""

import asyncio
import json
import random
import socket
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from telemetron.demo.broker import EmbeddedBroker, silence_client
from tests.real.incidents.group import Group, own_addresses
from tests.real.process import wait_until

Record = dict[str, Any]
START_SECONDS = 10.0
STOP_SECONDS = 2.0


@dataclass
class Topic:
    """A topic; a record's offset is its place in the log of its partition."""

    name: str
    logs: list[list[Record]]

    @property
    def partitions(self) -> int:
        """Their number."""
        return len(self.logs)


class Broker:
    """The broker, its topics, and the consumer group of each."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        silence_client()
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, Group] = {}
        """By topic: one each."""
        self._folder, self._chance = folder / "broker", chance
        self._tasks: set[asyncio.Task[None]] = set()
        self._broker: EmbeddedBroker | None = None

    def add(self, topic: str, partitions: int, group: str | None) -> None:
        """Add a topic, and a group that will read it."""
        self.topics[topic] = Topic(topic, [[] for _ in range(partitions)])
        if group:
            self.groups[topic] = Group(self, group, self.topics[topic])

    @property
    def address(self) -> str:
        """Where it listens."""
        assert self._broker
        return self._broker.address

    async def start(self) -> None:
        """Start it with its topics."""
        self._broker = EmbeddedBroker(self._folder)
        own_addresses(asyncio.get_running_loop())
        await asyncio.to_thread(wait_until, self._listens, seconds=START_SECONDS, what="broker")
        self._admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await self._admin.start()
        topics = [NewTopic(one.name, one.partitions, 1) for one in self.topics.values()]
        await self._admin.create_topics(topics)
        self._producer = AIOKafkaProducer(bootstrap_servers=self.address, client_id="gateway")
        await self._producer.start()
        for topic in self.topics:
            await self._producer.partitions_for(topic)

    def _listens(self) -> bool:
        host, port = self.address.split(":")
        with suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        return False

    async def stop(self) -> None:
        """End its clients, then the broker."""
        if not self._broker:
            return
        members = [member for group in self.groups.values() for member in group.everyone]
        ends = [member.end() for member in members] + [self._producer.stop(), self._admin.close()]
        bounded = [asyncio.wait_for(end, STOP_SECONDS) for end in ends]
        await asyncio.gather(*bounded, return_exceptions=True)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        await asyncio.to_thread(self._broker.stop)

    def cut(self) -> None:
        """Lose the broker; what is consumed goes on as it was, as nothing else looks there."""
        for group in self.groups.values():
            for member in group.members:
                member.fixed = member.partitions()
        self.begin(self.stop())

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it in the background; a failure is that of a broker which the scenario has ended."""

        async def quietly() -> None:
            with suppress(Exception):
                await work

        task = asyncio.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def produce(self, topic: str, record: Record, partition: int | None = None) -> None:
        """Append a record to a partition, to any if none is given."""
        logs = self.topics[topic].logs
        partition = self._chance.randrange(len(logs)) if partition is None else partition
        logs[partition].append(record)
        headers = [("telemetron-task-id", record["id"].encode())]
        value = json.dumps(record).encode()
        self.begin(self._producer.send(topic, value, partition=partition, headers=headers))

    async def skip(self, topic: str) -> None:
        """Let the group of a topic have done everything so far."""
        group = self.groups[topic]
        group.next = [len(log) for log in group.topic.logs]
        group.committed = [*group.next]
        await self.commit(group.name, topic, group.committed)

    async def commit(self, group: str, topic: str, offsets: list[int]) -> None:
        """Commit from outside, as a tool does."""
        await self._producer.flush()
        wanted = {TopicPartition(topic, at): offset for at, offset in enumerate(offsets)}
        options = {"bootstrap_servers": self.address, "group_id": group}
        consumer = AIOKafkaConsumer(**options, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([*wanted])
            consumer.pause(*wanted)
            await consumer.commit(wanted)
        finally:
            await consumer.stop()

    async def delete_records(self, topic: str, before: dict[int, int]) -> None:
        """Delete the first records of partitions, as retention does."""
        wanted = {
            TopicPartition(topic, at): RecordsToDelete(before_offset=offset)
            for at, offset in before.items()
        }
        await self._admin.delete_records(wanted)
