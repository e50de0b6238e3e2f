"""Brokers that listen at one address and advertise another, which cannot be reached."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.kafka import observer as telemetron
from tests.real.kafka.broker import Broker, Cluster
from tests.real.kafka.conftest import Observing
from tests.real.kafka.observer import Observer, cluster_source, reasons
from tests.real.kafka.truth import Truth, tasks


@pytest.fixture
def topic(kafka: Cluster, truth: Truth, group: str) -> Iterator[str]:
    """With 5 records, 1 of them committed; its broker advertises a closed port."""
    topic = truth.topic()
    truth.produce(topic, tasks(0, 5))
    truth.commit(group, topic, {0: 1})
    _close(kafka.broker(1))
    yield topic
    _proxy(kafka.broker(1)).heal()


def _close(broker: Broker) -> None:
    _proxy(broker).down()


def _proxy(broker: Broker):  # type: ignore[no-untyped-def]
    assert broker.proxy
    return broker.proxy


def _listens(kafka: Cluster) -> str:
    """The address itself, which answers: it is not the one that is advertised."""
    return f"127.0.0.1:{kafka.broker(1).ports['PROXIED']}"


def _await_told(observer: Observer, kafka: Cluster) -> None:
    source = observer.await_source(lambda source: source["status"] not in {"ok", "starting"})
    (problem,) = (it for it in source["problems"] if it["scope"] == "broker 1")
    assert problem["reason"] == "Unreachable"
    assert f"127.0.0.1:{_proxy(kafka.broker(1)).port} " in problem["message"]
    assert "advertises" in problem["message"]


def test_in_the_default_configuration(
    kafka: Cluster, topic: str, group: str, tmp_path: Path
) -> None:
    env = {"TELEMETRON_KAFKA_BOOTSTRAP_SERVERS": _listens(kafka)}
    with telemetron.observing(tmp_path, None, faults=1, **env) as observer:
        _await_told(observer, kafka)
        assert observer.queues() == {}
        _proxy(kafka.broker(1)).heal()
        observer.await_shown(topic, group, depth=4, problems=[])


@pytest.mark.parametrize("named", [True, False], ids=["named", "pattern"])
def test_nothing_is_said_of_commits_that_could_not_be_asked_for(
    kafka: Cluster, topic: str, group: str, observing: Observing, named: bool
) -> None:
    queues = [{"topic": topic if named else f"{topic}*"}]
    with observing(faults=1, kafka=cluster_source([_listens(kafka)], queues)) as observer:
        _await_told(observer, kafka)
        if named:
            queue = observer.queue(topic, None)
            assert (queue["consumers"], queue["depth"]) == (None, None)
            assert reasons(queue) == {"Unreachable"}
        else:
            assert observer.queues() == {}
        _proxy(kafka.broker(1)).heal()
        observer.await_shown(topic, group, depth=4, problems=[])
        observer.await_ok()


def test_one_broker_of_three(cluster: Cluster, group: str, observing: Observing) -> None:
    """Who reads a topic that it leads, or whose groups it may coordinate, is not known."""
    admin = Truth(cluster)
    topic = admin.topic(3, copies=1)
    for partition in range(3):
        admin.produce(topic, tasks(0, 2), partition=partition)
    servers = [cluster.servers("PROXIED")[0]]
    gone = cluster.broker(2)
    _close(gone)
    try:
        with observing(faults=1, kafka=cluster_source(servers, [{"topic": topic}])) as observer:
            source = observer.await_source(lambda it: it["status"] not in {"ok", "starting"})
            (problem,) = source["problems"]
            assert (problem["scope"], problem["reason"]) == ("broker 2", "Unreachable")
            assert f"127.0.0.1:{_proxy(gone).port} " in problem["message"]
            queue = observer.queue(topic, None)
            assert (queue["consumers"], reasons(queue)) == (None, {"Unreachable"})
            _proxy(gone).heal()
            observer.await_queue(topic, None, lambda it: reasons(it) == {"NoCommit"})
            observer.await_ok()
    finally:
        _proxy(gone).heal()
