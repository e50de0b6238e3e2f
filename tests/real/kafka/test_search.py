"""One task in a long queue: by its record exactly, by its id within the look."""

import time

from tests.real.kafka.broker import Cluster
from tests.real.kafka.conftest import Observing
from tests.real.kafka.observer import source
from tests.real.kafka.truth import SECONDS, Truth, tasks
from tests.real.process import wait_until

COUNT = 3_000


def test_a_task_beyond_the_shown_ones(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, COUNT))
    truth.commit(group, topic, {0: 100})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_queue(topic, group, lambda it: it["lag"] == COUNT - 100)
        status, found = observer.task("task-2000")
        assert (status, found["where"]) == (200, "waiting")
        (one,) = found["waiting"]
        assert (one["queue"], one["partition"], one["offset"]) == (topic, 0, 2000)
        assert (one["ahead"], one["ahead_exact"]) == (1900, False)
        _, beyond = observer.task("task-2000?look=1000")
        assert beyond["where"] == "unknown"
        assert beyond["searched"] == [
            {
                "queue": topic,
                "partition": 0,
                "from": 100,
                "to": 1100,
                "end": COUNT,
                "why": "the look ended",
            }
        ]
        for offset, word in ((2999, "waiting"), (99, "unknown")):
            status, found = observer.task(f"{topic}/0/{offset}")
            assert (status, found["where"]) == (200, word)
        assert found["consumed"][0]["offset"] == 99
        status, problem = observer.task(f"{topic}/0/{COUNT}?look=0")
        # The list of the queue is cut, and a task may have this text as its id.
        assert (status, problem["where"]) == (200, "unknown")
        assert truth.committed(group, topic) == {0: 100}
        assert observer.queue(topic, group)["consumers"] == 0


def test_markers_aborted_open_and_deleted_records_are_no_tasks(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    """0–4 deleted, 5–9 committed, 10 a marker, 11–15 aborted, 16 a marker, 17–21 open."""
    topic = truth.topic()
    truth.produce(topic, tasks(0, 5))
    with truth.transaction() as producer:
        for value in tasks(5, 5):
            producer.produce(topic, value, partition=0)
        producer.commit_transaction(SECONDS)
    with truth.transaction() as producer:
        for value in tasks(11, 5):
            producer.produce(topic, value, partition=0)
        producer.flush(SECONDS)
    truth.commit(group, topic, {0: 0})
    truth.delete_before(topic, 5)
    with (
        observing(kafka=source(kafka.servers(), topic, group)) as observer,
        truth.transaction() as producer,
    ):
        for value in tasks(17, 5):
            producer.produce(topic, value, partition=0)
        producer.flush(SECONDS)
        observer.await_queue(topic, group, lambda it: it["depth"] == 5 and it["depth_exact"])
        words = {at: observer.task(f"{topic}/0/{at}")[0] for at in (2, 5, 9, 10, 12, 16, 18, 99)}
        found = {at for at, status in words.items() if status == 200}
        unknown = {at for at in found if observer.task(f"{topic}/0/{at}")[1]["where"] == "unknown"}
        assert found - unknown == {5, 9}
        assert observer.task("task-9")[1]["where"] == "waiting"
        for id in ("task-2", "task-12", "task-18"):
            assert observer.task(id)[1].get("where") != "waiting"


def test_a_compacted_record_is_absent(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic(
        cleanup_policy="compact",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.01",
        min_compaction_lag_ms="0",
    )
    for number in range(40):
        truth.produce(topic, tasks(number, 1), key=b"%d" % (number % 4))
    truth.commit(group, topic, {0: 0})

    def compacted() -> bool:
        truth.produce(topic, tasks(1000, 1), key=b"last")
        with truth.reader(topic, 0) as reader:
            return len(reader()) <= 14

    wait_until(compacted, seconds=SECONDS, what="compaction")
    with truth.reader(topic, 0) as reader:
        left = {message.offset() for message in reader()}
    with observing(kafka=source(kafka.servers(), topic, group, max_tasks=1)) as observer:
        observer.await_queue(topic, group, lambda it: it["lag"])
        assert {
            at for at in (0, 3, *left) if observer.task(f"{topic}/0/{at}")[1]["where"] == "waiting"
        } == left
        assert observer.task("task-39")[1]["where"] == "waiting"


def test_a_frozen_broker_ends_the_search_in_time(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 300))
    truth.commit(group, topic, {0: 0})
    broker = kafka.broker(1)
    with observing(faults=1, kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_queue(topic, group, lambda it: it["lag"] == 300 and it["tasks"])
        broker.freeze()
        try:
            began = time.monotonic()
            status, found = observer.task("task-299")
            assert time.monotonic() - began < 4
        finally:
            broker.thaw()
        assert (status, found["where"]) == (200, "unknown")
        assert found["searched"][0]["why"] == "the time was up"
        observer.await_ok()
        assert observer.task("task-299")[1]["where"] == "waiting"
