"""What a log holds for a group: open transactions, deleted offsets, compaction, odd records."""

import json
import struct
from datetime import UTC, datetime

from tests.real.kafka.broker import Cluster
from tests.real.kafka.conftest import Observing
from tests.real.kafka.observer import cluster_source, ids, offsets, reasons, source
from tests.real.kafka.truth import SECONDS, Truth, tasks
from tests.real.process import wait_until


def exact(depth: int) -> dict[str, object]:
    return {"depth": depth, "depth_exact": True}


def test_a_deleted_transaction_marker_is_no_lost_record(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    """The worker has committed all ten records; the log starts after their marker."""
    topic = truth.topic()
    truth.commit(group, topic, {0: 0})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        truth.transact(topic, tasks(0, 10))
        observer.await_queue(topic, group, lambda it: len(it["tasks"]) == 10)
        truth.commit(group, topic, {0: 10})
        observer.await_shown(topic, group, **exact(0), lag=1)
        truth.delete_before(topic, 11)
        observer.await_shown(topic, group, **exact(0), lag=0, problems=[])


def test_deleted_aborted_records_are_not_lost(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 3))
    truth.commit(group, topic, {0: 3})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_shown(topic, group, **exact(0))
        truth.transact(topic, tasks(3, 5), commit=False)
        observer.await_shown(topic, group, **exact(0), lag=6)
        truth.delete_before(topic, 9)
        observer.await_shown(topic, group, **exact(0), lag=0, problems=[])
        truth.produce(topic, tasks(9, 2))
        queue = observer.await_shown(topic, group, **exact(2), lag=2, problems=[])
        assert offsets(queue) == [9, 10]
        truth.delete_before(topic, 10)
        queue = observer.await_shown(topic, group, **exact(1), lag=1)
        assert reasons(queue) == {"RecordsLost"}
        truth.commit(group, topic, {0: 10})
        observer.await_shown(topic, group, **exact(1), lag=1, problems=[])


def test_offsets_deleted_before_telemetron_read_them_are_said_to_be_unknown(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 10))
    truth.commit(group, topic, {0: 2})
    truth.delete_before(topic, 5)
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        queue = observer.await_shown(topic, group, **exact(5), lag=5)
        assert reasons(queue) == {"OffsetsDeleted"}
        truth.commit(group, topic, {0: 5})
        observer.await_shown(topic, group, **exact(5), lag=5, problems=[])


def test_offsets_expired_by_retention_are_told_like_deleted_ones(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    """By size: only the active segment is left."""
    topic = truth.topic(retention_bytes="1", segment_ms="100", file_delete_delay_ms="0")
    truth.produce(topic, tasks(0, 4))
    truth.commit(group, topic, {0: 1})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_queue(topic, group, lambda it: it["tasks"])

        def expired() -> bool:
            truth.produce(topic, tasks(100, 1))  # rolls the segment
            return truth.starts(topic)[0] > 2

        wait_until(expired, seconds=SECONDS, what="retention")
        queue = observer.await_queue(topic, group, lambda it: it["problems"])
        assert reasons(queue) == {"RecordsLost"}


def test_records_behind_an_open_transaction_are_reported(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    """A hung producer does not look like an idle queue."""
    topic = truth.topic()
    truth.produce(topic, tasks(0, 5))
    truth.commit(group, topic, {0: 5})
    with (
        observing(kafka=source(kafka.servers(), topic, group)) as observer,
        truth.transaction() as producer,
    ):
        observer.await_shown(
            topic, group, **exact(0), open_transaction_since=None, open_transaction_offsets=0
        )
        producer.produce(topic, b"{}", partition=0)
        producer.flush(SECONDS)
        truth.produce(topic, tasks(6, 1_000))
        queue = observer.await_shown(topic, group, open_transaction_offsets=1001)
        since = queue["open_transaction_since"]
        assert (queue["depth"], queue["lag"], queue["problems"]) == (0, 0, [])
        assert queue["produced_at"] is not None
        assert since is not None
        produced = queue["produced_at"]
        truth.produce(topic, tasks(1006, 4))
        queue = observer.await_shown(topic, group, open_transaction_offsets=1005)
        assert queue["produced_at"] > produced
        queue = observer.await_queue(topic, group, lambda it: it["problems"])
        (problem,) = queue["problems"]
        assert problem == {
            "reason": "OpenTransaction",
            "message": "an open transaction holds back at least 1000 offsets (partition 0)",
            "since": since,
        }
        assert queue["open_transaction_since"] == since
        producer.commit_transaction(SECONDS)
        observer.await_shown(
            topic,
            group,
            depth=1006,  # an upper bound: with the marker
            open_transaction_since=None,
            open_transaction_offsets=0,
            problems=[],
        )


def test_short_transactions_are_no_problem(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.commit(group, topic, {0: 0})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        for first in range(0, 40, 4):
            truth.transact(topic, tasks(first, 3))
        queue = observer.await_shown(topic, group, **exact(30), lag=40)
        assert (queue["open_transaction_since"], queue["problems"]) == (None, [])


def test_the_oldest_task_is_so_by_its_own_time(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    """A requeued task stands behind newer ones, in its partition and in others."""
    topic = truth.topic(2)
    times = {"new": "2026-01-31T12:00:00Z", "requeued": "2026-01-31T10:00:00Z"}
    values = [json.dumps({"id": id, "submitted_at": at}).encode() for id, at in times.items()]
    truth.produce(topic, values)
    truth.produce(topic, values[:1] * 30, partition=1)
    truth.commit(group, topic, {0: 0, 1: 0})
    with observing(kafka=source(kafka.servers(), topic, group, max_tasks=3)) as observer:
        queue = observer.await_queue(topic, group, lambda it: len(it["tasks"]) == 3)
        assert ids(queue)[0] == "requeued"
        assert _at(queue["oldest_submitted_at"]) == datetime(2026, 1, 31, 10, tzinfo=UTC)
        assert queue["oldest_submitted_at"] == queue["tasks"][0]["submitted_at"]


def test_json_behind_a_schema_registry_frame_is_read(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    value, guid = b'{"id":"t-1","priority":"high"}', bytes(range(16))
    frames = [b"\0" + struct.pack(">i", 17), b"\0" + struct.pack(">q", 17), b"\1" + guid]
    avro = b"\0" + struct.pack(">i", 17) + b"\x06t-2"
    truth.produce(topic, [*(frame + value for frame in frames), avro])
    truth.commit(group, topic, {0: 0})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        queue = observer.await_queue(topic, group, lambda it: len(it["tasks"]) == 4)
        assert ids(queue) == ["t-1", "t-1", "t-1", f"{topic}/0/3"]
        assert {task["priority"]["level"] for task in queue["tasks"][:3]} == {"high"}
        assert "schema 17" in queue["tasks"][3]["problem"]["message"]


def test_submitted_at_is_the_time_meant_or_a_problem(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    seconds = 1_769_860_800
    noon = [seconds * 10**digits for digits in (0, 3, 6, 9)]
    meant = [
        *noon,
        *map(str, noon),
        "2026-01-31T13:00:00+01:00",
        "2026-01-31T12:00:00",
        "Sat, 31 Jan 2026 12:00:00 GMT",
    ]
    odd = ["soon", "", -1, True, seconds * 10]
    values = [json.dumps({"id": "t", "submitted_at": at}).encode() for at in (*meant, *odd)]
    truth.produce(topic, values)
    truth.commit(group, topic, {0: 0})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        queue = observer.await_queue(topic, group, lambda it: len(it["tasks"]) == len(values))
        assert offsets(queue) == list(range(len(values)))  # those of unknown time come last
        times = [task["submitted_at"] and _at(task["submitted_at"]) for task in queue["tasks"]]
        assert times == [datetime(2026, 1, 31, 12, tzinfo=UTC)] * len(meant) + [None] * len(odd)
        found = [task["problem"] and task["problem"]["reason"] for task in queue["tasks"]]
        assert found == [None] * len(meant) + ["Unreadable"] * len(odd)


def test_tasks_that_are_compacted_away_after_they_were_shown_do_not_wait(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic(
        cleanup_policy="compact",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.01",
        min_compaction_lag_ms="600000",
    )
    for key in (b"a", b"b", b"a", b"a", b"c"):
        truth.produce(topic, [b"{}"], key=key)
    truth.commit(group, topic, {0: 0})
    queues = [{"topic": topic, "groups": [group]}]
    config = cluster_source(kafka.servers(), queues, interval_seconds=0.05)  # it looks more often
    with observing(kafka=config) as observer:
        observer.await_shown(topic, group, **exact(5))
        truth.configure(topic, min_compaction_lag_ms="0")

        def compacted() -> bool:
            truth.produce(topic, [b"{}"], key=b"last")  # a new segment lets the old be cleaned
            with truth.reader(topic, 0) as read:
                return {0, 2}.isdisjoint(message.offset() for message in read())

        wait_until(compacted, seconds=SECONDS, what="compaction")
        queue = observer.await_queue(topic, group, lambda it: {0, 2}.isdisjoint(offsets(it)))
        with truth.reader(topic, 0) as read:
            left = [message.offset() for message in read()]
        observer.await_shown(topic, group, **exact(len(left)))
        assert set(offsets(queue)) >= set(left)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)
