"""What a cluster marks when queues and groups come, go and fail."""

from collections.abc import Iterator

import pytest

from telemetron.document import Queue
from telemetron.testing import FakeClock, RecordingOutput
from telemetron_collectors.kafka.brokers import ConnectionSettings
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.config import QueueConfig
from telemetron_collectors.kafka.group import ConsumerGroup
from telemetron_collectors.kafka.publisher import Publisher
from telemetron_collectors.kafka.queue import KafkaQueue
from tests.collectors.kafka.conftest import config_of

LOST = ("Unreachable", "the group has no coordinator")


@pytest.fixture
def cluster() -> Iterator[KafkaCluster]:
    config = config_of(bootstrap_servers=["127.0.0.1:1"], queues=[{"topic": "t"}])
    output = RecordingOutput(FakeClock(), "kafka")
    settings = ConnectionSettings("test", "PLAINTEXT", None, {})
    made = KafkaCluster(config, output, settings)  # type: ignore[arg-type]
    made.groups["g"] = ConsumerGroup("g")
    return made


def added(cluster: KafkaCluster, group: str | None = "g") -> KafkaQueue:
    queue = KafkaQueue("t", group, QueueConfig(topic="t"))
    cluster.add(queue)
    return queue


def drain(cluster: KafkaCluster) -> set[KafkaQueue]:
    return set(cluster.pop_changed())


def test_a_new_queue_is_planned_and_published(cluster: KafkaCluster) -> None:
    layout = cluster.layout
    queue = added(cluster)
    assert (cluster.layout, drain(cluster)) == (layout + 1, {queue})
    assert cluster.topics["t"].queues == cluster.groups["g"].queues == [queue]


def test_a_queue_of_an_unknown_topic_has_its_metadata_read_at_once(cluster: KafkaCluster) -> None:
    cluster.schedule.is_due("topics", 9)
    cluster.add(KafkaQueue("new", None, QueueConfig(topic="*")))
    assert cluster.schedule.is_hastened("topics")


async def test_a_removed_queue_is_never_published_again(cluster: KafkaCluster) -> None:
    queue = added(cluster)
    await Publisher(cluster).publish()
    assert ("queues", "t/g") in cluster.output.parts  # type: ignore[attr-defined]
    cluster.remove(queue)
    cluster.mark_changed([queue])  # as by records that were decoded meanwhile
    await Publisher(cluster).publish()
    assert cluster.output.parts == {}  # type: ignore[attr-defined]
    assert cluster.topics["t"].queues == cluster.groups["g"].queues == []


def test_tasks_in_the_document_are_counted(cluster: KafkaCluster) -> None:
    queue = added(cluster)
    task = {"id": "a"}
    part = Queue(name="t", consumer_group="g", tasks=[task, task])  # type: ignore[list-item]
    cluster.show(queue, part)
    cluster.show(queue, part)
    assert cluster.task_count == 2
    cluster.hide(queue)
    assert cluster.task_count == 0


def test_a_lost_group_keeps_its_offsets_for_a_while(cluster: KafkaCluster) -> None:
    queue, group = added(cluster), cluster.groups["g"]
    drain(cluster)
    group.read_at = cluster.clock.monotonic()
    cluster.lose(group, LOST)
    assert (group.refusal, drain(cluster)) == (None, set())
    cluster.clock.advance(cluster.hold_seconds + 1)  # type: ignore[attr-defined]
    cluster.lose(group, LOST)
    assert (group.refusal, drain(cluster)) == (LOST, {queue})


def test_a_group_that_was_never_read_is_refused_at_once(cluster: KafkaCluster) -> None:
    cluster.lose(cluster.groups["g"], LOST)
    assert cluster.groups["g"].refusal == LOST


def test_unknown_groups_change_the_queues_without_a_group(cluster: KafkaCluster) -> None:
    added(cluster)
    without = added(cluster, None)
    drain(cluster)
    cluster.set_groups_unknown(cluster.groups_unknown)
    assert drain(cluster) == set()
    cluster.set_groups_unknown(None)
    assert drain(cluster) == {without}
