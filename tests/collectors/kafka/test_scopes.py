"""Trouble with brokers: reported once, explained, and ended."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from telemetron.poll import TroubleError
from telemetron.testing import FakeClock, RecordingOutput
from telemetron_collectors.kafka.brokers import Brokers, ConnectionSettings
from telemetron_collectors.kafka.protocol.messages import Address
from telemetron_collectors.kafka.protocol.wire import UnsupportedError
from telemetron_collectors.kafka.scopes import Scopes
from tests.collectors.kafka import scripted as script
from tests.collectors.kafka.conftest import IMPATIENT, QUEUE, QUICK, after, reasons, six
from tests.collectors.kafka.scripted import (
    Log,
    Scripted,
    Topic,
    scripted,
    two_topics,
)
from tests.ports import free_port

BROKER_2 = ("trouble", "broker 2")


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    async with two_topics() as made:
        yield made


@pytest.fixture
def closed() -> str:
    return f"127.0.0.1:{free_port()}"


def advertise(broker: Scripted, closed: str, *, also: bool = False) -> None:
    port = int(closed.rpartition(":")[2])
    broker.brokers = {1: broker.port, 2: port} if also else {1: port}


@pytest.mark.parametrize("queues", [[], [{"topic": "t*"}], [{"topic": "t"}]])
async def test_trouble_names_an_advertised_address_that_is_closed(
    broker: Scripted, watch: Any, closed: str, queues: list[Any]
) -> None:
    advertise(broker, closed)
    async with watch(broker.address, *queues) as watched:
        said = f"{closed} refuses the connection: closed port (broker 1 advertises this address)"
        await watched.called("trouble", "broker 1", "Unreachable", said)
        await broker.asked_for(script.METADATA, 3)
        assert ("confirm", "broker 1", None, "") not in watched.output.calls
        if queues == [{"topic": "t"}]:
            queue = await watched.queue_until("t", lambda q: q.problems, group=None)
            assert (reasons(queue), queue.consumers, queue.depth) == (["Unreachable"], None, None)
            assert closed in queue.problems[0].message
        else:
            assert watched.output.parts == {}
        broker.brokers = {}
        queue = await watched.queue_until("t", lambda q: q.depth == 6)
        assert queue.problems == []


async def test_an_unreachable_broker_may_coordinate_any_group(
    broker: Scripted, watch: Any, closed: str
) -> None:
    """It may coordinate any group: no topic is said to have none."""
    advertise(broker, closed, also=True)
    broker.topics["new"] = Topic(id=3, logs=[Log(end=5, high=5)])
    async with watch(broker.address) as watched:
        await watched.queue_until("t", lambda q: q.depth == 6)
        await watched.until(lambda: any(call[:2] == BROKER_2 for call in watched.output.calls))
        await broker.asked_for(script.GROUPS, 2)
        assert watched.queue("new", None) is None
        assert ("expect", ["", "broker 1", "broker 2"]) in watched.output.calls
        broker.brokers = {1: broker.port}
        await watched.queue_until("new", lambda q: reasons(q) == ["NoCommit"], group=None)


@pytest.mark.parametrize("api", [script.COMMITS, script.OFFSETS, script.DESCRIBE])
async def test_the_last_values_stay_while_the_source_reports_an_outage(
    broker: Scripted, watch: Any, api: int
) -> None:
    broker.groups["g"].members = {"one": {"t": [0]}}
    async with watch(
        broker.address, {"topic": "t"}, {"topic": "other"}, hold=0.8, limits=IMPATIENT
    ) as watched:
        known = await watched.queue_until("t", lambda q: len(q.tasks) == 6 and q.consumers == 1)
        await watched.queue_until("other", lambda q: True, group=None)
        broker.answers = {api: None, script.FETCH: None}
        await watched.output.called("trouble")
        await asyncio.sleep(0.7)  # longer than any other value stays
        assert watched.queue("t") == known
        assert watched.queue("other", None).problems == []
        assert {call[1] for call in watched.output.calls if call[0] == "trouble"} == {"broker 1"}
        broker.answers.clear()
        broker.groups["g"].commits["t"][0] = 5
        await watched.queue_until("t", lambda q: q.depth == 5 and q.consumers == 1)


async def test_the_last_values_stay_while_the_whole_cluster_is_out_of_reach(
    broker: Scripted, watch: Any
) -> None:
    broker.groups["g"].members = {"one": {"t": [0]}}
    async with watch(broker.address, {"topic": "t"}, hold=0.3) as watched:
        known = await watched.queue_until("t", lambda q: q.depth == 6 and q.consumers == 1)
        broker.cut_off = True
        await watched.output.called("trouble", 6)
        await asyncio.sleep(0.4)  # longer than any other value stays
        assert watched.queue("t") == known
        broker.cut_off = False
        broker.groups["g"].commits["t"][0] = 5
        await watched.queue_until("t", lambda q: q.depth == 5)


async def test_late_trouble_of_a_removed_broker_is_ignored(broker: Scripted, watch: Any) -> None:
    """What the attempt says in the end is nobody's trouble any more."""
    async with scripted() as second, watch(broker.address, QUEUE, limits=IMPATIENT) as watched:
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
        await asyncio.sleep(IMPATIENT.request + 0.2)
        assert [call for call in after(watched, *gone) if "broker 2" in call] == []


async def test_a_broker_is_confirmed_only_if_it_answers_every_request(
    broker: Scripted, watch: Any
) -> None:
    async with watch(broker.address, QUEUE, limits=IMPATIENT) as watched:
        await six(watched)
        broker.answers[script.COMMITS] = None
        await watched.output.called("trouble", 2)
        calls = [call[0] for call in watched.output.calls if "broker 1" in call[1:2]]
        assert "confirm" not in calls[calls.index("trouble") :]


# without a broker


class Reported(NamedTuple):
    scopes: Scopes
    output: RecordingOutput
    clock: FakeClock
    changes: list[int]


@pytest.fixture
def reported() -> Reported:
    """Two brokers, and the topic `t`."""
    clock, changes = FakeClock(), [0]
    output = RecordingOutput(clock, "kafka")
    brokers = Brokers(["a:1"], ConnectionSettings("test", "PLAINTEXT", None, {}), clock, QUICK)
    brokers.update({1: Address("a", 1), 2: Address("b", 1)})

    def count() -> None:
        changes[0] += 1

    scopes = Scopes(output, brokers, ["t"], count)  # type: ignore[arg-type]
    scopes.expect()
    return Reported(scopes, output, clock, changes)


def test_the_cluster_each_broker_and_each_named_topic_has_a_scope(reported: Reported) -> None:
    reported.scopes.expect()
    assert reported.output.calls == [("expect", ["", "broker 1", "broker 2", "topic t"])]


def test_one_outage_is_logged_once_a_minute(reported: Reported, logged: list[str]) -> None:
    for node in (1, 2):
        reported.scopes.fail(node, "commits", TroubleError("Unreachable", "closed port"))
    (line,) = logged
    assert "source kafka (broker 1): Unreachable: closed port" in line
    reported.scopes.fail(1, "ends", TroubleError("Unauthorized", "no password"))
    assert "Unauthorized" in logged[1]
    reported.clock.advance(61)
    reported.scopes.fail(1, "ends", TroubleError("Timeout", "no answer"))
    assert len(logged) == 3


def test_an_address_that_was_not_configured_is_explained(reported: Reported) -> None:
    for node in (1, 2):
        reported.scopes.fail(node, "ends", TroubleError("Timeout", "no answer"))
    assert reported.output.calls[1:] == [
        ("trouble", "broker 1", "Timeout", "no answer"),
        ("trouble", "broker 2", "Timeout", "no answer (broker 2 advertises this address)"),
    ]


def test_a_broker_recovers_once_no_request_fails(reported: Reported) -> None:
    scopes = reported.scopes
    scopes.fail(1, "ends", ValueError("malformed"))
    scopes.fail(1, "commits", UnsupportedError("API 9"))
    scopes.succeed(1, "ends")
    assert scopes.trouble_with(1) is not None
    scopes.send_only_to({2}, "commits")
    scopes.succeed(1, "ends")
    assert (scopes.trouble_with(1), scopes.has_trouble, reported.changes) == (None, False, [2])
    assert reported.output.calls[-1] == ("confirm", "broker 1", None, "")


def test_results_of_an_unknown_broker_are_ignored(reported: Reported) -> None:
    reported.scopes.fail(3, "ends", ValueError("malformed"))
    reported.scopes.succeed(3, "ends")
    assert len(reported.output.calls) == 1
