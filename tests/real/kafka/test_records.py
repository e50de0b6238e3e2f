"""Records that are no plain JSON tasks: transactions, compaction, large ones, garbage."""

import os

import pytest

from tests.real.kafka.broker import Cluster
from tests.real.kafka.conftest import Observing, ToolLag
from tests.real.kafka.observer import ids, offsets, source
from tests.real.kafka.truth import SECONDS, Truth, tasks
from tests.real.process import wait_until


def test_transactions_committed_aborted_and_open(
    kafka: Cluster, truth: Truth, group: str, observing: Observing, tool_lag: ToolLag
) -> None:
    """10 committed, 10 aborted, 5 open: 10 wait, where the tool says 27."""
    topic = truth.topic()
    truth.commit(group, topic, {0: 0})
    with truth.transaction() as producer:
        for value in tasks(0, 10):
            producer.produce(topic, value, partition=0)
        producer.commit_transaction(SECONDS)
    with truth.transaction() as producer:
        for value in tasks(10, 10):
            producer.produce(topic, value, partition=0)
        producer.flush(SECONDS)
    with (
        observing(kafka=source(kafka.servers(), topic, group)) as observer,
        truth.transaction() as producer,
    ):
        for value in tasks(20, 5):
            producer.produce(topic, value, partition=0)
        producer.flush(SECONDS)
        queue = observer.await_queue(
            topic, group, lambda it: it["depth"] == 10 and it["depth_exact"]
        )
        assert ids(queue) == [f"task-{n}" for n in range(10)]
        assert tool_lag(group) == 27
        producer.commit_transaction(SECONDS)
        queue = observer.await_queue(
            topic, group, lambda it: it["depth"] == 15 and it["depth_exact"]
        )
        assert ids(queue)[10:] == [f"task-{n}" for n in range(20, 25)]


def test_behind_an_open_transaction_nothing_waits_for_a_worker_at_its_end(
    kafka: Cluster, truth: Truth, group: str, observing: Observing, tool_lag: ToolLag
) -> None:
    """The worker committed all it could read; the tool counts 5 that no worker may read."""
    topic = truth.topic()
    truth.produce(topic, tasks(0, 4))
    with truth.transaction() as producer:
        for value in tasks(4, 5):
            producer.produce(topic, value, partition=0)
        producer.flush(SECONDS)
        truth.commit(group, topic, {0: 4})
        with observing(kafka=source(kafka.servers(), topic, group)) as observer:
            observer.await_shown(topic, group, depth=0, lag=0, depth_exact=True, tasks=[])
            assert tool_lag(group) == 5


def test_an_aborted_transaction_that_ends_the_log_leaves_nothing(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.commit(group, topic, {0: 0})
    with truth.transaction() as producer:
        for value in tasks(0, 5):
            producer.produce(topic, value, partition=0)
        producer.flush(SECONDS)
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_shown(topic, group, depth=0, depth_exact=True, tasks=[])


def test_a_compacted_topic_counts_what_can_be_read(
    kafka: Cluster, truth: Truth, group: str, observing: Observing, tool_lag: ToolLag
) -> None:
    """Many offsets, few records: those that are left, once they were read; the tool counts all."""
    topic = truth.topic(
        cleanup_policy="compact",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.01",
        min_compaction_lag_ms="0",
    )
    for round in range(10):
        for key in range(10):
            truth.produce(topic, tasks(round * 10 + key, 1), key=b"%d" % key)
    truth.commit(group, topic, {0: 20})

    def compacted() -> bool:
        truth.produce(topic, tasks(1000, 1), key=b"last")  # a new segment lets the old be cleaned
        with truth.reader(topic, 20) as reader:
            return len(reader()) <= 14

    wait_until(compacted, seconds=SECONDS, what="compaction")
    with truth.reader(topic, 20) as reader:
        left = reader()
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        queue = observer.await_queue(topic, group, lambda it: it["depth_exact"])
        assert offsets(queue) == [message.offset() for message in left]
        assert queue["depth"] == len(left) < queue["lag"]
        assert tool_lag(group) == queue["lag"]


def test_a_tombstone_is_a_record_that_says_so(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, [b'{"id":"a"}', None, b'{"id":"b"}'])
    truth.commit(group, topic, {0: 0})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        queue = observer.await_queue(topic, group, lambda it: len(it["tasks"]) == 3)
        assert ids(queue) == ["a", f"{topic}/0/1", "b"]
        assert [bool(task["problem"]) for task in queue["tasks"]] == [False, True, False]


def test_a_record_of_1_mb_is_read_and_cut(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic(max_message_bytes="2000000")
    truth.produce(topic, [*tasks(0, 1, prompt="x" * 1_000_000), *tasks(1, 1, prompt="short")])
    truth.commit(group, topic, {0: 0})
    with observing(kafka=source(kafka.servers(), topic, group, content_chars=100)) as observer:
        queue = observer.await_queue(topic, group, lambda it: len(it["tasks"]) == 2)
        assert ids(queue) == ["task-0", "task-1"]
        assert len(queue["tasks"][0]["prompt"]) <= 100
        assert queue["tasks"][1]["prompt"] == "short"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_records_are_read(
    kafka: Cluster, truth: Truth, group: str, observing: Observing, codec: str
) -> None:
    topic = truth.topic(compression_type=codec)
    truth.produce(topic, tasks(0, 20))
    truth.commit(group, topic, {0: 5})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_queue(topic, group, lambda it: offsets(it) == list(range(5, 20)))


def test_binary_garbage_is_a_task_under_its_place(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    garbage = [os.urandom(200), b"\xff\x00\x1b[31m", b"{", b"[" * 100_000, b'{"id":"whole"}']
    truth.produce(topic, garbage)
    truth.commit(group, topic, {0: 0})
    with observing(kafka=source(kafka.servers(), topic, group, content_chars=100)) as observer:
        queue = observer.await_queue(topic, group, lambda it: len(it["tasks"]) == 5)
        assert ids(queue) == [*(f"{topic}/0/{n}" for n in range(4)), "whole"]
        assert {task["problem"]["reason"] for task in queue["tasks"][:4]} == {"Unreadable"}
        assert (queue["depth"], queue["depth_exact"]) == (5, True)


def test_a_header_gives_the_id_before_the_value(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 1), headers={"telemetron-task-id": b"from-header"})
    truth.produce(topic, [b'{"job":{"uuid":7}}'], headers={"x-priority": b"high"})
    truth.commit(group, topic, {0: 0})
    fields = {"id": "/job/uuid", "priority": "x-priority"}
    with observing(kafka=source(kafka.servers(), topic, group, fields=fields)) as observer:
        queue = observer.await_queue(topic, group, lambda it: len(it["tasks"]) == 2)
        assert ids(queue) == ["from-header", "7"]
        assert queue["tasks"][1]["priority"]["level"] == "high"
