"""Against a scripted broker: what real ones cannot be made to say within a moment."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from telemetron.clock import Clock
from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import BrokerConnection, connection_settings
from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.messages import Address
from telemetron_collectors.kafka.task import parse_tasks
from tests.collectors.kafka import scripted as script
from tests.collectors.kafka.conftest import QUICK, config_of
from tests.collectors.kafka.scripted import Group, Log, Scripted, Topic, batch, scripted

QUEUE = {"topic": "t", "groups": ["g"]}


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    """One topic of ten records, and a group that has done four."""
    async with scripted() as made:
        log = Log(end=10, high=10, records=batch(0, *[b"{}"] * 10))
        made.topics["t"] = Topic(logs=[log])
        made.groups["g"] = Group(commits={"t": {0: 4}})
        yield made


@pytest.fixture
async def leader(broker: Scripted) -> AsyncIterator[Scripted]:
    """A second broker, that leads the topic; the first one coordinates its group."""
    async with scripted() as second:
        second.topics = broker.topics
        broker.brokers = second.brokers = {1: broker.port, 2: second.port}
        log_of(broker).leader = 2
        yield second


def log_of(broker: Scripted) -> Log:
    return broker.topics["t"].logs[0]


def reasons(queue: Any) -> list[str]:
    return [problem.reason for problem in queue.problems]


async def six(watched: Any) -> Any:
    return await watched.queue_until("t", lambda q: q.depth == 6 and len(q.tasks) == 6)


async def unknown(watched: Any, reason: str) -> Any:
    queue = await watched.queue_until("t", lambda q: reasons(q) == [reason])
    assert (queue.depth, queue.lag, queue.depth_exact) == (None, None, None)
    return queue


async def test_a_topic_that_may_not_be_described(broker: Scripted, watch: Any) -> None:
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
async def test_a_denial_is_told_wherever_it_is_met(
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


async def test_a_denial_ends_though_nothing_else_has_changed(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.groups["g"].error = 30
        await unknown(watched, "Forbidden")
        broker.groups["g"].error = 0
        assert (await six(watched)).problems == []


async def test_tasks_of_what_may_not_be_described_any_more(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        log_of(broker).error = 29
        assert (await unknown(watched, "Forbidden")).tasks == []


async def test_a_coordinator_that_moves(broker: Scripted, watch: Any) -> None:
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
async def test_a_coordinator_that_does_not_serve_its_group(
    broker: Scripted, watch: Any, error: int
) -> None:
    async with watch(broker.address, QUEUE, hold=0.5) as watched:
        await watched.queue_until("t", lambda q: q.depth == 6 and q.group_state == "Stable")
        broker.groups["g"].error = error
        await broker.asked_for(script.COMMITS)
        assert (watched.queue("t").depth, watched.queue("t").problems) == (6, [])
        queue = await watched.queue_until("t", lambda q: q.problems and q.group_state is None)
        assert (queue.depth, queue.lag, queue.consumers, queue.members) == (None, None, None, [])
        assert reasons(queue) == ["Unreachable"]
        assert watched.troubles() == []
        broker.groups["g"].error = 0
        await watched.queue_until("t", lambda q: q.depth == 6 and q.group_state == "Stable")
        assert watched.queue("t").problems == []


async def test_a_coordinator_that_never_served_its_group(broker: Scripted, watch: Any) -> None:
    broker.groups["g"].error = 14
    async with watch(broker.address, QUEUE) as watched:
        await unknown(watched, "Unreachable")


async def test_a_group_that_may_be_described_no_more(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await watched.queue_until("t", lambda q: q.depth == 6 and q.consumers == 0)
        broker.groups["g"].error = 30
        queue = await watched.queue_until("t", lambda q: q.consumers is None)
        assert (queue.group_state, reasons(queue)) == (None, ["Forbidden"])


async def test_a_coordinator_that_cannot_be_looked_for(broker: Scripted, watch: Any) -> None:
    """As long as the source says that the cluster cannot be observed, the last known stays."""
    async with watch(broker.address, {**QUEUE, "topic": "t*"}, hold=0.5) as watched:
        known = await six(watched)
        broker.answers[script.METADATA] = b"garbage"
        await watched.output.called("trouble")
        broker.groups["g"].error = 16
        await asyncio.sleep(1)  # twice as long as anything else is held
        assert watched.queue("t") == known
        del broker.answers[script.METADATA]
        assert len((await unknown(watched, "Unreachable")).tasks) == 6
        broker.groups["g"].error = 0
        assert (await six(watched)).problems == []


async def test_no_task_is_shown_where_none_is_known_to_wait(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.groups["g"].commits.clear()
        assert (await unknown(watched, "NoCommit")).tasks == []


async def test_a_coordinator_that_is_answered_for_with_garbage(
    broker: Scripted, watch: Any
) -> None:
    broker.groups["g"].listed = False
    broker.groups["other"] = Group()
    broker.answers[script.COORDINATOR] = b""
    async with watch(broker.address, QUEUE) as watched:
        await unknown(watched, "BadAnswer")
        del broker.answers[script.COORDINATOR]
        assert (await six(watched)).problems == []


async def test_a_coordinator_that_nobody_knows(broker: Scripted, watch: Any) -> None:
    broker.groups["g"].listed = False
    broker.groups["g"].coordinator_error = 15
    broker.groups["other"] = Group()
    async with watch(broker.address, QUEUE) as watched:
        await unknown(watched, "Unreachable")
        broker.groups["g"].coordinator_error = 0
        broker.groups["g"].coordinator = 9  # none of the brokers
        await watched.queue_until("t", lambda q: "does not name" in q.problems[0].message)
        broker.groups["g"].coordinator = 1
        await six(watched)


async def test_a_leader_that_moves(broker: Scripted, watch: Any) -> None:
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


@pytest.mark.parametrize("fault", ["no leader", "not served"])
async def test_the_last_known_stands_for_a_while(broker: Scripted, watch: Any, fault: str) -> None:
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


async def test_an_end_that_comes_late_is_compared_with_older_commits(
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


async def test_a_backlog_is_never_shown_too_small_whoever_is_slow(
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


async def test_an_end_of_all_records_that_comes_late_makes_no_commit_astray(
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


async def test_an_end_that_comes_too_late_for_its_topic(
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


async def test_one_of_two_brokers_is_gone(broker: Scripted, watch: Any) -> None:
    async with scripted() as second:
        closed = second.port
    broker.brokers = {1: broker.port, 2: closed}
    broker.topics["t"].logs.append(Log(end=5, high=5, leader=2))
    broker.topics["other"] = Topic(logs=[Log(end=3, high=3)])
    broker.groups["g"].commits["other"] = {0: 1}
    queues = (QUEUE, {"topic": "other", "groups": ["g"], "max_tasks": 0})
    async with watch(broker.address, *queues, hold=0.5) as watched:
        queue = await unknown(watched, "Unreachable")
        assert f"127.0.0.1:{closed} refuses the connection" in queue.problems[0].message
        assert queue.problems[0].message.endswith("(partition 1)")
        await watched.queue_until("other", lambda q: q.depth == 2 and not q.problems)
        assert "broker 2" in [call[1] for call in watched.output.calls if call[0] == "trouble"]
        broker.topics["t"].logs[1].leader = 1
        await watched.queue_until("t", lambda q: reasons(q) == ["NoCommit"])
        broker.brokers = {1: broker.port}
        await watched.until(
            lambda: ("expect", ["", "broker 1", "topic other", "topic t"]) in watched.output.calls
        )


async def test_a_coordinator_that_falls_silent(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE, hold=1.2) as watched:
        await six(watched)
        broker.answers[script.COMMITS] = None
        trouble = await watched.output.called("trouble", 2)
        assert trouble[1:3] == ("broker 1", "Timeout")
        assert "did not answer within 1 s" in trouble[3]
        assert (watched.queue("t").depth, watched.queue("t").problems) == (6, [])
        del broker.answers[script.COMMITS]
        broker.groups["g"].commits["t"][0] = 9
        await watched.queue_until("t", lambda q: q.depth == 1 and not q.problems)


async def test_a_coordinator_that_was_never_heard(broker: Scripted, watch: Any) -> None:
    broker.answers[script.COMMITS] = None
    async with watch(broker.address, QUEUE) as watched:
        queue = await unknown(watched, "Timeout")
        assert "did not answer within 1 s" in queue.problems[0].message
        del broker.answers[script.COMMITS]
        assert (await six(watched)).problems == []


async def test_a_broker_that_only_coordinates(broker: Scripted, watch: Any) -> None:
    async with scripted() as second:
        second.groups = broker.groups
        second.topics = broker.topics
        broker.brokers = second.brokers = {1: broker.port, 2: second.port}
        broker.groups["g"].listed = False
        broker.groups["g"].coordinator = 2
        broker.groups["other"] = Group()
        async with watch(broker.address, QUEUE) as watched:
            await six(watched)
            await watched.called("confirm", "broker 2", None, "")
            second.answers[script.COMMITS] = None
            trouble = await watched.output.called("trouble")
            assert trouble[1:3] == ("broker 2", "Timeout")
            assert watched.queue("t").depth == 6


async def test_who_leads_and_coordinates_is_well_when_both_are(
    broker: Scripted, watch: Any
) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.answers[script.COMMITS] = None
        await watched.output.called("trouble", 2)
        calls = [call[0] for call in watched.output.calls if call[1] == "broker 1"]
        assert "confirm" not in calls[calls.index("trouble") :]


async def test_a_topic_made_anew_is_known_by_its_id(broker: Scripted, watch: Any) -> None:
    broker.topics["t"].logs.append(Log(end=2, high=2, records=batch(0, b"{}", b"{}")))
    broker.groups["g"].commits["t"][1] = 2
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.topics["t"] = Topic(id=2, logs=[Log(end=20, high=20, records=batch(0, b"{}"))])
        queue = await unknown(watched, "OffsetOutOfRange")
        assert queue.partitions == 1
        broker.groups["g"].commits["t"] = {0: 19}
        queue = await watched.queue_until("t", lambda q: q.lag == 1)
        assert queue.problems == []


async def test_the_same_commit_made_anew_on_a_topic_made_anew(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.topics["t"] = Topic(id=2, logs=[Log(end=20, high=20)])
        await unknown(watched, "OffsetOutOfRange")
        broker.groups["g"].commits["t"] = {}
        await unknown(watched, "NoCommit")
        broker.groups["g"].commits["t"] = {0: 4}
        await watched.queue_until("t", lambda q: q.lag == 16 and not q.problems)


async def test_a_log_that_shrinks(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.topics["t"].logs[0] = Log(end=6, high=6, records=batch(0, *[b'{"id":1}'] * 6))
        queue = await watched.queue_until("t", lambda q: len(q.tasks) == 2)
        assert (queue.depth, queue.tasks[0].id) == (2, "1")


async def test_records_that_come_too_late_for_their_log(broker: Scripted, watch: Any) -> None:
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


async def test_records_that_may_not_be_read(broker: Scripted, watch: Any) -> None:
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
            assert self.go_on.wait(10)
            return call()

        return super().submit(wait_and_call)


async def test_a_group_that_is_set_back_while_its_records_are_decoded(
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
async def test_records_that_cannot_be_read(
    broker: Scripted, watch: Any, records: bytes, message: str
) -> None:
    log_of(broker).records = records
    async with watch(broker.address, QUEUE) as watched:
        queue = await watched.queue_until("t", lambda q: q.problems)
        assert (queue.problems[0].reason, queue.lag) == ("BadAnswer", 6)
        assert message in queue.problems[0].message


@pytest.mark.parametrize("api", [script.FETCH, script.OFFSETS, script.COMMITS, script.METADATA])
async def test_a_broker_that_is_too_old(broker: Scripted, watch: Any, api: int) -> None:
    broker.versions[api] = (0, 1)
    async with watch(broker.address, QUEUE) as watched:

        def told() -> bool:
            queue = watched.queue("t")
            problems = [call[2:] for call in watched.output.calls if call[0] == "trouble"]
            problems += [(one.reason, one.message) for one in queue.problems] if queue else []
            return any(r == "BadAnswer" and "Kafka 2.3 or newer" in m for r, m in problems)

        await watched.until(told)
        queue = watched.queue("t")
        assert queue is None or queue.depth == (6 if api == script.FETCH else None)


async def test_a_broker_that_knows_no_types_of_groups(broker: Scripted, watch: Any) -> None:
    broker.versions[script.GROUPS] = (0, 4)
    async with watch(broker.address, QUEUE) as watched:
        queue = await six(watched)
        assert (queue.group_state, queue.consumers) == ("Stable", 0)


@pytest.mark.parametrize(
    "api", [script.METADATA, script.COMMITS, script.OFFSETS, script.FETCH, script.GROUPS]
)
async def test_answers_that_are_garbage(broker: Scripted, watch: Any, api: int) -> None:
    broker.answers[api] = b"\0" * 4 + b"\x7f" * 60
    async with watch(broker.address, QUEUE) as watched:
        if api == script.METADATA:
            await watched.until(lambda: watched.troubles())
            assert watched.troubles()[0][2] == "BadAnswer"
        elif api == script.COMMITS:
            await unknown(watched, "BadAnswer")
        elif api == script.OFFSETS:
            await watched.until(lambda: watched.troubles())
            assert watched.troubles()[0][1:3] == ("broker 1", "BadAnswer")
        elif api == script.FETCH:
            queue = await watched.queue_until("t", lambda q: q.problems)
            assert (queue.lag, reasons(queue)) == (6, ["BadAnswer"])
        else:
            await watched.queue_until("t", lambda q: True)
        broker.answers.clear()
        await watched.queue_until("t", lambda q: len(q.tasks) == 6 and not q.problems)


async def test_a_broker_that_hangs_up(broker: Scripted, watch: Any) -> None:
    broker.cut_off = True
    async with watch(broker.address, QUEUE) as watched:
        trouble = await watched.output.called("trouble")
        assert trouble[2] == "Unreachable"
        assert trouble[3].endswith("as if it were not a Kafka broker: does it expect TLS?")
        broker.cut_off = False
        await six(watched)


async def test_a_quota_is_heeded(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.throttle_ms = 400
        asked = len(broker.asked)
        await asyncio.sleep(1)  # what is measured is what is not asked in a time
        assert len(broker.asked) - asked < 30  # a hundred without it
        assert watched.troubles() == []


@pytest.mark.parametrize("kind", ["consumer", "share"])
async def test_groups_of_the_newer_kinds(broker: Scripted, watch: Any, kind: str) -> None:
    broker.groups["g"].type = kind
    broker.groups["g"].lag = 3
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.lag is not None and q.group_state)
        assert (queue.group_state, queue.consumers) == ("Stable", 0)
        if kind == "consumer":
            await six(watched)
        else:
            assert (queue.lag, queue.depth, queue.depth_exact, queue.tasks) == (3, 3, False, [])
            broker.versions[script.SHARE_OFFSETS] = (0, 0)  # without the lag: by offsets
            broker.groups["g"].commits["t"][0] = 5
            broker.cut_off = True
            await watched.until(lambda: watched.troubles())
            broker.cut_off = False
            await watched.queue_until("t", lambda q: q.lag == 5)


@pytest.mark.parametrize("kind", ["consumer", "share"])
async def test_a_group_of_a_newer_kind_that_is_gone(
    broker: Scripted, watch: Any, kind: str
) -> None:
    broker.groups["g"].type = kind
    async with watch(broker.address, QUEUE) as watched:
        await watched.queue_until("t", lambda q: q.group_state == "Stable")
        broker.groups["g"].describe_error = 69
        broker.groups["g"].listed = False
        queue = await watched.queue_until("t", lambda q: q.group_state == "Dead")
        assert (queue.consumers, queue.members) == (0, [])


async def test_more_queues_than_may_be_shown(broker: Scripted, watch: Any) -> None:
    for number in range(501):
        broker.topics[f"t{number:03}"] = Topic(logs=[Log(end=1, high=1)])
        broker.groups["g"].commits[f"t{number:03}"] = {0: 0}
    async with watch(broker.address, interval_seconds=0.2) as watched:
        await watched.until(lambda: len(watched.output.parts) == 500)
        limit = ("confirm", "", "LimitReached", "only the first 500 queues are shown")
        await watched.called(*limit)


async def test_many_queues_share_the_tasks_that_are_shown(broker: Scripted, watch: Any) -> None:
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


async def test_no_coordinator_is_asked_for_where_that_would_make_a_topic(
    broker: Scripted, watch: Any
) -> None:
    broker.groups.clear()
    async with watch(broker.address, {**QUEUE, "on_no_commit": "earliest"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.depth == 10)
        assert (queue.group_state, queue.consumers) == ("Dead", 0)
        assert script.COORDINATOR not in broker.asked
        broker.topics["__consumer_offsets"] = Topic()
        broker.groups["g"] = Group(commits={"t": {0: 4}}, listed=False)
        await watched.queue_until("t", lambda q: q.depth == 6)
        assert script.COORDINATOR in broker.asked


async def test_what_may_be_no_topic_of_coordinators_is_asked_for_again(
    broker: Scripted, watch: Any
) -> None:
    broker.topics["__consumer_offsets"] = Topic()
    broker.garbled = "__consumer_offsets"
    broker.groups["g"].listed = False
    async with watch(broker.address, {**QUEUE, "on_no_commit": "earliest"}) as watched:
        await broker.asked_for(script.GROUPS, 3)
        broker.garbled = ""
        await six(watched)
        assert 10 not in [call[4].depth for call in watched.output.calls if call[0] == "put"]


async def test_groups_that_are_not_told_are_still_there(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, {"topic": "t"}) as watched:
        await six(watched)
        broker.list_error = 14
        await broker.asked_for(script.GROUPS, 3)
        assert watched.queue("t").depth == 6
        broker.list_error = 0
        await broker.asked_for(script.GROUPS, 2)
        assert "remove" not in [call[0] for call in watched.output.calls]


async def test_a_topic_with_an_error_of_its_own(broker: Scripted, watch: Any) -> None:
    broker.topics["t"].error = 17
    async with watch(broker.address, QUEUE) as watched:
        message = "the brokers return error 17"
        await watched.called("confirm", "topic t", "BadAnswer", message)
        broker.topics["t"].error = 0
        await six(watched)
        await watched.called("confirm", "topic t", None, "")


async def test_more_groups_than_are_looked_at(broker: Scripted, watch: Any) -> None:
    broker.groups["other"] = Group()
    async with watch(
        broker.address, {"topic": "t"}, limits=replace(QUICK, max_groups=1)
    ) as watched:
        message = "only the first 1 groups are observed"
        await watched.called("confirm", "", "LimitReached", message)
        del broker.groups["other"]
        calls = len(watched.output.calls)
        await watched.until(lambda: ("confirm", "", None, "") in watched.output.calls[calls:])
        await six(watched)


# brokers that go


def after(watched: Any, *call: Any) -> list[Any]:
    """What was called after that was called last."""
    calls = watched.output.calls
    return list(calls[len(calls) - calls[::-1].index(call) :])


async def test_a_broker_that_leaves_while_it_is_connected_to(broker: Scripted, watch: Any) -> None:
    """What the attempt says in the end is nobody's trouble any more."""
    limits = replace(QUICK, request=0.4)
    async with scripted() as second, watch(broker.address, QUEUE, limits=limits) as watched:
        second.topics, second.groups = broker.topics, broker.groups
        broker.brokers = second.brokers = {1: broker.port, 2: second.port}
        broker.topics["t"].logs.append(Log(leader=2))
        await watched.called("confirm", "broker 2", None, "")
        second.answers = dict.fromkeys(script.ALL)  # it is frozen
        await watched.until(lambda: any(call[:2] == BROKER_2 for call in watched.output.calls))
        await second.asked_for(script.VERSIONS)
        broker.topics["t"].logs[1].leader = 1
        broker.brokers = {1: broker.port}
        gone = ("expect", ["", "broker 1", "topic t"])
        await watched.called(*gone)
        await asyncio.sleep(limits.request + 0.2)
        assert [call for call in after(watched, *gone) if "broker 2" in call] == []


BROKER_2 = ("trouble", "broker 2")


async def test_a_coordinator_that_answers_after_it_has_handed_over(
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


async def test_a_connection_that_is_made_after_all_is_closed(broker: Scripted) -> None:
    gate = broker.gates[script.VERSIONS] = asyncio.Event()
    settings = await connection_settings(config_of(bootstrap_servers=[broker.address]))
    link = BrokerConnection(Address("127.0.0.1", broker.port), settings, Clock())
    call = asyncio.create_task(link.call(messages.list_groups()))
    await broker.asked_for(script.VERSIONS)
    await link.close()
    gate.set()
    with pytest.raises(TroubleError):
        await call
    await broker.ended.wait()


class Pace(asyncio.Event):
    """A gate that opens for each answer after a moment."""

    async def wait(self) -> Any:
        await asyncio.sleep(0.005)


async def test_many_groups_on_one_connection(broker: Scripted, watch: Any) -> None:
    """All offsets together take longer than one may take; none is given up."""
    for number in range(200):
        broker.groups[f"x{number}"] = Group(commits={"u": {0: 0}})
    broker.gates[script.COMMITS] = Pace()
    limits = replace(QUICK, request=0.8)
    async with watch(broker.address, {"topic": "t"}, limits=limits) as watched:
        await six(watched)
        await broker.asked_for(script.COMMITS, 400)
        assert watched.queue("t").depth == 6
        assert watched.troubles() == []


async def test_a_leader_that_is_named_before_its_broker_is(broker: Scripted, watch: Any) -> None:
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


# ends that cannot be told


async def test_a_leader_that_cannot_tell_its_end(broker: Scripted, watch: Any) -> None:
    log_of(broker).latest_error = 5
    async with watch(broker.address, QUEUE, hold=0.5) as watched:
        await unknown(watched, "Unreachable")
        log_of(broker).latest_error = 0
        assert (await six(watched)).problems == []


async def test_a_new_leader_that_cannot_tell_its_end(
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


# topics made anew


ANEW = Log(end=20, high=20, records=batch(0, *[b"{}"] * 20))


@pytest.mark.parametrize("discovery", [0.3, 3.0])
async def test_a_topic_of_a_pattern_is_made_anew(
    broker: Scripted, watch: Any, discovery: float
) -> None:
    """Either the metadata of known topics or the search for topics notices it first."""
    limits, queue = replace(QUICK, discovery=discovery), {**QUEUE, "topic": "t*"}
    async with watch(broker.address, queue, limits=limits, interval_seconds=0.1) as watched:
        await six(watched)
        del broker.topics["t"]
        await watched.called("remove", "queues", "t/g")
        broker.topics["t"] = Topic(id=2, logs=[ANEW])
        await unknown(watched, "OffsetOutOfRange")


async def test_a_topic_and_its_commits_go_and_an_old_commit_comes_back(
    broker: Scripted, watch: Any
) -> None:
    broker.topics["other"] = Topic()
    broker.groups["g"].commits["other"] = {0: 0}
    async with watch(broker.address, {"topic": "*"}) as watched:
        await six(watched)
        del broker.topics["t"], broker.groups["g"].commits["t"]
        await watched.called("remove", "queues", "t/g")
        broker.topics["t"] = Topic(id=2, logs=[ANEW])
        broker.groups["g"].commits["t"] = {0: 4}
        await unknown(watched, "OffsetOutOfRange")


async def test_a_topic_is_made_anew_while_its_group_works(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE, limits=replace(QUICK, refresh=0.5)) as watched:
        await six(watched)
        await broker.asked_for(script.METADATA)
        broker.groups["g"].commits["t"][0] = 5
        await watched.queue_until("t", lambda q: q.lag == 5)
        broker.topics["t"] = Topic(id=2, logs=[ANEW])
        await unknown(watched, "OffsetOutOfRange")
        broker.groups["g"].commits["t"][0] = 15
        await watched.queue_until("t", lambda q: q.lag == 5 and not q.problems)


async def test_one_answer_that_lacks_a_topic(broker: Scripted, watch: Any) -> None:
    """As of a broker that was just started and does not know all of them yet."""
    async with watch(broker.address, {**QUEUE, "topic": "t*"}) as watched:
        await six(watched)
        broker.forgetful = True
        await watched.until(lambda: not broker.forgetful)
        await broker.asked_for(script.METADATA, 4)
        assert ("remove", "queues", "t/g") not in watched.output.calls


# records that cannot be decoded


async def test_records_that_cannot_be_decoded_are_the_trouble_of_who_waits_for_them(
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


# without permission


@pytest.mark.parametrize("what", ["group", "records"])
async def test_tasks_of_what_may_not_be_read_any_more(
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
