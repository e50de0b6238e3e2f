"""Records that are late, compacted, forbidden or undecodable."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from telemetron_collectors.kafka.task import parse_tasks
from tests.collectors.kafka import scripted as script
from tests.collectors.kafka.conftest import QUEUE, reasons, six
from tests.collectors.kafka.scripted import (
    Group,
    Log,
    Scripted,
    Topic,
    batch,
    log_of,
    ten_records,
)


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    async with ten_records() as made:
        yield made


@pytest.fixture
def unread(broker: Scripted) -> Scripted:
    """A group that has consumed no record."""
    broker.groups["g"] = Group(commits={"t": {0: 0, 1: 0}})
    return broker


async def test_a_completely_compacted_log_has_no_tasks(unread: Scripted, watch: Any) -> None:
    """The broker answers without records; only if it is asked for one log does that say so."""
    unread.topics["t"] = Topic(logs=[Log(end=4, high=4), Log(end=9, high=9)])
    async with watch(unread.address, QUEUE) as watched:
        queue = await watched.queue_until("t", lambda q: q.depth_exact)
        assert (queue.depth, queue.lag, queue.tasks, queue.problems) == (0, 13, [], [])


async def test_records_that_a_quota_delays_are_not_compacted(unread: Scripted, watch: Any) -> None:
    log = Log(end=3, high=3)
    unread.topics["t"], unread.throttle_ms = Topic(logs=[log]), 20
    async with watch(unread.address, QUEUE) as watched:
        await unread.asked_for(1, 2)
        assert (watched.queue("t").depth, watched.queue("t").depth_exact) == (3, False)
        log.records = batch(0, b"{}", b"{}", b"{}")
        await watched.queue_until("t", lambda q: len(q.tasks) == 3 and q.depth_exact)


async def test_pending_tasks_that_are_compacted_away_are_dropped(
    unread: Scripted, watch: Any
) -> None:
    keyed = [batch(n, b"{}", key=b"k") for n in range(5)]
    log = Log(end=5, high=5, records=keyed[0] + keyed[2] + keyed[3] + keyed[4])
    unread.topics["t"] = Topic(logs=[log])
    async with watch(unread.address, QUEUE) as watched:
        queue = await watched.queue_until("t", lambda q: q.depth_exact)
        assert [task.offset for task in queue.tasks] == [0, 2, 3, 4]
        log.records = keyed[3] + keyed[4]
        queue = await watched.queue_until("t", lambda q: q.depth == 2)
        assert [task.offset for task in queue.tasks] == [3, 4]
        assert (queue.depth_exact, queue.lag, queue.problems) == (True, 5, [])


async def test_late_records_of_a_truncated_log_are_ignored(broker: Scripted, watch: Any) -> None:
    fetch = broker.gates[script.FETCH] = asyncio.Event()
    async with watch(broker.address, QUEUE) as watched:
        await watched.queue_until("t", lambda q: q.lag == 6)
        while script.FETCH not in broker.asked:
            await broker.asked_for(script.COMMITS)
        broker.topics["t"].logs[0] = Log(end=6, high=6, records=batch(0, *[b'{"id":1}'] * 6))
        await watched.queue_until("t", lambda q: q.lag == 2)
        fetch.set()
        queue = await watched.queue_until("t", lambda q: q.tasks)
        assert [task.id for task in queue.tasks] == ["1", "1"]
        assert queue.depth == 2


async def test_forbidden_records_are_a_problem_until_none_is_pending(
    broker: Scripted, watch: Any
) -> None:
    log_of(broker).fetch_error = 29
    async with watch(broker.address, QUEUE) as watched:
        queue = await watched.queue_until("t", lambda q: q.problems)
        message = "tasks are not shown: no permission to read the topic (partition 0)"
        assert (queue.problems[0].reason, queue.problems[0].message) == ("Forbidden", message)
        assert (queue.depth, queue.depth_exact, queue.lag) == (6, False, 6)
        assert (queue.tasks, queue.oldest_submitted_at) == ([], None)
        broker.groups["g"].commits["t"][0] = 10
        queue = await watched.queue_until("t", lambda q: q.depth == 0 and not q.problems)
        assert queue.depth_exact is True


class SlowDecoding(ThreadPoolExecutor):
    """Threads that decode tasks only after `go_on` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def submit(self, call: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        if parse_tasks not in getattr(call, "args", ()):
            return super().submit(call, *arguments, **options)

        def wait_and_call() -> Any:
            self.begun.set()
            assert self.go_on.wait(30)
            return call()

        return super().submit(wait_and_call)


async def test_a_group_may_be_set_back_while_its_records_are_decoded(
    broker: Scripted, watch: Any
) -> None:
    log_of(broker).records = batch(0, *[b'"%s"' % (b"x" * 9000)] * 10)
    threads = SlowDecoding()
    asyncio.get_running_loop().set_default_executor(threads)
    async with watch(broker.address, QUEUE) as watched:
        await asyncio.to_thread(threads.begun.wait, 10)
        broker.groups["g"].commits["t"][0] = 2
        await watched.queue_until("t", lambda q: q.lag == 8)
        threads.go_on.set()
        queue = await watched.queue_until("t", lambda q: q.tasks)
        assert [task.offset for task in queue.tasks] == list(range(2, 10))
        assert queue.depth == 8


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (batch(4, b"{}")[:-3] + b"\xff\xff\xff", "cannot be decoded"),
        (
            bytes([*batch(4, b"{}")[:22], 7, *batch(4, b"{}")[23:]]),
            "the compression of the records is not supported",
        ),
    ],
)
async def test_undecodable_records_are_a_problem(
    broker: Scripted, watch: Any, records: bytes, message: str
) -> None:
    log_of(broker).records = records
    async with watch(broker.address, QUEUE) as watched:
        queue = await watched.queue_until("t", lambda q: q.problems)
        assert (queue.problems[0].reason, queue.lag) == ("BadAnswer", 6)
        assert message in queue.problems[0].message


async def test_undecodable_records_are_a_problem_only_of_groups_that_need_them(
    broker: Scripted, watch: Any
) -> None:
    broken = batch(4, b"{}")[:-3] + b"\xff\xff\xff"
    parts = [batch(0, *[b"{}"] * 4), broken, batch(5, *[b"{}"] * 5)]
    log_of(broker).records = lambda at: b"".join(parts[(at >= 4) + (at >= 5) :])
    broker.groups["g"].commits["t"][0] = 5
    broker.groups["behind"] = Group(commits={"t": {0: 0}})
    async with watch(broker.address, {"topic": "t", "groups": ["g", "behind"]}) as watched:
        behind = await watched.queue_until("t", lambda q: len(q.tasks) == 4, "behind")
        ahead = await watched.queue_until("t", lambda q: len(q.tasks) == 5)
        behind = await watched.queue_until("t", lambda q: q.problems, "behind")
        assert (reasons(behind), behind.depth, len(behind.tasks)) == (["BadAnswer"], 10, 4)
        assert (ahead.problems, ahead.depth, ahead.depth_exact) == ([], 5, True)
        broker.groups["behind"].commits["t"][0] = 5
        await watched.queue_until("t", lambda q: len(q.tasks) == 5 and not q.problems, "behind")


@pytest.mark.parametrize("what", ["group", "records"])
async def test_tasks_are_hidden_once_they_are_forbidden(
    broker: Scripted, watch: Any, what: str
) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        if what == "group":
            broker.groups["g"].error = 30
        else:
            log_of(broker).fetch_error = 29
            log_of(broker).end = log_of(broker).high = 12
        queue = await watched.queue_until("t", lambda q: reasons(q) == ["Forbidden"])
        assert queue.tasks == []
