"""One of three brokers is slow or gone; leaders and coordinators move."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.kafka.broker import Cluster
from tests.real.kafka.conftest import Observing
from tests.real.kafka.observer import SECONDS, source
from tests.real.kafka.truth import Truth, tasks
from tests.real.process import wait_until

OFFSETS = "__consumer_offsets"


@pytest.fixture(scope="session")
def admin(cluster: Cluster) -> Truth:
    return Truth(cluster)


@pytest.fixture
def topic(cluster: Cluster, admin: Truth, group: str) -> Iterator[str]:
    """Three partitions, each with a leader of its own and 4 records, of which 1 is committed."""
    topic = admin.topic(3, copies=1)
    for partition in range(3):
        admin.produce(topic, tasks(10 * partition, 4), partition=partition)
    admin.commit(group, topic, {0: 1, 1: 1, 2: 1})
    assert len(set(admin.leaders(topic).values())) == 3
    yield topic
    for broker in cluster.brokers:
        assert broker.proxy
        broker.proxy.heal()


def _moved(cluster: Cluster, folder: Path, topic: str, partition: int, node: int) -> None:
    """Kafka's own tool makes one node the only replica of a partition."""
    part = {"topic": topic, "partition": partition, "replicas": [node]}
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"version": 1, "partitions": [part]}))
    command = ("reassign.ReassignPartitionsCommand", "--reassignment-json-file", str(plan))
    cluster.tool(*command, "--execute")
    truth = Truth(cluster)
    wait_until(
        lambda: truth.leaders(topic).get(partition) == node, seconds=SECONDS, what="a new leader"
    )


def test_one_broker_slow(
    cluster: Cluster, admin: Truth, topic: str, group: str, observing: Observing
) -> None:
    """Its partitions are known later; the others' at once, all of them right."""
    slow = cluster.broker(2)
    assert slow.proxy
    mine = next(part for part, node in admin.leaders(topic).items() if node == 3)
    with observing(kafka=source(cluster.servers("PROXIED"), topic, group)) as observer:
        observer.await_shown(topic, group, depth=9, depth_exact=True)
        slow.proxy.toxic("latency", latency=700)
        admin.produce(topic, tasks(100, 2), partition=mine)
        observer.await_shown(topic, group, depth=11, depth_exact=True)
        other = next(part for part, node in admin.leaders(topic).items() if node == 2)
        admin.produce(topic, tasks(100, 2), partition=other)
        observer.await_shown(topic, group, depth=13, depth_exact=True)


def test_one_broker_gone_and_back(
    cluster: Cluster, admin: Truth, topic: str, group: str, observing: Observing
) -> None:
    """What it led is unknown; what the others lead is shown, and all is right when it is back."""
    gone = next(node for node in (2, 3) if node not in _coordinators(admin, cluster, group))
    lost = next(part for part, node in admin.leaders(topic).items() if node == gone)
    kept = next(part for part in range(3) if part != lost)
    with observing(faults=1, kafka=source(cluster.servers(), topic, group)) as observer:
        observer.await_shown(topic, group, depth=9, depth_exact=True)
        cluster.broker(gone).kill()
        try:
            admin.produce(topic, tasks(100, 1), partition=kept)
            observer.await_queue(
                topic,
                group,
                lambda queue: any(
                    task["partition"] == kept and task["offset"] == 4 for task in queue["tasks"]
                ),
            )
            observer.await_queue(
                topic, group, lambda queue: queue["depth"] is None and queue["problems"]
            )
        finally:
            cluster.broker(gone).start()
        observer.await_shown(topic, group, depth=10, problems=[])
        observer.await_ok()


def test_a_leader_moved(
    cluster: Cluster,
    admin: Truth,
    topic: str,
    group: str,
    observing: Observing,
    tmp_path: Path,
) -> None:
    with observing(kafka=source(cluster.servers(), topic, group)) as observer:
        observer.await_shown(topic, group, depth=9)
        old = admin.leaders(topic)[0]
        _moved(cluster, tmp_path, topic, 0, 1 + old % 3)
        admin.produce(topic, tasks(100, 2), partition=0)
        observer.await_shown(topic, group, depth=11, depth_exact=True, problems=[])
        observer.await_ok()


def test_a_coordinator_moved(
    cluster: Cluster,
    admin: Truth,
    topic: str,
    group: str,
    observing: Observing,
    tmp_path: Path,
) -> None:
    with observing(kafka=source(cluster.servers(), topic, group)) as observer:
        observer.await_shown(topic, group, depth=9)
        for partition, old in admin.leaders(OFFSETS).items():
            _moved(cluster, tmp_path, OFFSETS, partition, 1 + old % 3)
        Truth(cluster).commit(group, topic, {0: 4})  # a client keeps the coordinator it knew
        observer.await_shown(topic, group, depth=6, depth_exact=True, problems=[])
        observer.await_ok()


def _coordinators(admin: Truth, cluster: Cluster, group: str) -> set[int]:
    """The node that coordinates the group."""
    found = admin.admin.describe_consumer_groups([group])[group].result(SECONDS)
    return {found.coordinator.id}
