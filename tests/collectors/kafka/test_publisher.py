"""Queues of which something is unknown or must not be shown."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.collectors.kafka.conftest import QUEUE, six, unknown
from tests.collectors.kafka.scripted import Group, Log, Scripted, Topic, batch, log_of, ten_records


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    async with ten_records() as made:
        yield made


async def test_a_forbidden_topic_is_unknown_until_it_is_permitted(
    broker: Scripted, watch: Any
) -> None:
    broker.topics["t"].error = 29
    broker.topics["other"] = Topic(logs=[Log(end=3, high=3)])
    broker.groups["g"].commits["other"] = {0: 1}
    other = {"topic": "other", "groups": ["g"], "max_tasks": 0}
    async with watch(broker.address, QUEUE, other) as watched:
        await unknown(watched, "Forbidden")
        await watched.queue_until("other", lambda q: q.lag == 2)
        message = "no permission to describe the topic"
        await watched.called("confirm", "topic t", "Forbidden", message)
        broker.topics["t"].error = 0
        queue = await six(watched)
        assert queue.problems == []
        broker.topics["t"].error = 29
        await unknown(watched, "Forbidden")


@pytest.mark.parametrize("where", ["coordinator", "offsets", "partition", "ends"])
async def test_a_missing_permission_is_reported_whichever_request_it_fails(
    broker: Scripted, watch: Any, where: str
) -> None:
    group = broker.groups["g"]
    if where == "coordinator":
        group.listed, group.coordinator_error = False, 30
        broker.groups["other"] = Group()
    elif where == "offsets":
        group.error = 30
    elif where == "partition":
        group.partition_error = 29
    else:
        log_of(broker).error = 29
    async with watch(broker.address, QUEUE) as watched:
        await unknown(watched, "Forbidden")
        group.listed = True
        group.coordinator_error = group.error = group.partition_error = log_of(broker).error = 0
        assert (await six(watched)).problems == []


async def test_a_missing_permission_ends_though_nothing_else_has_changed(
    broker: Scripted, watch: Any
) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.groups["g"].error = 30
        await unknown(watched, "Forbidden")
        broker.groups["g"].error = 0
        assert (await six(watched)).problems == []


async def test_tasks_of_a_topic_that_becomes_forbidden_are_hidden(
    broker: Scripted, watch: Any
) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        log_of(broker).error = 29
        assert (await unknown(watched, "Forbidden")).tasks == []


async def test_no_tasks_are_shown_while_the_position_is_unknown(
    broker: Scripted, watch: Any
) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.groups["g"].commits.clear()
        assert (await unknown(watched, "NoCommit")).tasks == []


@pytest.mark.parametrize("fault", ["no leader", "not served"])
async def test_the_last_values_stay_for_a_while(broker: Scripted, watch: Any, fault: str) -> None:
    async with watch(broker.address, QUEUE, hold=0.5) as watched:
        await six(watched)
        if fault == "no leader":
            log_of(broker).leader = -1
            broker.topics["t"].logs.append(Log())  # so that metadata are news at once
        else:
            log_of(broker).error = 5
        assert watched.queue("t").depth == 6
        queue = await unknown(watched, "Unreachable")
        assert [task.offset for task in queue.tasks] == [4, 5, 6, 7, 8, 9]
        log_of(broker).leader, log_of(broker).error = 1, 0
        await watched.queue_until("t", lambda q: q.depth == 6 and not q.problems)


async def test_queues_share_the_room_for_tasks(broker: Scripted, watch: Any) -> None:
    for number in range(110):
        log = Log(end=10, high=10, records=batch(0, *[b"{}"] * 10))
        broker.topics[f"t{number:03}"] = Topic(logs=[log])
        broker.groups["g"].commits[f"t{number:03}"] = {0: 0}
    async with watch(broker.address, {"topic": "t*"}, interval_seconds=0.2) as watched:
        await watched.until(
            lambda: (
                len(watched.output.parts) == 111
                and all(len(q.tasks) in (6, 10) for q in watched.output.parts.values())
            )
        )
        for number in range(110):
            broker.topics[f"t{number:03}"].logs[0].end = 40
            broker.topics[f"t{number:03}"].logs[0].records = batch(0, *[b"{}"] * 40)
        await watched.until(
            lambda: (
                all(q.depth in (6, 40) for q in watched.output.parts.values())
                and all(len(q.tasks) == min(q.depth, 18) for q in watched.output.parts.values())
            )
        )
        assert sum(len(q.tasks) for q in watched.output.parts.values()) <= 2000
        for number in range(109):
            broker.groups["g"].commits[f"t{number:03}"][0] = 40
        await watched.queue_until("t109", lambda q: len(q.tasks) == 20)
