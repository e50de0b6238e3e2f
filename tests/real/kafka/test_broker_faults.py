"""The only broker is down, killed, frozen, slow: the last known stays, and the truth comes back."""

from collections.abc import Iterator

import pytest

from tests.real.kafka.broker import Cluster
from tests.real.kafka.conftest import Observing
from tests.real.kafka.observer import Observer, offsets, source
from tests.real.kafka.truth import Truth, tasks

KEPT = ("depth", "lag", "consumers", "group_state", "members", "tasks", "oldest_submitted_at")
"""What stays as it was known last while Kafka is out of reach."""


@pytest.fixture
def topic(kafka: Cluster, truth: Truth, group: str) -> Iterator[str]:
    """With 5 records, 2 of them committed; at the end the broker is well again."""
    topic = truth.topic()
    truth.produce(topic, tasks(0, 5))
    truth.commit(group, topic, {0: 2})
    yield topic
    broker = kafka.broker(1)
    broker.mend()
    if broker.proxy:
        broker.proxy.heal()


def _recovers(observer: Observer, truth: Truth, topic: str, group: str) -> None:
    truth.produce(topic, tasks(5, 1))
    queue = observer.await_queue(topic, group, lambda queue: offsets(queue) == [2, 3, 4, 5])
    assert (queue["depth"], queue["depth_exact"]) == (4, True)
    observer.await_ok()


def test_down_at_start(
    kafka: Cluster, truth: Truth, topic: str, group: str, observing: Observing
) -> None:
    broker = kafka.broker(1)
    broker.kill()
    with observing(faults=1, kafka=source(kafka.servers(), topic, group)) as observer:
        state = observer.await_reason("Unreachable")
        assert state["status"] == "starting"
        assert observer.queues() == {}
        broker.start()
        _recovers(observer, truth, topic, group)


def test_killed_and_restarted(
    kafka: Cluster, truth: Truth, topic: str, group: str, observing: Observing
) -> None:
    broker = kafka.broker(1)
    with observing(faults=1, kafka=source(kafka.servers(), topic, group)) as observer:
        known = observer.await_queue(topic, group, lambda queue: offsets(queue) == [2, 3, 4])
        broker.kill()
        observer.await_reason("Unreachable")
        state = observer.await_source(lambda source: source["status"] == "stale")
        assert state["last_ok_at"]
        last = observer.queue(topic, group)
        assert {name: last[name] for name in KEPT} == {name: known[name] for name in KEPT}
        assert last["problems"] == []
        assert {it["scope"] for it in state["problems"] if it["reason"] == "Unreachable"} == {
            "",
            "broker 1",
        }
        broker.start()
        _recovers(observer, truth, topic, group)


def test_frozen(kafka: Cluster, truth: Truth, topic: str, group: str, observing: Observing) -> None:
    broker = kafka.broker(1)
    with observing(faults=1, kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_queue(topic, group, lambda queue: offsets(queue) == [2, 3, 4])
        broker.freeze()
        try:
            observer.await_source(lambda source: source["status"] == "stale")
            observer.await_reason("Timeout")
            assert observer.queue(topic, group)["depth"] == 3
            assert observer.queue(topic, group)["problems"] == []
        finally:
            broker.thaw()
        _recovers(observer, truth, topic, group)


def test_slow(kafka: Cluster, truth: Truth, topic: str, group: str, observing: Observing) -> None:
    """Half a second for each answer: later, but right."""
    proxy = kafka.broker(1).proxy
    assert proxy
    servers = kafka.servers("PROXIED")
    with observing(kafka=source(servers, topic, group)) as observer:
        observer.await_shown(topic, group, depth=3)
        proxy.toxic("latency", latency=500)
        truth.produce(topic, tasks(5, 1))
        observer.await_queue(topic, group, lambda queue: offsets(queue) == [2, 3, 4, 5])
        truth.commit(group, topic, {0: 5})
        observer.await_queue(topic, group, lambda queue: offsets(queue) == [5])
        observer.await_ok()


@pytest.mark.parametrize(
    "toxic",
    [{"type": "timeout", "timeout": 0}, {"type": "reset_peer", "timeout": 0}],
    ids=["swallowed", "reset"],
)
def test_the_network_fails(
    kafka: Cluster,
    truth: Truth,
    topic: str,
    group: str,
    observing: Observing,
    toxic: dict[str, object],
) -> None:
    proxy = kafka.broker(1).proxy
    assert proxy
    with observing(faults=1, kafka=source(kafka.servers("PROXIED"), topic, group)) as observer:
        observer.await_shown(topic, group, depth=3)
        proxy.toxic(**toxic)  # type: ignore[arg-type]
        observer.await_source(lambda source: source["status"] == "stale")
        proxy.heal()
        _recovers(observer, truth, topic, group)
