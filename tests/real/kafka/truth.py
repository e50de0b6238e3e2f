"""What is so, made and asked with another client library (confluent-kafka), as an administrator."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AclBinding, AclBindingFilter, AdminClient, NewPartitions, NewTopic

from tests.real.kafka.broker import Cluster
from tests.real.process import wait_until

SECONDS = 20
QUIET = {"log_level": 0, "log.connection.close": False}


class Truth:
    """One cluster's administrator, producer and consumers."""

    def __init__(self, cluster: Cluster) -> None:
        self.client = {"bootstrap.servers": ",".join(cluster.servers()), **QUIET}
        self.admin = AdminClient(self.client)
        self._producer = Producer({**self.client, "linger.ms": 1, "message.max.bytes": 2_000_000})

    def topic(self, partitions: int = 1, *, name: str = "", copies: int = -1, **config: str) -> str:
        """A new topic's name, unique where none is given; dots of `config` are underscores."""
        name = name or f"tasks-{uuid4().hex[:12]}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(name, partitions, copies, config=settings)
        self.admin.create_topics([new])[name].result(SECONDS)
        wait_until(lambda: self.leaders(name) != {}, seconds=SECONDS, what=f"topic {name}")
        return name

    def delete(self, topic: str) -> None:
        """Until no broker knows it."""
        self.admin.delete_topics([topic])[topic].result(SECONDS)
        wait_until(lambda: topic not in self.topics(), seconds=SECONDS, what=f"end of {topic}")

    def topics(self) -> set[str]:
        """Names of all topics, Kafka's own left out."""
        found = self.admin.list_topics(timeout=SECONDS).topics
        return {name for name in found if not name.startswith("__")}

    def leaders(self, topic: str) -> dict[int, int]:
        """Leader by partition; empty while one has none."""
        found = self.admin.list_topics(topic, timeout=SECONDS).topics[topic]
        leaders = {number: part.leader for number, part in found.partitions.items()}
        return {} if found.error or -1 in leaders.values() else leaders

    def grow(self, topic: str, partitions: int) -> None:
        """To so many partitions."""
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(SECONDS)
        wait_until(
            lambda: len(self.leaders(topic)) == partitions, seconds=SECONDS, what="new partitions"
        )

    def produce(
        self,
        topic: str,
        values: Iterable[bytes | None],
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        """Records in this order, acknowledged."""
        lost: list[Any] = []
        for value in values:
            self._producer.produce(
                topic,
                value,
                key,
                partition,
                headers=list((headers or {}).items()),
                on_delivery=lambda error, _: lost.append(error) if error else None,
            )
            self._producer.poll(0)
        assert self._producer.flush(SECONDS) == 0, "not acknowledged in time"
        assert not lost, lost[0]

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Set offsets of a group that has no members."""
        parts = [TopicPartition(topic, part, offset) for part, offset in offsets.items()]
        asked = [ConsumerGroupTopicPartitions(group, parts)]
        self.admin.alter_consumer_group_offsets(asked)[group].result(SECONDS)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Offsets by partition."""
        asked = [ConsumerGroupTopicPartitions(group)]
        found = self.admin.list_consumer_group_offsets(asked)[group].result(SECONDS)
        parts = found.topic_partitions
        return {part.partition: part.offset for part in parts if part.topic == topic}

    def groups(self) -> set[str]:
        """Names of all groups of classic and consumer protocols."""
        found = self.admin.list_consumer_groups().result(SECONDS)
        return {group.group_id for group in found.valid}

    def forget(self, group: str) -> None:
        """Delete a group."""
        self.admin.delete_consumer_groups([group])[group].result(SECONDS)

    def delete_before(self, topic: str, offset: int, partition: int = 0) -> None:
        """As retention does: the log begins there."""
        part = TopicPartition(topic, partition, offset)
        self.admin.delete_records([part])[part].result(SECONDS)

    def allow(self, *bindings: AclBinding) -> None:
        """Make ACLs, and wait until they hold."""
        for made in self.admin.create_acls(list(bindings)).values():
            made.result(SECONDS)

    def forbid(self, *filters: AclBindingFilter) -> None:
        """Remove ACLs."""
        for gone in self.admin.delete_acls(list(filters)).values():
            gone.result(SECONDS)

    @contextmanager
    def transaction(self) -> Iterator[Producer]:
        """A producer in a transaction that is aborted with the context, unless it was ended."""
        config = {**self.client, "transactional.id": uuid4().hex, "transaction.timeout.ms": 120_000}
        producer = Producer(config)
        producer.init_transactions(SECONDS)
        producer.begin_transaction()
        try:
            yield producer
        finally:
            try:
                producer.abort_transaction(SECONDS)
            except KafkaException:
                pass  # it was ended

    def read(self, topic: str, group: str, count: int, **config: Any) -> list[Message]:
        """Join the group, read and commit so many, and leave."""
        with self.member(group, topic, **config) as member:
            return member.read(count)

    @contextmanager
    def member(self, group: str, topic: str, **config: Any) -> Iterator["Member"]:
        """A member of the group, with its partitions assigned; `group_protocol="consumer"` too."""
        settings = {
            **self.client,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "client.id": "worker",
            **{key.replace("_", "."): value for key, value in config.items()},
        }
        consumer = Consumer(settings)
        consumer.subscribe([topic])
        member = Member(consumer)
        try:
            member.await_assigned()
            yield member
        finally:
            member.end()
            consumer.close()


class Member:
    """A consumer that goes on being a member: a thread polls for it where it has nothing to do."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._found: list[Message] = []
        self._more = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def await_assigned(self) -> None:
        """Until it has a partition."""
        wait_until(lambda: self._consumer.assignment() != [], seconds=SECONDS, what="assignment")

    def partitions(self) -> int:
        """How many it has."""
        return len(self._consumer.assignment())

    def read(self, count: int) -> list[Message]:
        """So many more records, committed."""
        with self._more:
            full = self._more.wait_for(lambda: len(self._found) >= count, SECONDS)
            assert full, f"{len(self._found)} of {count} records came"
            read, self._found = self._found[:count], self._found[count:]
        last = {(message.topic(), message.partition()): message.offset() for message in read}
        offsets = [TopicPartition(*at, offset + 1) for at, offset in last.items()]
        self._consumer.commit(offsets=offsets, asynchronous=False)
        return read

    def end(self) -> None:
        """No polling any more."""
        self._ended = True
        self._thread.join(SECONDS)

    def _poll(self) -> None:
        while not self._ended:
            message = self._consumer.poll(0.05)
            if message is not None and not message.error():
                with self._more:
                    self._found.append(message)
                    self._more.notify_all()


def tasks(first: int, count: int, **fields: Any) -> list[bytes]:
    """JSON tasks `task-FIRST` …"""
    return [json.dumps({"id": f"task-{n}", **fields}).encode() for n in range(first, first + count)]
