"""The whole collector on the embedded broker: numbers, tasks and problems."""

import asyncio
import json
import os
import signal
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Consumer


def tasks(first: int, last: int) -> list[bytes]:
    return [json.dumps({"id": f"t{n}", "prompt": f"do {n}"}).encode() for n in range(first, last)]


def ids(queue: Any) -> list[str]:
    return [task.id for task in queue.tasks]


def reasons(queue: Any) -> list[str]:
    return [problem.reason for problem in queue.problems]


async def do(call: Any, *arguments: Any, **options: Any) -> Any:
    return await asyncio.to_thread(call, *arguments, **options)


@pytest.fixture
async def filled(broker: Any, topic: str) -> str:
    """A topic with five tasks, of which the group `g` has done two."""
    await do(broker.create, topic)
    await do(broker.produce, topic, *tasks(0, 5))
    await do(broker.commit, topic, "g", 2)
    return topic


async def test_pending_and_committed_tasks(broker: Any, filled: str, watch: Any) -> None:
    async with watch(broker.address, {"topic": filled, "groups": ["g"]}) as watched:
        queue = await watched.queue_until(filled, lambda q: len(q.tasks) == 3)
        assert (queue.name, queue.consumer_group, queue.partitions) == (filled, "g", 1)
        assert (queue.depth, queue.depth_exact, queue.lag) == (3, True, 3)
        assert ids(queue) == ["t2", "t3", "t4"]
        assert [(task.partition, task.offset) for task in queue.tasks] == [(0, 2), (0, 3), (0, 4)]
        assert queue.oldest_submitted_at == queue.tasks[0].submitted_at
        assert [(one.partition, one.lag) for one in queue.lagging] == [(0, 3)]
        assert (queue.consumed_at, queue.produced_at) == (None, None)
        assert (queue.consumers, queue.group_state, queue.members) == (0, "Empty", [])
        assert (queue.problems, queue.truncated, queue.unacknowledged) == ([], None, None)

        await do(broker.produce, filled, *tasks(5, 6))
        queue = await watched.queue_until(filled, lambda q: len(q.tasks) == 4)
        assert queue.produced_at is not None
        await do(broker.commit, filled, "g", 6)
        queue = await watched.queue_until(filled, lambda q: q.depth == 0)
        assert (queue.tasks, queue.lagging, queue.oldest_submitted_at) == ([], [], None)
        assert queue.consumed_at is not None


async def test_content_is_shown_only_if_configured(broker: Any, topic: str, watch: Any) -> None:
    await do(broker.create, topic)
    value = {"prompt": "find out what the text says", "args": {"depth": 2}, "secret": "s"}
    await do(broker.produce, topic, json.dumps(value).encode(), headers={"telemetron-task-id": "h"})
    await do(broker.commit, topic, "g", 0)
    await do(broker.commit, topic, "other", 0)
    shown = {"topic": topic, "groups": ["g"], "content_chars": 8}
    async with watch(broker.address, shown, {"topic": topic}) as watched:
        queue = await watched.queue_until(topic, lambda q: q.tasks)
        (task,) = queue.tasks
        assert (task.id, task.prompt, task.args) == ("h", "find ou…", '{"depth…')
        queue = await watched.queue_until(topic, lambda q: q.tasks, group="other")
        (task,) = queue.tasks
        assert (task.id, task.prompt, task.args) == ("h", None, None)
        assert "secret" not in repr(watched.output.parts)


async def test_the_oldest_tasks_of_all_partitions_are_shown(
    broker: Any, topic: str, watch: Any
) -> None:
    await do(broker.create, topic, 3)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(9):
        value = json.dumps(
            {"id": f"t{number}", "submitted_at": at.replace(second=9 - number).isoformat()}
        )
        await do(broker.produce, topic, value.encode(), partition=number % 3)
    queues = {"topic": topic, "groups": ["g"], "max_tasks": 4, "on_no_commit": "earliest"}
    async with watch(broker.address, queues) as watched:
        queue = await watched.queue_until(topic, lambda q: len(q.tasks) == 4 and q.depth_exact)
        assert ids(queue) == ["t8", "t7", "t6", "t5"]
        assert (queue.depth, queue.lag) == (9, 9)
        assert queue.truncated == {"tasks": 9}
        assert [one.partition for one in queue.lagging] == [0, 1, 2]
        assert queue.problems == []


async def test_only_the_first_tasks_of_a_backlog_are_read(
    broker: Any, topic: str, watch: Any
) -> None:
    await do(broker.create, topic)
    await do(broker.produce, topic, *tasks(0, 3000))
    await do(broker.commit, topic, "g", 10)
    async with watch(broker.address, {"topic": topic, "groups": ["g"]}) as watched:
        queue = await watched.queue_until(topic, lambda q: len(q.tasks) == 20)
        assert (queue.depth, queue.depth_exact, queue.lag) == (2990, False, 2990)
        assert ids(queue) == [f"t{n}" for n in range(10, 30)]
        for offset in (25, 200, 2995):
            await do(broker.commit, topic, "g", offset)
            queue = await watched.queue_until(
                topic,
                lambda q, at=offset: q.tasks and q.tasks[0].offset == at and q.lag == 3000 - at,
            )
            await watched.queue_until(
                topic, lambda q, at=offset: len(q.tasks) == min(20, 3000 - at)
            )
        assert (watched.queue(topic).depth, watched.queue(topic).depth_exact) == (5, True)
        await do(broker.commit, topic, "g", 5)  # set back, as by kafka-consumer-groups --reset
        queue = await watched.queue_until(topic, lambda q: len(q.tasks) == 20)
        assert (queue.depth, ids(queue)[0]) == (2995, "t5")


@pytest.mark.parametrize(
    ("policy", "lag", "problems"),
    [("earliest", 5, []), ("latest", 0, []), ("unknown", None, ["NoCommit"])],
)
async def test_on_no_commit_decides_for_a_group_without_commits(
    broker: Any, topic: str, watch: Any, policy: str, lag: int | None, problems: list[str]
) -> None:
    await do(broker.create, topic, 2)
    await do(broker.produce, topic, *tasks(0, 5), partition=1)
    queues = {"topic": topic, "groups": ["g"], "on_no_commit": policy}
    async with watch(broker.address, queues) as watched:
        queue = await watched.queue_until(
            topic, lambda q: q.lag == lag and len(q.tasks) == (lag or 0)
        )
        assert (queue.depth, reasons(queue), queue.consumers) == (lag, problems, 0)
        if problems:
            assert queue.problems[0].message == "the group has committed no offset (partition 1)"
            assert queue.depth_exact is None


async def test_tasks_are_truncated_though_the_depth_is_unknown(
    broker: Any, topic: str, watch: Any
) -> None:
    await do(broker.create, topic, 2)
    for partition in (0, 1):
        await do(broker.produce, topic, *tasks(0, 9), partition=partition)
    await do(broker.commit, topic, "g", 1)
    async with watch(broker.address, {"topic": topic, "groups": ["g"], "max_tasks": 5}) as watched:
        queue = await watched.queue_until(topic, lambda q: len(q.tasks) == 5)
        assert (queue.depth, reasons(queue)) == (None, ["NoCommit"])
        assert queue.truncated == {"tasks": 8}


async def test_every_group_with_a_commit_is_shown(broker: Any, filled: str, watch: Any) -> None:
    await do(broker.commit, filled, "later", 5)
    async with watch(broker.address, {"topic": f"{filled[:8]}*", "groups": ["l*", "g"]}) as watched:
        await watched.queue_until(filled, lambda q: q.depth == 3)
        await watched.queue_until(filled, lambda q: q.depth == 0, group="later")
        assert {name for _, name in watched.output.parts} == {f"{filled}/g", f"{filled}/later"}
        await do(broker.delete_group, "later")
        await watched.until(lambda: watched.queue(filled, "later") is None)
        assert watched.queue(filled).depth == 3


async def test_a_topic_without_a_group_is_shown(broker: Any, topic: str, watch: Any) -> None:
    await do(broker.create, topic)
    await do(broker.produce, topic, *tasks(0, 2))
    async with watch(broker.address, {"topic": topic}) as watched:
        queue = await watched.queue_until(topic, lambda q: True, group=None)
        assert (queue.consumer_group, queue.depth, queue.lag, queue.tasks) == (None, None, None, [])
        assert reasons(queue) == ["NoCommit"]
        await do(broker.commit, topic, "g", 1)
        await watched.queue_until(topic, lambda q: q.depth == 1)
        assert watched.queue(topic, None) is None


async def test_counts_need_no_configuration(own_broker: Any, topic: str, watch: Any) -> None:
    await do(own_broker.create, topic)
    await do(own_broker.produce, topic, *tasks(0, 5))
    await do(own_broker.commit, topic, "g", 1)
    async with watch(own_broker.address) as watched:
        queue = await watched.queue_until(topic, lambda q: q.depth is not None)
        assert (queue.depth, queue.depth_exact, queue.lag) == (4, False, 4)
        assert (queue.tasks, queue.oldest_submitted_at, queue.truncated) == ([], None, None)
        await do(own_broker.commit, topic, "g", 5)
        queue = await watched.queue_until(topic, lambda q: q.depth == 0)
        assert queue.depth_exact is True


async def test_aborted_records_and_markers_are_no_tasks(
    broker: Any, topic: str, watch: Any
) -> None:
    await do(broker.create, topic)
    await do(broker.transaction, topic, *tasks(0, 3))
    await do(broker.transaction, topic, *tasks(10, 13), commit=False)
    await do(broker.produce, topic, *tasks(3, 4))
    open_one = await do(broker.transaction, topic, *tasks(20, 22), commit=None)
    await do(broker.commit, topic, "g", 0)
    async with watch(broker.address, {"topic": topic, "groups": ["g"]}) as watched:
        queue = await watched.queue_until(topic, lambda q: q.depth_exact)
        assert ids(queue) == ["t0", "t1", "t2", "t3"]
        assert (queue.depth, queue.lag) == (4, 9)  # with two markers and three aborted records
        await do(broker.commit, topic, "g", 11)  # read uncommitted, beyond the stable end
        queue = await watched.queue_until(topic, lambda q: q.lag == 0)
        assert (queue.depth, queue.problems) == (0, [])
        await do(broker.commit, topic, "g", 9)
        await do(open_one.commit_transaction, 10)
        queue = await watched.queue_until(topic, lambda q: len(q.tasks) == 2 and q.depth_exact)
        assert (ids(queue), queue.depth) == (["t20", "t21"], 2)


async def test_records_deleted_before_they_were_consumed_are_lost(
    broker: Any, filled: str, watch: Any
) -> None:
    async with watch(broker.address, {"topic": filled, "groups": ["g"]}) as watched:
        await watched.queue_until(filled, lambda q: len(q.tasks) == 3)
        await do(broker.truncate, filled, 4)
        queue = await watched.queue_until(filled, lambda q: q.depth == 1 and q.tasks)
        assert (queue.lag, ids(queue), reasons(queue)) == (1, ["t4"], ["RecordsLost"])
        await do(broker.commit, filled, "g", 4)
        queue = await watched.queue_until(filled, lambda q: not q.problems)
        assert queue.depth == 1


async def test_a_deleted_marker_is_no_lost_record(broker: Any, topic: str, watch: Any) -> None:
    await do(broker.create, topic)
    await do(broker.transaction, topic, *tasks(0, 3))
    await do(broker.commit, topic, "g", 3)
    async with watch(broker.address, {"topic": topic, "groups": ["g"]}) as watched:
        await watched.queue_until(topic, lambda q: q.depth == 0 and q.depth_exact and q.lag == 1)
        await do(broker.truncate, topic, 4)
        queue = await watched.queue_until(topic, lambda q: q.lag == 0)
        assert (queue.depth, queue.depth_exact, queue.problems) == (0, True, [])


async def test_deleted_offsets_that_were_not_read_may_be_records(
    broker: Any, filled: str, watch: Any
) -> None:
    queues = {"topic": filled, "groups": ["g"], "max_tasks": 0}
    async with watch(broker.address, queues) as watched:
        await watched.queue_until(filled, lambda q: q.depth == 3)
        await do(broker.truncate, filled, 4)
        queue = await watched.queue_until(filled, lambda q: q.depth == 1)
        assert reasons(queue) == ["OffsetsDeleted"]


async def test_an_open_transaction_holds_back_records(broker: Any, filled: str, watch: Any) -> None:
    await do(broker.commit, filled, "g", 5)
    async with watch(broker.address, {"topic": filled, "groups": ["g"]}) as watched:
        queue = await watched.queue_until(filled, lambda q: q.open_transaction_offsets == 0)
        assert queue.open_transaction_since is None
        producer = await do(broker.transaction, filled, *tasks(5, 7), commit=None)
        queue = await watched.queue_until(filled, lambda q: q.open_transaction_offsets == 2)
        assert (queue.depth, queue.lag, queue.problems) == (0, 0, [])
        assert queue.open_transaction_since is not None
        assert queue.produced_at is not None
        await do(producer.commit_transaction, 10)
        queue = await watched.queue_until(filled, lambda q: q.open_transaction_offsets == 0)
        assert (queue.open_transaction_since, queue.depth, queue.lag) == (None, 2, 3)


async def test_the_oldest_task_may_have_a_later_offset(broker: Any, topic: str, watch: Any) -> None:
    await do(broker.create, topic)
    for hour in (12, 10, 11):
        value = {"id": f"t{hour}", "submitted_at": f"2026-01-31T{hour}:00:00Z"}
        await do(broker.produce, topic, json.dumps(value).encode())
    await do(broker.commit, topic, "g", 0)
    async with watch(broker.address, {"topic": topic, "groups": ["g"], "max_tasks": 2}) as watched:
        queue = await watched.queue_until(topic, lambda q: len(q.tasks) == 2 and q.depth_exact)
        assert ids(queue) == ["t10", "t11"]
        assert queue.oldest_submitted_at == datetime(2026, 1, 31, 10, tzinfo=UTC)


async def test_a_commit_beyond_the_end_is_out_of_range(
    broker: Any, filled: str, watch: Any
) -> None:
    await do(broker.commit, filled, "g", 60)
    async with watch(broker.address, {"topic": filled, "groups": ["g"]}) as watched:
        queue = await watched.queue_until(filled, lambda q: q.problems)
        assert (queue.lag, queue.depth, reasons(queue)) == (None, None, ["OffsetOutOfRange"])
        await do(broker.commit, filled, "g", 5)
        queue = await watched.queue_until(filled, lambda q: not q.problems)
        assert (queue.lag, queue.depth) == (0, 0)


async def test_a_deleted_topic_stays_deleted(broker: Any, filled: str, watch: Any) -> None:
    async with watch(broker.address, {"topic": filled, "groups": ["g"]}) as watched:
        await watched.queue_until(filled, lambda q: q.depth == 3)
        await do(broker.delete, filled)
        await watched.until(lambda: watched.queue(filled) is None)
        call = ("confirm", f"topic {filled}", "NotFound", "the topic does not exist")
        await watched.until(lambda: call in watched.output.calls)
        assert filled not in await do(broker.topics)


async def test_a_recreated_topic_is_read_from_its_start(
    broker: Any, filled: str, watch: Any
) -> None:
    queues = {"topic": filled, "groups": ["g"], "on_no_commit": "earliest"}
    async with watch(broker.address, queues) as watched:
        await watched.queue_until(filled, lambda q: len(q.tasks) == 3)
        await do(broker.delete, filled)
        # This broker knows no ids of topics: it must be seen that the topic is gone.
        await watched.until(lambda: watched.queue(filled) is None)
        await do(broker.create, filled)
        await do(broker.produce, filled, *tasks(100, 108))
        queue = await watched.queue_until(filled, lambda q: q.depth == 8 and len(q.tasks) == 8)
        assert ids(queue)[0] == "t100"
        await do(broker.commit, filled, "g", 6)
        queue = await watched.queue_until(filled, lambda q: q.depth == 2)
        assert (ids(queue), queue.problems) == (["t106", "t107"], [])


async def test_added_partitions_are_shown(broker: Any, filled: str, watch: Any) -> None:
    queues = {"topic": filled, "groups": ["g"], "on_no_commit": "earliest"}
    async with watch(broker.address, queues) as watched:
        await watched.queue_until(filled, lambda q: q.depth == 3)
        await do(broker.grow, filled, 3)
        await do(broker.produce, filled, *tasks(5, 7), partition=2)
        queue = await watched.queue_until(filled, lambda q: q.depth == 5 and len(q.tasks) == 5)
        assert (queue.partitions, queue.problems) == (3, [])


async def test_odd_records_are_tasks_too(broker: Any, topic: str, watch: Any) -> None:
    await do(broker.create, topic)
    big = json.dumps({"id": "big", "prompt": "x" * 900_000}).encode()
    values = [None, b"\xff\xfe\x00garbage", b"[1]", big, b'{"id": 7}']
    await do(broker.produce, topic, *values)
    await do(broker.commit, topic, "g", 0)
    queues = {"topic": topic, "groups": ["g"], "content_chars": 10}
    async with watch(broker.address, queues) as watched:
        queue = await watched.queue_until(topic, lambda q: len(q.tasks) == 5)
        assert ids(queue) == [f"{topic}/0/0", f"{topic}/0/1", f"{topic}/0/2", "big", "7"]
        problems = [task.problem and task.problem.reason for task in queue.tasks]
        assert problems == ["Unreadable", "Unreadable", None, None, None]
        assert queue.tasks[3].prompt == "xxxxxxxxx…"
        assert (queue.depth, queue.depth_exact) == (5, True)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_records_are_decoded(
    broker: Any, topic: str, watch: Any, codec: str
) -> None:
    await do(broker.create, topic)
    await do(broker.produce, topic, *tasks(0, 50), **{"compression.type": codec, "linger.ms": 50})
    await do(broker.commit, topic, "g", 20)
    async with watch(broker.address, {"topic": topic, "groups": ["g"]}) as watched:
        queue = await watched.queue_until(topic, lambda q: len(q.tasks) == 20)
        assert (ids(queue)[0], queue.depth, queue.problems) == ("t20", 30, [])


async def test_members_are_shown(broker: Any, filled: str, watch: Any) -> None:
    settings = {"bootstrap.servers": broker.address, "group.id": "g", "client.id": "worker-1"}
    consumer = Consumer({**settings, "enable.auto.commit": False})
    consumer.subscribe([filled])
    await do(consumer.poll, 5)
    async with watch(broker.address, {"topic": filled, "groups": ["g"]}) as watched:
        queue = await watched.queue_until(filled, lambda q: q.consumers == 1)
        (member,) = queue.members
        assert (member.client_id, member.host) == ("worker-1", "127.0.0.1")
        assert (member.partitions, member.partition_count) == ([0], 1)
        assert queue.group_state == "Stable"
        await do(consumer.close)
        queue = await watched.queue_until(filled, lambda q: q.consumers == 0)
        assert (queue.group_state, queue.depth, queue.members) == ("Empty", 3, [])


async def test_no_topic_is_created_and_no_group_joined(
    own_broker: Any, topic: str, watch: Any
) -> None:
    before = await do(own_broker.topics)
    async with watch(own_broker.address, {"topic": topic, "groups": ["g"]}) as watched:
        scope = f"topic {topic}"
        call = ("confirm", scope, "NotFound", "the topic does not exist")
        await watched.until(lambda: call in watched.output.calls)
        assert await do(own_broker.topics) == before
        await do(own_broker.create, topic)
        queue = await watched.queue_until(topic, lambda q: q.depth == 0)
        assert (queue.group_state, queue.consumers, queue.problems) == ("Dead", 0, [])
        assert await do(own_broker.topics) == before | {topic}
        groups = await do(lambda: own_broker.admin.list_consumer_groups().result(30).valid)
        assert groups == []


async def test_the_broker_may_start_later(own_broker: Any, topic: str, watch: Any) -> None:
    await do(own_broker.stop)
    async with watch(own_broker.address, {"topic": topic, "groups": ["g"]}) as watched:
        trouble = await watched.output.called("trouble")
        message = f"{own_broker.address} refuses the connection: closed port"
        assert trouble == ("trouble", "", "Unreachable", message)
        await do(own_broker.start)
        await do(own_broker.create, topic)
        await watched.queue_until(topic, lambda q: q.depth == 0)


async def test_the_last_values_stay_while_a_broker_restarts(
    own_broker: Any, topic: str, watch: Any
) -> None:
    await do(own_broker.create, topic)
    await do(own_broker.produce, topic, *tasks(0, 5))
    await do(own_broker.commit, topic, "g", 1)
    async with watch(own_broker.address, {"topic": topic, "groups": ["g"]}) as watched:
        await watched.queue_until(topic, lambda q: len(q.tasks) == 4)
        await do(own_broker.stop)
        await watched.output.called("trouble")
        assert watched.queue(topic).depth == 4  # the last known
        await do(own_broker.start)
        await do(own_broker.commit, topic, "g", 3)
        queue = await watched.queue_until(topic, lambda q: q.depth == 2)
        assert ids(queue) == ["t3", "t4"]


async def test_the_last_values_stay_while_a_broker_is_frozen(
    own_broker: Any, topic: str, watch: Any
) -> None:
    await do(own_broker.create, topic)
    await do(own_broker.produce, topic, *tasks(0, 5))
    await do(own_broker.commit, topic, "g", 1)
    async with watch(own_broker.address, {"topic": topic, "groups": ["g"]}) as watched:
        await watched.queue_until(topic, lambda q: len(q.tasks) == 4)
        os.kill(own_broker.process.pid, signal.SIGSTOP)
        try:
            trouble = await watched.output.called("trouble")
            assert trouble[2] == "Timeout"
            assert watched.queue(topic).depth == 4
        finally:
            os.kill(own_broker.process.pid, signal.SIGCONT)
        await do(own_broker.produce, topic, *tasks(5, 6))
        await watched.queue_until(topic, lambda q: q.depth == 5 and len(q.tasks) == 5)
