"""Commits and ends of logs that are late, moved or refused, on a scripted broker."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.collectors.kafka import scripted as script
from tests.collectors.kafka.conftest import IMPATIENT, QUEUE, reasons, six, unknown
from tests.collectors.kafka.scripted import (
    Group,
    Log,
    Scripted,
    Topic,
    batch,
    log_of,
    scripted,
    ten_records,
)


class Pace(asyncio.Event):
    """A gate that opens for each response after a moment."""

    async def wait(self) -> Any:
        await asyncio.sleep(0.005)


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    async with ten_records() as made:
        yield made


async def test_a_coordinator_that_moves_is_followed(broker: Scripted, watch: Any) -> None:
    async with scripted() as second, watch(broker.address, QUEUE) as watched:
        await six(watched)
        second.topics = broker.topics
        broker.brokers = second.brokers = {1: broker.port, 2: second.port}
        second.groups = {"g": Group(commits={"t": {0: 9}}, coordinator=2)}
        broker.groups["g"] = Group(error=16, listed=False, coordinator=2)
        await watched.queue_until("t", lambda q: q.depth == 1)
        second.groups["g"].error = 99
        await unknown(watched, "BadAnswer")


@pytest.mark.parametrize("error", [14, 15, 16])
async def test_the_last_offsets_expire_if_the_coordinator_does_not_serve_the_group(
    broker: Scripted, watch: Any, error: int
) -> None:
    async with watch(broker.address, QUEUE, hold=0.5) as watched:
        await watched.queue_until("t", lambda q: q.depth == 6 and q.group_state == "Stable")
        broker.groups["g"].error = error
        await broker.asked_for(script.COMMITS)
        assert (watched.queue("t").depth, watched.queue("t").problems) == (6, [])
        queue = await watched.queue_until("t", lambda q: q.depth is None and q.group_state is None)
        assert (queue.depth, queue.lag, queue.consumers, queue.members) == (None, None, None, [])
        assert reasons(queue) == ["Unreachable"]
        assert watched.troubles() == []
        broker.groups["g"].error = 0
        await watched.queue_until("t", lambda q: q.depth == 6 and q.group_state == "Stable")
        assert watched.queue("t").problems == []


async def test_a_group_that_was_never_served_is_unreachable(broker: Scripted, watch: Any) -> None:
    broker.groups["g"].error = 14
    async with watch(broker.address, QUEUE) as watched:
        await unknown(watched, "Unreachable")


async def test_a_group_that_becomes_forbidden_is_unknown(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await watched.queue_until("t", lambda q: q.depth == 6 and q.consumers == 0)
        broker.groups["g"].error = 30
        queue = await watched.queue_until("t", lambda q: q.consumers is None)
        assert (queue.group_state, reasons(queue)) == (None, ["Forbidden"])


async def test_a_late_response_of_an_earlier_coordinator_is_ignored(
    broker: Scripted, watch: Any
) -> None:
    async with scripted() as second, watch(broker.address, QUEUE) as watched:
        await six(watched)
        second.topics = broker.topics
        second.groups = {"g": Group(commits={"t": {0: 4}})}
        broker.groups["other"] = Group()
        broker.brokers = second.brokers = {1: broker.port, 2: second.port}
        broker.groups["g"] = Group(error=16, listed=False, coordinator=2)
        gate = second.gates[script.COMMITS] = asyncio.Event()
        await second.asked_for(script.COMMITS)
        second.groups = {"g": Group(error=16, listed=False, coordinator=1)}
        broker.groups["g"] = Group(commits={"t": {0: 5}})
        await watched.queue_until("t", lambda q: q.depth == 5)
        second.gates.clear()
        gate.set()
        await broker.asked_for(script.COMMITS, 3)
        assert (watched.queue("t").depth, watched.queue("t").problems) == (5, [])


async def test_a_leader_that_moves_is_followed(broker: Scripted, watch: Any) -> None:
    async with scripted() as second, watch(broker.address, QUEUE) as watched:
        await six(watched)
        second.groups = broker.groups
        broker.brokers = {1: broker.port, 2: second.port}
        log_of(broker).error = log_of(broker).fetch_error = 6
        records = batch(0, *[b"{}"] * 12)
        second.topics["t"] = Topic(logs=[Log(end=12, high=12, records=records, leader=2)])
        log_of(broker).leader = 2
        queue = await watched.queue_until("t", lambda q: len(q.tasks) == 8)
        assert (queue.depth, queue.problems) == (8, [])


async def test_a_late_end_is_compared_with_older_commits(
    broker: Scripted, leader: Scripted, watch: Any
) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        leader.gates[script.OFFSETS] = asyncio.Event()
        await leader.asked_for(script.OFFSETS)
        log_of(broker).end = log_of(broker).high = 30
        broker.groups["g"].commits["t"][0] = 10
        await broker.asked_for(script.COMMITS, 3)
        assert (watched.queue("t").depth, watched.queue("t").problems) == (6, [])
        leader.gates.pop(script.OFFSETS).set()
        await watched.queue_until("t", lambda q: q.lag == 20)
        assert {call[4].lag for call in watched.output.calls if call[0] == "put"} <= {None, 6, 20}


async def test_a_slow_leader_never_makes_the_lag_too_small(
    broker: Scripted, leader: Scripted, watch: Any
) -> None:
    """Twenty wait, always: what is produced is consumed, while the leader keeps us waiting."""
    log, commits = log_of(broker), broker.groups["g"].commits["t"]
    log.end, commits[0] = 24, 4
    async with watch(broker.address, {**QUEUE, "max_tasks": 0}) as watched:
        await watched.queue_until("t", lambda q: q.lag == 20)
        for _ in range(5):
            leader.gates[script.OFFSETS] = asyncio.Event()
            await leader.asked_for(script.OFFSETS)
            for _ in range(3):
                log.end += 10
                commits[0] += 10
                await broker.asked_for(script.COMMITS)
            leader.gates.pop(script.OFFSETS).set()
            await leader.asked_for(script.OFFSETS)
        await watched.queue_until("t", lambda q: q.lag == 20 and commits[0] == 154)
        shown = [call[4].lag for call in watched.output.calls if call[0] == "put"]
        assert min(lag for lag in shown if lag is not None) == 20


async def test_a_late_high_watermark_puts_no_commit_out_of_range(
    broker: Scripted, leader: Scripted, watch: Any
) -> None:
    log, commits = log_of(broker), broker.groups["g"].commits["t"]
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        leader.gates[script.HIGHS] = asyncio.Event()
        log.high, commits[0] = 30, 12  # it reads what is not committed
        await leader.asked_for(script.HIGHS)
        log.high, commits[0] = 50, 40
        await broker.asked_for(script.COMMITS, 3)
        first, leader.gates[script.HIGHS] = leader.gates[script.HIGHS], asyncio.Event()
        first.set()
        await leader.asked_for(script.HIGHS)
        await broker.asked_for(script.COMMITS, 3)
        leader.gates.pop(script.HIGHS).set()
        await watched.queue_until("t", lambda q: q.lag == 0)
        log.end, commits[0] = 50, 41
        await watched.queue_until("t", lambda q: q.lag == 9)
        puts = [call[4] for call in watched.output.calls if call[0] == "put"]
        assert not any("OffsetOutOfRange" in reasons(queue) for queue in puts)


async def test_a_late_end_of_a_recreated_topic_is_ignored(
    broker: Scripted, leader: Scripted, watch: Any
) -> None:
    async with watch(broker.address, {**QUEUE, "on_no_commit": "earliest"}) as watched:
        await six(watched)
        leader.gates[script.OFFSETS] = asyncio.Event()
        await leader.asked_for(script.OFFSETS)
        anew = Topic(id=2, logs=[Log(end=2, high=2, leader=2, records=batch(0, b"{}", b"{}"))])
        broker.topics["t"] = anew
        await broker.asked_for(script.METADATA, 3)
        leader.gates.pop(script.OFFSETS).set()
        queue = await watched.queue_until("t", lambda q: q.depth == 2)
        assert reasons(queue) == ["OffsetOutOfRange"]
        assert {call[4].lag for call in watched.output.calls if call[0] == "put"} <= {None, 6, 2}


async def test_a_leader_may_be_named_before_its_broker_is_known(
    broker: Scripted, watch: Any
) -> None:
    """As by a broker that is just let in again: what it leads is read once it is there."""
    async with watch(broker.address, QUEUE, hold=0.5) as watched:
        await six(watched)
        broker.brokers = {9: broker.port}
        log_of(broker).end = log_of(broker).high = 12
        queue = await unknown(watched, "Unreachable")
        assert queue.problems[0].message.startswith(
            "the metadata does not name the partition's leader"
        )
        broker.brokers = {1: broker.port}
        await watched.queue_until("t", lambda q: q.depth == 8 and not q.problems)


async def test_a_leader_that_cannot_return_the_end_is_unreachable(
    broker: Scripted, watch: Any
) -> None:
    log_of(broker).latest_error = 5
    async with watch(broker.address, QUEUE, hold=0.5) as watched:
        await unknown(watched, "Unreachable")
        log_of(broker).latest_error = 0
        assert (await six(watched)).problems == []


async def test_a_new_leader_that_cannot_return_the_end_is_unreachable(
    broker: Scripted, leader: Scripted, watch: Any
) -> None:
    log = log_of(broker)
    log.leader = 1
    leader.groups = broker.groups
    async with watch(broker.address, QUEUE, hold=0.5) as watched:
        await six(watched)
        log.leader, log.latest_error, log.end = 2, 5, 12
        await unknown(watched, "Unreachable")
        log.latest_error = 0
        await watched.queue_until("t", lambda q: q.depth == 8 and not q.problems)


async def test_tasks_of_a_log_that_shrinks_are_read_again(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.topics["t"].logs[0] = Log(end=6, high=6, records=batch(0, *[b'{"id":1}'] * 6))
        queue = await watched.queue_until("t", lambda q: len(q.tasks) == 2)
        assert (queue.depth, queue.tasks[0].id) == (2, "1")


async def test_many_groups_on_one_connection_do_not_time_out(broker: Scripted, watch: Any) -> None:
    """All offsets together take longer than one may take; none is given up."""
    for number in range(120):
        broker.groups[f"x{number}"] = Group(commits={"u": {0: 0}})
    broker.gates[script.COMMITS] = Pace()
    async with watch(broker.address, {"topic": "t"}, limits=IMPATIENT) as watched:
        await six(watched)
        await broker.asked_for(script.COMMITS, 240)
        assert watched.queue("t").depth == 6
        assert watched.troubles() == []


async def test_the_first_commit_sets_consumed_at(broker: Scripted, watch: Any) -> None:
    broker.groups["g"].commits = {}
    async with watch(broker.address, {"topic": "t", "groups": ["g"]}) as watched:
        await watched.queue_until("t", lambda q: reasons(q) == ["NoCommit"])
        broker.groups["g"].commits = {"t": {0: 10, 1: 0}}
        queue = await watched.queue_until("t", lambda q: q.depth == 0)
        assert queue.consumed_at
        assert queue.measured_at
        assert timedelta(0) <= queue.measured_at - queue.consumed_at < timedelta(seconds=5)


async def test_an_earlier_commit_does_not_set_consumed_at(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.depth == 6)
        assert queue.consumed_at is None
