"""Groups of all kinds; and that who observes them leaves no trace."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.real.kafka import observer as telemetron
from tests.real.kafka.broker import Cluster
from tests.real.kafka.conftest import Observing
from tests.real.kafka.heartbeat import beating, commit_to_the_empty_group
from tests.real.kafka.observer import cluster_source, ids, reasons, source
from tests.real.kafka.oracle import Oracle
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
        assert shown["members"] == [
            {
                "client_id": "worker",
                "host": "127.0.0.1",
                "partitions": [0, 1],
                "partition_count": 2,
            }
        ]
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


def test_a_streams_group(
    kafka: Cluster, truth: Truth, group: str, observing: Observing, admin_client: Oracle
) -> None:
    """From its first member on, in the broker's words; here of the named topic, with a commit."""
    topic = truth.topic(2)
    truth.produce(topic, tasks(0, 10))
    truth.commit(group, topic, {0: 3, 1: 0})
    server = kafka.servers()[0]
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_shown(topic, group, consumers=0, group_state="Empty", lag=7)
        with beating(server, "streams", group, topic, client_id="one"):
            joined = observer.await_queue(topic, group, lambda it: len(it["members"]) == 1)
            assert joined["group_state"] in {"NotReady", "Assigning", "Reconciling", "Stable"}
            shown = observer.await_shown(topic, group, consumers=1, lag=7, group_state="Stable")
            assert shown["members"][0]["partitions"] == [0, 1]
            with beating(server, "streams", group, topic, client_id="two"):
                shown = observer.await_shown(topic, group, consumers=2)
                said = admin_client.groups(group)[group]
                assert said.consumers(topic) == 2
                assert said.lags[topic] == {0: 7, 1: 0}
                assert shown["generation"] > joined["generation"]
        observer.await_shown(topic, group, consumers=0, group_state="Empty", lag=7)


@pytest.mark.parametrize("kind", ["classic", "consumer", "share", "streams"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "pattern"])
def test_a_group_whose_first_task_takes_minutes(
    kafka: Cluster, truth: Truth, group: str, observing: Observing, kind: str, named: bool
) -> None:
    """It is known by its members, before it has committed; on an empty topic, too."""
    topic, empty = truth.topic(), truth.topic()
    truth.produce(topic, tasks(0, 4))
    queues = [{"topic": name if named else f"{name}*"} for name in (topic, empty)]
    with (
        _member(kafka, truth, kind, group, topic),
        _member(kafka, truth, kind, f"{group}-b", empty),
        observing(kafka=cluster_source(kafka.servers(), queues)) as observer,
    ):
        queue = observer.await_shown(topic, group, consumers=1)
        if kind != "share":  # whose start the broker initialises
            assert (queue["depth"], reasons(queue)) == (None, {"NoCommit"})
        observer.await_shown(empty, f"{group}-b", consumers=1, depth=0, problems=[])


@contextmanager
def _member(kafka: Cluster, truth: Truth, kind: str, group: str, topic: str) -> Iterator[None]:
    if kind in PROTOCOLS:
        with truth.member(group, topic, group_protocol=kind):
            yield
    else:
        with beating(kafka.servers()[0], kind, group, topic):
            yield


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_group_that_moved_to_another_topic(
    kafka: Cluster, truth: Truth, group: str, observing: Observing, protocol: str
) -> None:
    """Nobody consumes the old one, and both say so."""
    old, new = truth.topic(), truth.topic(2)
    truth.produce(old, tasks(0, 50))
    truth.read(old, group, 10, group_protocol=protocol)
    with (
        truth.member(group, new, group_protocol=protocol),
        observing(kafka=cluster_source(kafka.servers(), [{"topic": old}, {"topic": new}])) as it,
    ):
        left = it.await_shown(old, group, consumers=0, depth=40, group_state="Stable")
        assert [member["partitions"] for member in left["members"]] == [[]]
        moved = it.await_shown(new, group, consumers=1)
        assert moved["members"][0]["partitions"] == [0, 1]


def test_the_first_commit_of_a_group_has_its_time(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 10))
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_queue(topic, group, lambda it: reasons(it) == {"NoCommit"})
        before = datetime.now(UTC)
        truth.commit(group, topic, {0: 10})
        queue = observer.await_shown(topic, group, depth=0)
        assert before <= datetime.fromisoformat(queue["consumed_at"]) <= datetime.now(UTC)


def test_the_group_with_the_empty_name(kafka: Cluster, truth: Truth, observing: Observing) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 3))
    truth.commit("any", topic, {0: 1})  # so that there is a coordinator
    commit_to_the_empty_group(kafka.servers()[0], topic, 1)
    with observing(kafka=source(kafka.servers(), topic)) as observer:
        queue = observer.await_shown(topic, "", depth=2, group_state="Empty", problems=[])
        assert queue["key"] == f"kafka/{topic}/~3"


def test_a_renamed_topic_is_one_that_no_group_reads(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    old, new = truth.topic(), truth.topic()
    with (
        truth.member(group, old),
        observing(kafka=cluster_source(kafka.servers(), [{"topic": f"{new}*"}])) as observer,
    ):
        observer.await_ok()
        assert observer.queues() == {}
        truth.produce(new, tasks(0, 3))
        queue = observer.await_shown(new, None, consumers=0, depth=None)
        assert reasons(queue) == {"NoCommit"}
        truth.commit(group + "-b", new, {0: 1})
        observer.await_shown(new, group + "-b", depth=2)
        observer.await_queues(lambda queues: list(queues) == [(new, group + "-b")])


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
