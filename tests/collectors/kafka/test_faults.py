"""Faults on a scripted broker that a real one does not show on demand."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from telemetron.clock import Clock
from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import BrokerConnection, connection_settings
from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.messages import Address
from tests.collectors.kafka import scripted as script
from tests.collectors.kafka.conftest import (
    IMPATIENT,
    QUEUE,
    QUICK,
    config_of,
    reasons,
    six,
    unknown,
)
from tests.collectors.kafka.scripted import (
    Group,
    Log,
    Scripted,
    Topic,
    batch,
    recreated,
    scripted,
    ten_records,
)


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    async with ten_records() as made:
        yield made


async def test_the_last_values_stay_while_no_coordinator_can_be_found(
    broker: Scripted, watch: Any
) -> None:
    """As long as the source says that the cluster cannot be observed, the last known stays."""
    async with watch(broker.address, {**QUEUE, "topic": "t*"}, hold=0.5) as watched:
        known = await six(watched)
        broker.answers[script.METADATA] = bytes(4) + b"garbage"
        await watched.output.called("trouble")
        broker.groups["g"].error = 16
        await asyncio.sleep(1)  # twice as long as anything else is held
        assert watched.queue("t") == known
        del broker.answers[script.METADATA]
        assert len((await unknown(watched, "Unreachable")).tasks) == 6
        broker.groups["g"].error = 0
        assert (await six(watched)).problems == []


async def test_partitions_of_a_closed_broker_are_unreachable(broker: Scripted, watch: Any) -> None:
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


async def test_the_last_offsets_stay_while_a_coordinator_is_silent(
    broker: Scripted, watch: Any
) -> None:
    async with watch(broker.address, QUEUE, hold=0.9, limits=IMPATIENT) as watched:
        await six(watched)
        broker.answers[script.COMMITS] = None
        trouble = await watched.output.called("trouble", 2)
        assert trouble[1:3] == ("broker 1", "Timeout")
        assert "did not answer within 0.5 s" in trouble[3]
        assert (watched.queue("t").depth, watched.queue("t").problems) == (6, [])
        del broker.answers[script.COMMITS]
        broker.groups["g"].commits["t"][0] = 9
        await watched.queue_until("t", lambda q: q.depth == 1 and not q.problems)


async def test_a_coordinator_that_never_answered_is_a_timeout(broker: Scripted, watch: Any) -> None:
    broker.answers[script.COMMITS] = None
    async with watch(broker.address, QUEUE, limits=IMPATIENT) as watched:
        queue = await unknown(watched, "Timeout")
        assert "did not answer within 0.5 s" in queue.problems[0].message
        del broker.answers[script.COMMITS]
        assert (await six(watched)).problems == []


async def test_a_broker_that_leads_no_partition_has_a_scope(broker: Scripted, watch: Any) -> None:
    async with scripted() as second:
        second.groups = broker.groups
        second.topics = broker.topics
        broker.brokers = second.brokers = {1: broker.port, 2: second.port}
        broker.groups["g"].listed = False
        broker.groups["g"].coordinator = 2
        broker.groups["other"] = Group()
        async with watch(broker.address, QUEUE, limits=IMPATIENT) as watched:
            await six(watched)
            await watched.called("confirm", "broker 2", None, "")
            second.answers[script.COMMITS] = None
            trouble = await watched.output.called("trouble")
            assert trouble[1:3] == ("broker 2", "Timeout")
            assert watched.queue("t").depth == 6


async def test_a_recreated_topic_is_known_by_its_id(broker: Scripted, watch: Any) -> None:
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


async def test_an_equal_commit_after_a_recreation_counts_once_it_was_deleted(
    broker: Scripted, watch: Any
) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.topics["t"] = Topic(id=2, logs=[Log(end=20, high=20)])
        await unknown(watched, "OffsetOutOfRange")
        broker.groups["g"].commits["t"] = {}
        await unknown(watched, "NoCommit")
        broker.groups["g"].commits["t"] = {0: 4}
        await watched.queue_until("t", lambda q: q.lag == 16 and not q.problems)


@pytest.mark.parametrize("api", [script.FETCH, script.OFFSETS, script.COMMITS, script.METADATA])
async def test_a_broker_that_is_too_old_is_reported(broker: Scripted, watch: Any, api: int) -> None:
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


@pytest.mark.parametrize(
    "api", [script.METADATA, script.COMMITS, script.OFFSETS, script.FETCH, script.GROUPS]
)
async def test_malformed_responses_are_reported_until_they_end(
    broker: Scripted, watch: Any, api: int
) -> None:
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


async def test_a_broker_that_closes_connections_is_unreachable(
    broker: Scripted, watch: Any
) -> None:
    broker.cut_off = True
    async with watch(broker.address, QUEUE) as watched:
        trouble = await watched.output.called("trouble")
        assert trouble[2] == "Unreachable"
        assert trouble[3].endswith("as if it were not a Kafka broker: does it expect TLS?")
        broker.cut_off = False
        await six(watched)


async def test_requests_wait_for_a_quota(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE) as watched:
        await six(watched)
        broker.throttle_ms = 400
        asked = len(broker.asked)
        await asyncio.sleep(1)  # what is measured is what is not asked in a time
        assert len(broker.asked) - asked < 30  # a hundred without it
        assert watched.troubles() == []


# brokers that go


async def test_a_connection_that_opens_after_close_is_closed(broker: Scripted) -> None:
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


# ends that cannot be told


# topics made anew


async def test_an_old_commit_that_returns_does_not_count_for_a_recreated_topic(
    broker: Scripted, watch: Any
) -> None:
    broker.topics["other"] = Topic()
    broker.groups["g"].commits["other"] = {0: 0}
    async with watch(broker.address, {"topic": "*"}) as watched:
        await six(watched)
        del broker.topics["t"], broker.groups["g"].commits["t"]
        await watched.called("remove", "queues", "t/g")
        broker.topics["t"] = recreated()
        broker.groups["g"].commits["t"] = {0: 4}
        await unknown(watched, "OffsetOutOfRange")


async def test_a_topic_is_recreated_while_its_group_commits(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, QUEUE, limits=replace(QUICK, refresh=0.5)) as watched:
        await six(watched)
        await broker.asked_for(script.METADATA)
        broker.groups["g"].commits["t"][0] = 5
        await watched.queue_until("t", lambda q: q.lag == 5)
        broker.topics["t"] = recreated()
        await unknown(watched, "OffsetOutOfRange")
        broker.groups["g"].commits["t"][0] = 15
        await watched.queue_until("t", lambda q: q.lag == 5 and not q.problems)


# records that cannot be decoded


# without permission
