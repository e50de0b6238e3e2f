"""The search for one task, against an embedded broker, and against one that hangs."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from telemetron.search import QueueRecord, SearchResult, TaskQuery
from tests.collectors.kafka.conftest import QUICK, Broker, watching
from tests.collectors.kafka.scripted import FETCH, ten_records


def tasks(first: int, count: int) -> list[bytes]:
    return [b'{"id":"task-%d"}' % number for number in range(first, first + count)]


def entry(topic: str, **more: Any) -> dict[str, Any]:
    return {"topic": topic, "groups": ["g"], "max_tasks": 2, **more}


async def search(watched: Any, id: str, look: int = 100, **more: Any) -> SearchResult:
    """Search once the queue is known."""
    found: SearchResult = await watched.output.search(TaskQuery(id=id, look=look, **more))
    return found


@pytest.fixture
def waiting(broker: Broker, topic: str) -> str:
    """A topic with 40 records, of which the group has committed 10."""
    broker.create(topic)
    broker.produce(topic, *tasks(0, 40))
    broker.commit(topic, "g", 10)
    return topic


async def test_an_id_beyond_the_shown_tasks_is_found(broker: Broker, waiting: str) -> None:
    async with watching(broker.address, entry(waiting)) as watched:
        await watched.queue_until(waiting, lambda queue: queue.lag == 30 and queue.tasks)
        found = await search(watched, "task-35")
    (one,) = found.sightings
    assert (one.queue, one.consumer_group, one.partition, one.offset) == (waiting, "g", 0, 35)
    assert (one.status, one.ahead, one.ahead_exact) == ("pending", 25, False)
    assert one.task is not None
    assert one.task.id == "task-35"
    (span,) = found.searched
    assert (span.first, span.next, span.end, span.why) == (10, 40, 40, None)
    assert found.unchecked == []


async def test_an_id_beyond_the_look_is_not_found(broker: Broker, waiting: str) -> None:
    async with watching(broker.address, entry(waiting)) as watched:
        await watched.queue_until(waiting, lambda queue: queue.lag == 30)
        found = await search(watched, "task-35", look=7)
    assert found.sightings == []
    (span,) = found.searched
    assert (span.first, span.next, span.end, span.why) == (10, 17, 40, "the look ended")


async def test_every_record_with_the_id_is_found(broker: Broker, waiting: str) -> None:
    broker.produce(waiting, b'{"id":"task-20"}')
    async with watching(broker.address, entry(waiting)) as watched:
        await watched.queue_until(waiting, lambda queue: queue.lag == 31)
        found = await search(watched, "task-20")
    assert [one.offset for one in found.sightings] == [20, 40]


@pytest.mark.parametrize(
    ("offset", "status", "ahead"),
    [(3, "consumed", None), (10, "pending", 0), (11, "pending", 1), (39, "pending", 29)],
)
async def test_a_record_is_looked_at_exactly(
    broker: Broker, waiting: str, offset: int, status: str, ahead: int | None
) -> None:
    async with watching(broker.address, entry(waiting)) as watched:
        await watched.queue_until(waiting, lambda queue: queue.lag == 30 and queue.tasks)
        record = QueueRecord(waiting, 0, offset)
        found = await search(watched, "x", look=0, records=(record,))
    (one,) = found.sightings
    assert (one.status, one.ahead) == (status, ahead)
    assert one.task is not None
    assert one.task.id == f"task-{offset}"
    assert found.searched == []


@pytest.mark.parametrize(("partition", "offset"), [(0, 40), (0, 10**17), (1, 0), (10**8, 0)])
async def test_a_record_that_does_not_exist(
    broker: Broker, waiting: str, partition: int, offset: int
) -> None:
    async with watching(broker.address, entry(waiting)) as watched:
        await watched.queue_until(waiting, lambda queue: queue.lag == 30)
        record = QueueRecord(waiting, partition, offset)
        found = await search(watched, "x", look=0, records=(record,))
        none = await search(watched, "x", look=0, records=(QueueRecord("nope", 0, 0),))
    assert [one.status for one in found.sightings] == (["absent"] if partition == 0 else [])
    assert none == SearchResult()


async def test_deleted_aborted_and_open_records_are_absent(broker: Broker, topic: str) -> None:
    broker.create(topic)
    broker.produce(topic, *tasks(0, 4))
    broker.transaction(topic, *tasks(4, 2), commit=False)  # and a marker at 6
    broker.produce(topic, *tasks(7, 2))
    broker.commit(topic, "g", 0)
    broker.truncate(topic, 2)
    producer = broker.transaction(topic, *tasks(9, 1), commit=None)
    async with watching(broker.address, entry(topic)) as watched:
        await watched.queue_until(topic, lambda queue: queue.lag == 7)
        records = tuple(QueueRecord(topic, 0, offset) for offset in (1, 3, 4, 6, 8, 9))
        found = await search(watched, "task-8", records=records)
        aborted = await search(watched, "task-4")
    del producer
    assert [one.status for one in found.sightings][:6] == [
        "absent",
        "pending",
        "absent",
        "absent",
        "pending",
        "absent",
    ]
    assert found.sightings[6].offset == 8
    assert aborted.sightings == []
    assert [span.why for span in aborted.searched] == [None]


async def test_records_that_only_are_counted_are_not_read(broker: Broker, waiting: str) -> None:
    async with watching(broker.address, entry(waiting, max_tasks=0)) as watched:
        await watched.queue_until(waiting, lambda queue: queue.lag == 30)
        record = QueueRecord(waiting, 0, 12)
        found = await search(watched, "task-12", records=(record,))
    (one,) = found.sightings
    assert (one.status, one.ahead, one.task) == ("pending", 2, None)
    assert one.why is not None
    assert "max_tasks" in one.why
    assert found.searched == []
    assert found.unchecked == [f"queue {waiting}: {one.why}"]


async def test_the_look_is_shared_by_partitions_the_shortest_first(
    broker: Broker, topic: str
) -> None:
    broker.create(topic, partitions=2)
    broker.produce(topic, *tasks(0, 30))
    broker.produce(topic, *tasks(100, 4), partition=1)
    broker.commit(topic, "g", 0)
    broker.commit(topic, "g", 0, partition=1)
    async with watching(broker.address, entry(topic)) as watched:
        await watched.queue_until(topic, lambda queue: queue.lag == 34)
        found = await search(watched, "none", look=20)
    assert {(one.partition, one.next) for one in found.searched} == {(1, 4), (0, 16)}


async def test_a_header_and_a_configured_place_are_the_id(broker: Broker, topic: str) -> None:
    broker.create(topic)
    broker.produce(topic, b"no json", headers={"telemetron-task-id": b"by-header"})
    broker.produce(topic, b'{"a":{"b":7}}')
    broker.commit(topic, "g", 0)
    async with watching(broker.address, entry(topic, fields={"id": "/a/b"})) as watched:
        await watched.queue_until(topic, lambda queue: queue.lag == 2)
        by_header = await search(watched, "by-header")
        by_place = await search(watched, "7")
    assert [one.offset for one in by_header.sightings] == [0]
    assert [one.offset for one in by_place.sightings] == [1]


async def test_a_search_commits_nothing_and_joins_no_group(broker: Broker, waiting: str) -> None:
    async with watching(broker.address, entry(waiting)) as watched:
        await watched.queue_until(waiting, lambda queue: queue.lag == 30)
        await search(watched, "task-39")
        queue = await watched.queue_until(waiting, lambda queue: queue.consumers is not None)
    assert (queue.lag, queue.consumers, queue.members) == (30, 0, [])


async def test_a_broker_that_hangs_ends_the_search_in_time() -> None:
    async with ten_records() as broker:
        patient = replace(QUICK, request=30.0)
        async with watching(broker.address, entry("t"), limits=patient) as watched:
            await watched.queue_until("t", lambda queue: queue.lag == 6 and queue.tasks)
            broker.gates[FETCH] = asyncio.Event()
            began = time.monotonic()
            record = QueueRecord("t", 0, 7)
            found = await search(watched, "x", records=(record,), seconds=0.3)
            assert time.monotonic() - began < 25
            broker.gates[FETCH].set()
    (one,) = found.sightings
    assert (one.status, one.task, one.why) == ("pending", None, "the time was up")
    assert [(span.next, span.why) for span in found.searched] == [(4, "the time was up")]


async def test_a_broker_that_is_gone_is_the_reason(own_broker: Broker, topic: str) -> None:
    own_broker.create(topic)
    own_broker.produce(topic, *tasks(0, 6))
    own_broker.commit(topic, "g", 0)
    async with watching(own_broker.address, entry(topic)) as watched:
        await watched.queue_until(topic, lambda queue: queue.lag == 6)
        await asyncio.to_thread(own_broker.stop)
        found = await search(watched, "task-5", seconds=5.0)
    (span,) = found.searched
    assert span.next == 0
    assert "refuses the connection" in str(span.why)
