"""Topics that grow, go, and come back under their old names."""

import pytest

from tests.real.kafka.broker import Cluster
from tests.real.kafka.conftest import Observing, ToolLag
from tests.real.kafka.observer import offsets, reasons, source
from tests.real.kafka.truth import Truth, tasks


def test_added_partitions_are_counted(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 3))
    truth.commit(group, topic, {0: 1})
    with observing(kafka=source(kafka.servers(), topic, group, on_no_commit="earliest")) as it:
        it.await_shown(topic, group, depth=2, partitions=1)
        truth.grow(topic, 4)
        Truth(kafka).produce(topic, tasks(3, 5), partition=3)
        it.await_shown(topic, group, depth=7, partitions=4, depth_exact=True, problems=[])


def test_a_deleted_topic_stays_deleted(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    """Though this broker makes each topic that a client asks for; the other queue goes on."""
    topic, other = truth.topic(), truth.topic()
    for name in (topic, other):
        truth.produce(name, tasks(0, 3))
        truth.commit(group, name, {0: 1})
    queues = [{"topic": name, "groups": [group]} for name in (topic, other)]
    config = {"bootstrap_servers": kafka.servers(), "queues": queues}
    with observing(kafka=config) as observer:
        observer.await_shown(topic, group, depth=2)
        truth.delete(topic)
        observer.await_queues(lambda queues: (topic, group) not in queues)
        observer.await_reason("NotFound")
        truth.produce(other, tasks(3, 1))
        observer.await_shown(other, group, depth=3, problems=[])
        assert topic not in truth.topics()


def test_a_topic_that_never_was_is_not_made(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    with observing(kafka=source(kafka.servers(), "never-was", group)) as observer:
        observer.await_reason("NotFound")
        assert "never-was" not in truth.topics()
        truth.topic(name="never-was")
        truth.produce("never-was", tasks(0, 2))
        truth.commit(group, "never-was", {0: 0})
        observer.await_shown("never-was", group, depth=2)
        observer.await_ok()
    truth.delete("never-was")


@pytest.mark.parametrize("end", [10, 110])
def test_a_recreated_topic_is_known_by_its_id(
    kafka: Cluster,
    truth: Truth,
    group: str,
    observing: Observing,
    tool_lag: ToolLag,
    end: int,
) -> None:
    """The old commit is 60; the new end is below, or already above it. The tool says 0, and -50."""
    topic = truth.topic()
    truth.produce(topic, tasks(0, 100))
    with truth.member(group, topic) as member:
        member.read(60)
        with observing(kafka=source(kafka.servers(), topic, group)) as observer:
            observer.await_shown(topic, group, depth=40)
            truth.delete(topic)
            truth.topic(name=topic)
            truth.produce(topic, tasks(0, end))
            queue = observer.await_queue(
                topic, group, lambda it: it["depth"] is None and it["problems"]
            )
            assert reasons(queue) <= {"NoCommit", "OffsetOutOfRange"}
            assert tool_lag(group) == 0  # it leaves out what has no commit
            if end == 10:  # a worker that did not notice commits where it stood
                member.commit(topic, 60)
                observer.await_queue(topic, group, lambda it: reasons(it) == {"OffsetOutOfRange"})
                assert observer.queue(topic, group)["depth"] is None
                assert tool_lag(group) == -50
    truth.commit(group, topic, {0: 4})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        queue = observer.await_shown(topic, group, depth=end - 4, problems=[])


def test_a_commit_on_a_recreated_topic_counts(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 20))
    truth.commit(group, topic, {0: 15})
    with observing(kafka=source(kafka.servers(), topic, group, on_no_commit="earliest")) as it:
        it.await_shown(topic, group, depth=5)
        truth.delete(topic)
        truth.topic(name=topic)
        truth.produce(topic, tasks(100, 30))
        it.await_queue(topic, group, lambda queue: queue["depth"] == 30)
        truth.commit(group, topic, {0: 27})
        it.await_queue(topic, group, lambda queue: offsets(queue) == [27, 28, 29])
        it.await_shown(topic, group, depth=3, problems=[])
