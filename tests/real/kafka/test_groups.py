"""Groups of all kinds; and that who observes them leaves no trace."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.real.kafka import observer as telemetron
from tests.real.kafka.broker import Cluster
from tests.real.kafka.conftest import Observing
from tests.real.kafka.observer import ids, source
from tests.real.kafka.truth import SECONDS, Truth, tasks
from tests.real.process import wait_until

PROTOCOLS = ["classic", "consumer"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_members_of_both_protocols(
    kafka: Cluster, truth: Truth, group: str, observing: Observing, protocol: str
) -> None:
    topic = truth.topic(2)
    truth.produce(topic, tasks(0, 10))
    truth.produce(topic, tasks(10, 10), partition=1)
    with (
        truth.member(group, topic, group_protocol=protocol) as member,
        observing(kafka=source(kafka.servers(), topic, group)) as observer,
    ):
        member.read(20)
        shown = observer.await_shown(topic, group, depth=0, consumers=1, group_state="Stable")
        assert shown["members"] == [{"client_id": "worker", "host": "127.0.0.1", "partitions": 2}]
        truth.produce(topic, tasks(20, 3))
        observer.await_shown(topic, group, depth=3, lag=3)
        assert sum(truth.committed(group, topic).values()) == 20


def test_a_share_group(kafka: Cluster, truth: Truth, group: str, observing: Observing) -> None:
    """Its members, and the lag that Kafka's own share-group tool says."""
    topic = truth.topic()
    with (
        ThreadPoolExecutor() as pool,
        observing(kafka=source(kafka.servers(), topic, group)) as observer,
    ):
        options = ("--topic", topic, "--group", group, "--max-messages", "10")
        done = pool.submit(kafka.tool, "consumer.ConsoleShareConsumer", *options)
        observer.await_shown(topic, group, consumers=1)

        def is_read() -> bool:  # it begins at the end that the log has once it is let in
            truth.produce(topic, tasks(0, 10))
            return done.done()

        wait_until(is_read, seconds=SECONDS, what="ten records of the share group")
        tool = "consumer.group.ShareGroupCommand"
        rows = kafka.tool(tool, "--describe", "--group", group).splitlines()
        lag = int(next(row.split() for row in rows if row.startswith(group))[-1])
        assert lag > 0
        shown = observer.await_shown(topic, group, lag=lag, depth=lag, consumers=0)
        assert (shown["depth_exact"], shown["tasks"]) == (False, [])


def test_rebalancing_for_ever(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    """Members come and go all the time: the backlog is right all along."""
    topic = truth.topic()
    truth.produce(topic, tasks(0, 8))
    truth.commit(group, topic, {0: 3})
    ended = threading.Event()

    def disturb() -> None:
        while not ended.is_set():
            with truth.member(group, topic):
                pass

    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_shown(topic, group, depth=5)
        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            seen: set[str] = set()
            depths: set[int | None] = set()

            def enough() -> bool:
                queue = observer.queue(topic, group)
                seen.add(queue["group_state"])
                depths.add(queue["depth"])
                return len(seen) > 1

            wait_until(enough, seconds=SECONDS, what="another state of the group")
            truth.produce(topic, tasks(8, 1))
            observer.await_shown(topic, group, depth=6)
            assert depths == {5}
        finally:
            ended.set()
            thread.join(SECONDS)


def test_who_observes_leaves_no_trace(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    """No group, no commit, no topic of it; and a group that does not exist is not made."""
    topic = truth.topic()
    truth.produce(topic, tasks(0, 3))
    truth.commit(group, topic, {0: 1})
    before = truth.groups(), truth.topics(), truth.committed(group, topic)
    with observing(kafka=source(kafka.servers(), topic, group, f"{group}-unborn")) as observer:
        observer.await_queue(topic, group, lambda queue: len(queue["tasks"]) == 2)
        observer.await_shown(topic, f"{group}-unborn", depth=None)
        assert (truth.groups(), truth.topics(), truth.committed(group, topic)) == before


def test_the_environment_alone_shows_counts_and_never_content(
    kafka: Cluster, truth: Truth, group: str, tmp_path: Path
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 3, prompt="private"))
    truth.commit(group, topic, {0: 1})
    server = kafka.servers()[0]
    env = {"TELEMETRON_KAFKA_BOOTSTRAP_SERVERS": server}
    with telemetron.observing(tmp_path, None, **env) as observer:
        queue = observer.await_shown(topic, group, depth=2, lag=2, consumers=0)
        assert queue["tasks"] == []
        assert "private" not in str(observer.state())
        assert len(observer.queues()) <= 500


def test_several_clusters_are_several_sources(
    kafka: Cluster, cluster: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    """The same names on both, and each has its own number."""
    other = Truth(cluster)
    topic = truth.topic()
    other.topic(name=topic)
    truth.produce(topic, tasks(0, 3))
    other.produce(topic, tasks(10, 5))
    truth.commit(group, topic, {0: 0})
    other.commit(group, topic, {0: 0})
    one, two = (source(it.servers(), topic, group) for it in (kafka, cluster))
    with observing(one=one, two=two) as observer:
        first = observer.await_queue(
            topic, group, lambda queue: len(queue["tasks"]) == 3, source="one"
        )
        second = observer.await_queue(
            topic, group, lambda queue: len(queue["tasks"]) == 5, source="two"
        )
        assert (first["depth"], second["depth"]) == (3, 5)
        assert (ids(first)[0], ids(second)[0]) == ("task-0", "task-10")
