"""Tasks that are no longer there, and logs in which nothing is."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.collectors.kafka.scripted import Group, Log, Scripted, Topic, batch, scripted

QUEUE = {"topic": "t", "groups": ["g"]}


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    async with scripted() as made:
        made.groups["g"] = Group(commits={"t": {0: 0, 1: 0}})
        yield made


async def test_a_log_of_which_all_is_compacted_away_holds_no_task(
    broker: Scripted, watch: Any
) -> None:
    """The broker answers without records; only if it is asked for one log does that say so."""
    broker.topics["t"] = Topic(logs=[Log(end=4, high=4), Log(end=9, high=9)])
    async with watch(broker.address, QUEUE) as watched:
        queue = await watched.queue_until("t", lambda q: q.depth_exact)
        assert (queue.depth, queue.lag, queue.tasks, queue.problems) == (0, 13, [], [])


async def test_records_that_a_quota_holds_back_are_not_gone(broker: Scripted, watch: Any) -> None:
    log = Log(end=3, high=3)
    broker.topics["t"], broker.throttle_ms = Topic(logs=[log]), 20
    async with watch(broker.address, QUEUE) as watched:
        await broker.asked_for(1, 2)
        assert (watched.queue("t").depth, watched.queue("t").depth_exact) == (3, False)
        log.records = batch(0, b"{}", b"{}", b"{}")
        await watched.queue_until("t", lambda q: len(q.tasks) == 3 and q.depth_exact)


async def test_tasks_that_are_compacted_away_while_they_wait_go(
    broker: Scripted, watch: Any
) -> None:
    keyed = [batch(n, b"{}", key=b"k") for n in range(5)]
    log = Log(end=5, high=5, records=keyed[0] + keyed[2] + keyed[3] + keyed[4])
    broker.topics["t"] = Topic(logs=[log])
    async with watch(broker.address, QUEUE) as watched:
        queue = await watched.queue_until("t", lambda q: q.depth_exact)
        assert [task.offset for task in queue.tasks] == [0, 2, 3, 4]
        log.records = keyed[3] + keyed[4]
        queue = await watched.queue_until("t", lambda q: q.depth == 2)
        assert [task.offset for task in queue.tasks] == [3, 4]
        assert (queue.depth_exact, queue.lag, queue.problems) == (True, 5, [])
