"""What is so, made and asked with another client library (confluent-kafka), as an administrator."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

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
        self._producer.list_topics(topic, timeout=SECONDS)  # else it may not know them yet

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

        def done() -> bool:  # a coordinator that is just being made refuses
            done = self.admin.alter_consumer_group_offsets(asked)[group].result(SECONDS)
            return all(part.error is None for part in done.topic_partitions)

        wait_until(done, seconds=SECONDS, what=f"commit of {group}")

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

    def configure(self, topic: str, **config: str) -> None:
        """Change settings of a topic; dots are underscores."""
        change = [
            ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=change)
        self.admin.incremental_alter_configs([resource])[resource].result(SECONDS)

    def starts(self, topic: str) -> dict[int, int]:
        """Where the log of each partition starts."""
        return self._offsets(topic, OffsetSpec.earliest())

    def ends(self, topic: str, *, stable: bool = True) -> dict[int, int]:
        """Where the log of each partition ends, or what is stable of it."""
        return self._offsets(topic, OffsetSpec.latest(), stable=stable)

    def _offsets(self, topic: str, spec: OffsetSpec, *, stable: bool = True) -> dict[int, int]:
        level = IsolationLevel.READ_COMMITTED if stable else IsolationLevel.READ_UNCOMMITTED
        asked = {TopicPartition(topic, number): spec for number in self.leaders(topic)}
        found: dict[int, int] = {}

        def told() -> bool:  # a leader that has just become one refuses
            answers = self.admin.list_offsets(asked, isolation_level=level)
            with suppress(KafkaException):
                for part, answer in answers.items():
                    found[part.partition] = answer.result(SECONDS).offset
            return len(found) == len(asked)

        wait_until(told, seconds=SECONDS, what=f"offsets of {topic}")
        return found

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
            with suppress(KafkaException):  # it was ended
                producer.abort_transaction(SECONDS)

    def transact(
        self, topic: str, values: Iterable[bytes | None], *, partition: int = 0, commit: bool = True
    ) -> None:
        """The records of one transaction, committed or aborted."""
        with self.transaction() as producer:
            for value in values:
                producer.produce(topic, value, partition=partition)
            producer.flush(SECONDS)
            if commit:
                producer.commit_transaction(SECONDS)

    @contextmanager
    def reader(
        self, topic: str, offset: int, partition: int = 0
    ) -> Iterator[Callable[[], list[Message]]]:
        """Gives what can be read of a partition from there to the end, as no group's member."""
        config = {"group.id": "nobody", "enable.partition.eof": True, "enable.auto.commit": False}
        consumer = Consumer({**self.client, **config})
        consumer.assign([TopicPartition(topic, partition, offset)])

        def read() -> list[Message]:
            found = []
            while True:
                message = consumer.poll(SECONDS)
                assert message is not None, "the end did not come"
                if message.error():
                    assert message.error().code() == KafkaError._PARTITION_EOF
                    return found
                found.append(message)

        try:
            yield read
        finally:
            consumer.close()

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
            consumer.close()


class Member:
    """A member of a group; what it read and was not asked for is kept for the next `read`.

    librdkafka sends the heartbeats by itself, for as long as nobody else joins.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._found: list[Message] = []

    def await_assigned(self) -> None:
        """Until it has a partition."""
        wait_until(self._assigned, seconds=SECONDS, what="assignment")

    def read(self, count: int, *, commit: bool = True) -> list[Message]:
        """So many more records, committed."""
        end = time.monotonic() + SECONDS
        while len(self._found) < count:
            assert time.monotonic() < end, f"{len(self._found)} of {count} records came"
            self._poll(0.1)
        read, self._found = self._found[:count], self._found[count:]
        if commit:
            self._commit(read)
        return read

    def commit(self, topic: str, offset: int) -> None:
        """Of partition 0, wherever it stands."""
        self._consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)

    def _assigned(self) -> bool:
        self._poll(0.05)
        return self._consumer.assignment() != []

    def _poll(self, seconds: float) -> None:
        message = self._consumer.poll(seconds)
        if message is not None and not message.error():
            self._found.append(message)

    def _commit(self, read: Iterable[Message]) -> None:
        last = {(message.topic(), message.partition()): message.offset() for message in read}
        offsets = [TopicPartition(*at, offset + 1) for at, offset in last.items()]
        self._consumer.commit(offsets=offsets, asynchronous=False)


def tasks(first: int, count: int, **fields: Any) -> list[bytes]:
    """JSON tasks `task-FIRST` …"""
    return [json.dumps({"id": f"task-{n}", **fields}).encode() for n in range(first, first + count)]
