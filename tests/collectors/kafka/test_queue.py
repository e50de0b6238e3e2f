"""The queue that the document shows of a topic and a group."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from telemetron.document import PendingTask, Queue
from telemetron_collectors.kafka.config import QueueConfig
from telemetron_collectors.kafka.partition import LogRange
from telemetron_collectors.kafka.protocol.membership import GroupInfo, GroupMember
from telemetron_collectors.kafka.protocol.messages import Commit
from telemetron_collectors.kafka.queue import KafkaQueue, OpenTransaction
from tests.collectors.kafka.conftest import reasons

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def made(*commits: int, end: int = 10, **config: Any) -> KafkaQueue:
    """A queue with one partition for each commit."""
    queue = KafkaQueue("t", "g", QueueConfig(topic="t", **config))
    queue.resize(len(commits))
    for partition, commit in zip(queue.partitions, commits, strict=True):
        partition.update(Commit(commit), LogRange(0, end), queue.config.on_no_commit, NOW)
    return queue


def built(queue: KafkaQueue, now: datetime = NOW) -> Queue:
    return queue.build(now, 20)


def test_lag_and_depth_are_sums_of_all_partitions() -> None:
    queue = built(made(4, 10, 7))
    assert (queue.lag, queue.depth, queue.depth_exact, queue.partitions) == (9, 9, False, 3)
    assert [(one.partition, one.lag) for one in queue.lagging] == [(0, 6), (2, 3)]


def test_one_unknown_partition_makes_the_sums_unknown() -> None:
    queue = made(4, -1, -1)
    shown = built(queue)
    assert (shown.lag, shown.depth, shown.depth_exact) == (None, None, None)
    (problem,) = shown.problems
    assert problem.reason == "NoCommit"
    assert problem.message == "the group has committed no offset (partitions 1, 2)"


def test_many_partitions_with_a_problem_are_not_all_named() -> None:
    (problem,) = built(made(*[-1] * 9)).problems
    assert problem.message.endswith("(partitions 0, 1, 2, 3, 4, …)")


def test_a_problem_keeps_the_time_when_it_was_first_seen() -> None:
    queue = made(-1)
    assert built(queue).problems[0].since == NOW
    later = NOW + timedelta(seconds=9)
    assert built(queue, later).problems[0].since == NOW
    queue.refusal = ("Forbidden", "no permission to describe the topic")
    assert [(one.reason, one.since) for one in built(queue, later).problems] == [
        ("Forbidden", later)
    ]


def test_tasks_of_a_forbidden_partition_are_hidden() -> None:
    queue = made(8, 8)
    for number, window, _ in queue.windows():
        window.append([PendingTask(id=str(number), offset=8)], 10, 20)
    assert [task.id for task in built(queue).tasks] == ["0", "1"]
    queue.troubles[0] = ("Forbidden", "no permission to describe the topic")
    assert [task.id for task in built(queue).tasks] == ["1"]
    queue.unread[1] = ("Forbidden", "no permission to read the topic")
    assert built(queue).tasks == []
    queue.is_share = True
    assert list(queue.windows()) == []


def test_unread_records_are_no_problem_if_the_source_explains_them() -> None:
    queue = made(4)
    queue.unread[0] = ("Timeout", "broker:9092 did not answer within 3 s")
    assert reasons(built(queue)) == ["Timeout"]
    queue.out_of_reach = {0}
    assert reasons(built(queue)) == []


def test_a_problem_with_unread_records_ends_once_all_are_consumed() -> None:
    queue = made(4)
    queue.unread[0] = ("BadAnswer", "the records cannot be decoded")
    queue.prune_unread()
    assert queue.unread
    queue.partitions[0].update(Commit(10), LogRange(0, 10), "unknown", NOW)
    queue.prune_unread()
    assert not queue.unread


def test_consumers_are_members_with_partitions_of_the_topic() -> None:
    queue = made(4, 4)
    members = (
        GroupMember("idle", "/10.0.0.2", {"other": (0,)}),
        GroupMember("busy", "/10.0.0.1", {"t": (1, 0, 5)}),  # 5 is a partition of another topic
    )
    queue.info = GroupInfo(0, "Stable", members)
    shown = built(queue)
    assert [(it.client_id, it.host, it.partitions) for it in shown.members] == [
        ("busy", "10.0.0.1", [0, 1]),
        ("idle", "10.0.0.2", []),
    ]
    assert shown.consumers == 1


def test_a_recreated_topic_with_fewer_partitions_starts_empty() -> None:
    queue = made(4, 4)
    queue.resize(1)
    assert [partition.position for partition in queue.partitions] == [None]


@pytest.mark.parametrize(
    ("offsets", "text"),
    [
        ([1], "1 offset (partition 0)"),
        ([9], "9 offsets (partition 0)"),
        ([1005], "at least 1000 offsets (partition 0)"),
        ([4, 6], "at least 10 offsets (partitions 0, 1)"),
    ],
)
def test_a_long_open_transaction_is_a_problem_since_it_was_first_seen(
    offsets: list[int], text: str
) -> None:
    queue, now = made(10, 10, 10), NOW + timedelta(seconds=20)
    queue.transactions = {n: OpenTransaction(5, o, NOW, True) for n, o in enumerate(offsets)}
    queue.transactions[2] = OpenTransaction(0, 1000, now, False)
    shown = built(queue, now)
    (problem,) = shown.problems
    assert (problem.reason, problem.since) == ("OpenTransaction", NOW)
    assert problem.message == f"an open transaction holds back {text}"
    assert shown.open_transaction_since == NOW
    assert shown.open_transaction_offsets == 1000 + sum(offsets)
