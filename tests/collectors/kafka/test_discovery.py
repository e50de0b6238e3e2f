"""Finding topics, groups and queues, on a scripted broker."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tests.collectors.kafka import scripted as script
from tests.collectors.kafka.conftest import QUEUE, QUICK, reasons, six, unknown
from tests.collectors.kafka.scripted import (
    Group,
    Log,
    Scripted,
    Topic,
    recreated,
    scripted,
    two_topics,
)

KINDS = ["classic", "consumer", "share", "streams"]

BROKER_2 = ("trouble", "broker 2")


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    async with two_topics() as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", ["*", "t"])
async def test_a_group_is_found_by_its_members_before_its_first_commit(
    broker: Scripted, watch: Any, kind: str, pattern: str
) -> None:
    broker.groups["g"] = Group(type=kind, members={"one": {"t": [0]}, "late": {"other": []}})
    async with watch(broker.address, {"topic": pattern}) as watched:
        queue = await watched.queue_until("t", lambda q: q.consumers == 1)
        assert (queue.depth, reasons(queue)) == (None, ["NoCommit"])
        if pattern == "*":  # it subscribes to this one, and the topic is empty
            queue = await watched.queue_until("other", lambda q: q.consumers == 0)
            assert (queue.depth, queue.problems) == (0, [])
        broker.groups["g"].members = {}
        await watched.queue_until("t", lambda q: q.consumers == 0, group=None)
        assert watched.queue("t") is None


@pytest.mark.parametrize("pattern", ["*", "ne*", None])
async def test_a_renamed_topic_is_shown_once_it_has_records(
    broker: Scripted, watch: Any, pattern: str | None
) -> None:
    queues = [{"topic": pattern}] if pattern else []
    broker.topics["new"] = Topic(id=3)
    async with watch(broker.address, *queues) as watched:
        if pattern != "ne*":
            await watched.queue_until("t", lambda q: q.depth == 6)
        assert watched.queue("new", None) is None
        broker.topics["new"].logs[0].end = broker.topics["new"].logs[0].high = 5
        queue = await watched.queue_until("new", lambda q: True, group=None)
        assert (queue.consumer_group, queue.consumers, queue.depth) == (None, 0, None)
        assert reasons(queue) == ["NoCommit"]
        broker.groups["g"].commits["new"] = {0: 1}
        queue = await watched.queue_until("new", lambda q: q.depth == 4)
        assert watched.queue("new", None) is None


async def test_on_no_commit_counts_records_that_no_group_reads(
    broker: Scripted, watch: Any
) -> None:
    broker.groups.clear()
    async with watch(broker.address, {"topic": "*", "on_no_commit": "earliest"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.depth == 10, group=None)
        assert (queue.consumers, queue.tasks, queue.problems) == (0, [], [])
        broker.topics["t"].logs[0].start = 10
        await watched.until(lambda: watched.queue("t", None) is None)


@pytest.mark.parametrize("pattern", ["t*", "t"])
async def test_groups_that_the_configuration_excludes_may_read_a_topic(
    broker: Scripted, watch: Any, pattern: str
) -> None:
    async with watch(broker.address, {"topic": pattern, "groups": ["w*"]}) as watched:
        queue = await watched.queue_until("t", lambda q: q.problems, group=None)
        assert reasons(queue) == ["NoCommit"]
        assert queue.problems[0].message.endswith("reads this topic; other groups may")


@pytest.mark.parametrize("pattern", ["*", "t"])
async def test_topics_of_a_rebalancing_group_are_unknown(
    broker: Scripted, watch: Any, pattern: str
) -> None:
    """Its coordinator tells no subscriptions meanwhile; it may be for minutes."""
    broker.groups["g"] = Group(members={"one": {"t": [0]}}, state="PreparingRebalance")
    async with watch(broker.address, {"topic": pattern}) as watched:
        await broker.asked_for(script.GROUPS, 2)
        if pattern == "t":
            queue = await watched.queue_until("t", lambda q: q.problems, group=None)
            assert (queue.consumers, queue.depth) == (None, None)
            assert "group g is rebalancing" in queue.problems[0].message
        broker.groups["g"].state = "Stable"
        await watched.queue_until("t", lambda q: q.consumers == 1)
        assert not said_that_nobody_reads("t", watched)


def said_that_nobody_reads(topic: str, watched: Any) -> bool:
    puts = [call[4] for call in watched.output.calls if call[:3] == ("put", "queues", topic)]
    return any(queue.consumers == 0 for queue in puts)


async def test_queues_with_groups_come_first(broker: Scripted, watch: Any) -> None:
    for number in range(500):
        broker.topics[f"a{number:03}"] = Topic(logs=[Log(end=1, high=1)])
    async with watch(broker.address, interval_seconds=0.2) as watched:
        await watched.queue_until("t", lambda q: q.depth == 6)
        await watched.until(lambda: len(watched.output.parts) == 500)
        message = "2 topics that no group reads are not observed"
        await watched.called("confirm", "", "LimitReached", message)


async def test_groups_with_unreadable_offsets_hide_no_other_topic(
    broker: Scripted, watch: Any
) -> None:
    broker.groups["g"].type, broker.groups["g"].members = "share", {"one": {"t": [0]}}
    broker.topics["new"] = Topic(id=3, logs=[Log(end=5, high=5)])
    del broker.versions[script.SHARE_OFFSETS]
    async with watch(broker.address) as watched:
        await watched.queue_until("new", lambda q: reasons(q) == ["NoCommit"], group=None)
        queue = await watched.queue_until("t", lambda q: q.consumers == 1)
        assert (queue.depth, reasons(queue)) == (None, ["BadAnswer"])


async def test_a_forbidden_named_group_hides_no_other_topic(broker: Scripted, watch: Any) -> None:
    """No more than one that is not named, of which nothing is known either."""
    broker.groups["secret"] = Group(listed=False, coordinator_error=30)
    broker.topics["new"] = Topic(id=3, logs=[Log(end=5, high=5)])
    named = {"topic": "other", "groups": ["secret"]}
    async with watch(broker.address, named, {"topic": "*"}) as watched:
        await watched.queue_until("new", lambda q: reasons(q) == ["NoCommit"], group=None)
        queue = await watched.queue_until("other", lambda q: q.problems, group="secret")
        assert reasons(queue) == ["Forbidden"]


async def test_a_new_topic_waits_while_a_broker_is_out_of_reach(
    broker: Scripted, watch: Any
) -> None:
    """A group that the broker has come to coordinate since may read it."""
    async with scripted() as second:
        second.topics, broker.brokers = broker.topics, {1: broker.port, 2: second.port}
        second.brokers = broker.brokers
        async with watch(broker.address) as watched:
            await watched.queue_until("t", lambda q: q.depth == 6)
            await second.asked_for(script.GROUPS)
            second.cut_off = True
            await watched.until(lambda: any(call[:2] == BROKER_2 for call in watched.output.calls))
            broker.topics["new"] = Topic(id=3, logs=[Log(end=5, high=5)])
            await broker.asked_for(script.GROUPS, 3)
            assert watched.queue("new", None) is None
            second.groups["late"] = Group(commits={"new": {0: 2}}, coordinator=2)
            second.cut_off = False
            await watched.queue_until("new", lambda q: q.depth == 3, group="late")
            assert not said_that_nobody_reads("new", watched)


async def test_topics_of_groups_that_are_not_served_are_unknown(
    broker: Scripted, watch: Any
) -> None:
    broker.groups["g"].error = 14
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.problems, group=None)
        assert (reasons(queue), queue.consumers) == (["Unreachable"], None)
        broker.groups["g"].error = 0
        await watched.queue_until("t", lambda q: q.depth == 6)


async def test_the_number_of_queues_is_limited(broker: Scripted, watch: Any) -> None:
    for number in range(501):
        broker.topics[f"t{number:03}"] = Topic(logs=[Log(end=1, high=1)])
        broker.groups["g"].commits[f"t{number:03}"] = {0: 0}
    async with watch(broker.address, interval_seconds=0.2) as watched:
        await watched.until(lambda: len(watched.output.parts) == 500)
        limit = ("confirm", "", "LimitReached", "only the first 500 queues are shown")
        await watched.called(*limit)


async def test_the_number_of_groups_is_limited(broker: Scripted, watch: Any) -> None:
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


async def test_no_request_creates_the_offsets_topic(broker: Scripted, watch: Any) -> None:
    broker.groups.clear()
    async with watch(broker.address, {**QUEUE, "on_no_commit": "earliest"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.depth == 10)
        assert (queue.group_state, queue.consumers) == ("Dead", 0)
        assert script.COORDINATOR not in broker.asked
        broker.topics["__consumer_offsets"] = Topic()
        broker.groups["g"] = Group(commits={"t": {0: 4}}, listed=False)
        await watched.queue_until("t", lambda q: q.depth == 6)
        assert script.COORDINATOR in broker.asked


async def test_an_unreadable_offsets_topic_is_read_again(broker: Scripted, watch: Any) -> None:
    broker.topics["__consumer_offsets"] = Topic()
    broker.garbled = "__consumer_offsets"
    broker.groups["g"].listed = False
    async with watch(broker.address, {**QUEUE, "on_no_commit": "earliest"}) as watched:
        await broker.asked_for(script.GROUPS, 3)
        broker.garbled = ""
        await six(watched)
        assert 10 not in [call[4].depth for call in watched.output.calls if call[0] == "put"]


async def test_groups_stay_while_a_broker_cannot_list_them(broker: Scripted, watch: Any) -> None:
    async with watch(broker.address, {"topic": "t"}) as watched:
        await six(watched)
        broker.list_error = 14
        await broker.asked_for(script.GROUPS, 3)
        assert watched.queue("t").depth == 6
        broker.list_error = 0
        await broker.asked_for(script.GROUPS, 2)
        assert "remove" not in [call[0] for call in watched.output.calls]


async def test_an_error_of_a_topic_is_in_its_scope(broker: Scripted, watch: Any) -> None:
    broker.topics["t"].error = 17
    async with watch(broker.address, QUEUE) as watched:
        message = "the brokers return error 17"
        await watched.called("confirm", "topic t", "BadAnswer", message)
        broker.topics["t"].error = 0
        await six(watched)
        await watched.called("confirm", "topic t", None, "")


async def test_one_response_without_a_topic_does_not_remove_it(
    broker: Scripted, watch: Any
) -> None:
    """As of a broker that was just started and does not know all of them yet."""
    async with watch(broker.address, {**QUEUE, "topic": "t*"}) as watched:
        await six(watched)
        broker.forgetful = True
        await watched.until(lambda: not broker.forgetful)
        await broker.asked_for(script.METADATA, 4)
        assert ("remove", "queues", "t/g") not in watched.output.calls


@pytest.mark.parametrize("discovery", [0.3, 1.0])
async def test_a_recreated_topic_of_a_pattern_ignores_old_commits(
    broker: Scripted, watch: Any, discovery: float
) -> None:
    """Either the metadata of known topics or the search for topics notices it first."""
    limits, queue = replace(QUICK, discovery=discovery), {**QUEUE, "topic": "t*"}
    async with watch(broker.address, queue, limits=limits, interval_seconds=0.1) as watched:
        await six(watched)
        del broker.topics["t"]
        await watched.called("remove", "queues", "t/g")
        broker.topics["t"] = recreated()
        await unknown(watched, "OffsetOutOfRange")


async def test_a_group_without_coordinator_is_unreachable(broker: Scripted, watch: Any) -> None:
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


async def test_a_malformed_coordinator_response_is_a_problem(broker: Scripted, watch: Any) -> None:
    broker.groups["g"].listed = False
    broker.groups["other"] = Group()
    broker.answers[script.COORDINATOR] = b""
    async with watch(broker.address, QUEUE) as watched:
        await unknown(watched, "BadAnswer")
        del broker.answers[script.COORDINATOR]
        assert (await six(watched)).problems == []
