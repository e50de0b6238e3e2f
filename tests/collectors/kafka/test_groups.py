"""Against a scripted broker: groups of every type, and topics that no group reads."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.collectors.kafka import scripted as script
from tests.collectors.kafka.conftest import free_port
from tests.collectors.kafka.scripted import Group, Log, Scripted, Topic, batch, scripted

KINDS = ["classic", "consumer", "share", "streams"]


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    """A topic of two partitions with ten records, and a group that has done four."""
    async with scripted() as made:
        made.topics["t"] = Topic(
            logs=[Log(end=10, high=10, records=batch(0, *[b"{}"] * 10)), Log()]
        )
        made.topics["other"] = Topic(id=2)
        made.groups["g"] = Group(commits={"t": {0: 4, 1: 0}})
        yield made


def reasons(queue: Any) -> list[str]:
    return [problem.reason for problem in queue.problems]


@pytest.mark.parametrize("kind", KINDS)
async def test_consumers_are_the_members_with_partitions_of_the_topic(
    broker: Scripted, watch: Any, kind: str
) -> None:
    group = broker.groups["g"]
    group.type, group.lag, group.epoch = kind, 3, 3
    group.members = {"one": {"t": [1, 0]}, "two": {"other": [0]}, "idle": {"t": []}}
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.consumers and q.lag == 6)
        assert (queue.consumers, queue.group_state, queue.generation) == (1, "Stable", 0)
        assert [(it.client_id, it.partitions, it.partition_count) for it in queue.members] == [
            ("one", [0, 1], 2),
            ("idle", [], 0),
            ("two", [], 0),
        ]
        assert queue.members[0].host == "10.0.0.1"
        group.members, group.epoch = {"two": {"other": [0]}}, 4
        queue = await watched.queue_until("t", lambda q: q.consumers == 0)
        assert (queue.depth, queue.generation, len(queue.members)) == (6, 1, 1)


async def test_many_partitions_are_cut_and_counted(broker: Scripted, watch: Any) -> None:
    broker.topics["t"].logs = [Log() for _ in range(80)]
    broker.groups["g"].members = {"one": {"t": list(range(70))}, "two": {"t": list(range(70, 80))}}
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.consumers == 2)
        assert queue.members[0].partitions == list(range(64))
        assert [it.partition_count for it in queue.members] == [70, 10]
        assert queue.truncated["members.partitions"] == 70


async def test_who_has_what_is_unknown_while_a_classic_group_rebalances(
    broker: Scripted, watch: Any
) -> None:
    """Its coordinator tells members and no assignments; nobody is said to be idle."""
    group = broker.groups["g"]
    group.commits, group.members = {}, {"one": {"t": [0]}}
    async with watch(broker.address) as watched:
        await watched.queue_until("t", lambda q: q.consumers == 1)
        group.state = "PreparingRebalance"
        queue = await watched.queue_until("t", lambda q: q.group_state == "PreparingRebalance")
        (member,) = queue.members
        assert (queue.consumers, member.partitions, member.partition_count) == (None, None, None)
        assert queue.generation == 1
        group.state, group.members = "Empty", {}
        await watched.until(lambda: watched.queue("t") is None)


@pytest.mark.parametrize("protocol", ["connect", "sr"])
async def test_assignments_of_other_protocols_are_unknown(
    broker: Scripted, watch: Any, protocol: str
) -> None:
    broker.groups["g"].members = {"one": {"t": [0]}}
    broker.groups["g"].protocol = protocol
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.members)
        assert (queue.consumers, queue.members[0].partitions) == (None, None)


async def test_a_group_of_a_type_that_we_do_not_know(broker: Scripted, watch: Any) -> None:
    broker.groups["g"].type = "future"
    broker.groups["g"].members = {"one": {"t": [0]}}
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.lag == 6)
        assert (queue.consumers, queue.group_state, queue.generation) == (None, None, None)
        assert (queue.members, reasons(queue)) == ([], ["BadAnswer"])
        assert "type future" in queue.problems[0].message
        assert script.DESCRIBE not in broker.asked


@pytest.mark.parametrize("kind", ["consumer", "share", "streams"])
async def test_a_broker_that_cannot_describe_a_type(
    broker: Scripted, watch: Any, kind: str
) -> None:
    broker.groups["g"].type = kind
    del broker.versions[{"consumer": 69, "share": 77, "streams": 89}[kind]]
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.problems)
        assert (queue.consumers, queue.group_state) == (None, None)
        assert kind in queue.problems[0].message


async def test_a_group_that_changes_its_type_is_never_dead(broker: Scripted, watch: Any) -> None:
    """Asked as the type that it was, its broker says that it does not exist."""
    group = broker.groups["g"]
    group.members = {"one": {"t": [0]}}
    async with watch(broker.address, {"topic": "t", "groups": ["g"]}) as watched:
        await watched.queue_until("t", lambda q: q.consumers == 1)
        group.type, group.epoch = "consumer", 1
        group.members["two"] = {"t": [1]}
        queue = await watched.queue_until("t", lambda q: q.consumers == 2)
        assert (queue.group_state, queue.generation) == ("Stable", 1)
        states = {call[4].group_state for call in watched.output.calls if call[0] == "put"}
        assert states <= {"Stable", None}


async def test_of_a_group_that_becomes_a_share_group_no_tasks_are_shown(
    broker: Scripted, watch: Any
) -> None:
    async with watch(broker.address, {"topic": "t"}) as watched:
        await watched.queue_until("t", lambda q: len(q.tasks) == 6)
        broker.groups["g"].type = "share"
        queue = await watched.queue_until("t", lambda q: not q.tasks)
        assert (queue.depth, queue.depth_exact) == (6, False)


# groups that have not committed


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


async def test_the_first_commit_of_a_group_is_told_with_its_time(
    broker: Scripted, watch: Any
) -> None:
    broker.groups["g"].commits = {}
    async with watch(broker.address, {"topic": "t", "groups": ["g"]}) as watched:
        await watched.queue_until("t", lambda q: reasons(q) == ["NoCommit"])
        broker.groups["g"].commits = {"t": {0: 10, 1: 0}}
        queue = await watched.queue_until("t", lambda q: q.depth == 0)
        assert queue.consumed_at
        assert queue.measured_at
        assert timedelta(0) <= queue.measured_at - queue.consumed_at < timedelta(seconds=5)


async def test_a_group_that_has_committed_before_has_not_just_done_it(
    broker: Scripted, watch: Any
) -> None:
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.depth == 6)
        assert queue.consumed_at is None


# topics that no group reads


@pytest.mark.parametrize("pattern", ["*", "ne*", None])
async def test_a_renamed_topic_is_shown_where_records_wait(
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


async def test_what_waits_for_nobody_is_counted_by_the_policy(broker: Scripted, watch: Any) -> None:
    broker.groups.clear()
    async with watch(broker.address, {"topic": "*", "on_no_commit": "earliest"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.depth == 10, group=None)
        assert (queue.consumers, queue.tasks, queue.problems) == (0, [], [])
        broker.topics["t"].logs[0].start = 10
        await watched.until(lambda: watched.queue("t", None) is None)


@pytest.mark.parametrize("pattern", ["t*", "t"])
async def test_groups_that_the_configuration_leaves_out_may_read_a_topic(
    broker: Scripted, watch: Any, pattern: str
) -> None:
    async with watch(broker.address, {"topic": pattern, "groups": ["w*"]}) as watched:
        queue = await watched.queue_until("t", lambda q: q.problems, group=None)
        assert reasons(queue) == ["NoCommit"]
        assert queue.problems[0].message.endswith("reads this topic; other groups may")


@pytest.mark.parametrize("pattern", ["*", "t"])
async def test_what_a_group_reads_is_unknown_until_it_has_rebalanced(
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


async def test_groups_whose_offsets_cannot_be_asked_for_hide_no_other_topic(
    broker: Scripted, watch: Any
) -> None:
    broker.groups["g"].type, broker.groups["g"].members = "share", {"one": {"t": [0]}}
    broker.topics["new"] = Topic(id=3, logs=[Log(end=5, high=5)])
    del broker.versions[script.SHARE_OFFSETS]
    async with watch(broker.address) as watched:
        await watched.queue_until("new", lambda q: reasons(q) == ["NoCommit"], group=None)
        queue = await watched.queue_until("t", lambda q: q.consumers == 1)
        assert (queue.depth, reasons(queue)) == (None, ["BadAnswer"])


async def test_a_named_group_that_is_forbidden_hides_no_other_topic(
    broker: Scripted, watch: Any
) -> None:
    """No more than one that is not named, of which nothing is known either."""
    broker.groups["secret"] = Group(listed=False, coordinator_error=30)
    broker.topics["new"] = Topic(id=3, logs=[Log(end=5, high=5)])
    named = {"topic": "other", "groups": ["secret"]}
    async with watch(broker.address, named, {"topic": "*"}) as watched:
        await watched.queue_until("new", lambda q: reasons(q) == ["NoCommit"], group=None)
        queue = await watched.queue_until("other", lambda q: q.problems, group="secret")
        assert reasons(queue) == ["Forbidden"]


# brokers that cannot be reached at the address that they advertise


@pytest.fixture
def closed() -> str:
    return f"127.0.0.1:{free_port()}"


def advertise(broker: Scripted, closed: str, *, also: bool = False) -> None:
    port = int(closed.rpartition(":")[2])
    broker.brokers = {1: broker.port, 2: port} if also else {1: port}


@pytest.mark.parametrize("queues", [[], [{"topic": "t*"}], [{"topic": "t"}]])
async def test_an_advertised_address_that_is_closed(
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


async def test_one_of_two_advertised_addresses_is_closed(
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


BROKER_2 = ("trouble", "broker 2")


async def test_a_topic_that_is_new_while_a_broker_is_out_of_reach(
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


async def test_a_coordinator_that_does_not_tell_what_its_groups_read(
    broker: Scripted, watch: Any
) -> None:
    broker.groups["g"].error = 14
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.problems, group=None)
        assert (reasons(queue), queue.consumers) == (["Unreachable"], None)
        broker.groups["g"].error = 0
        await watched.queue_until("t", lambda q: q.depth == 6)


# out of reach


@pytest.mark.parametrize("api", [script.COMMITS, script.OFFSETS, script.DESCRIBE])
async def test_the_last_known_stays_while_the_source_says_that_kafka_is_out_of_reach(
    broker: Scripted, watch: Any, api: int
) -> None:
    broker.groups["g"].members = {"one": {"t": [0]}}
    async with watch(broker.address, {"topic": "t"}, {"topic": "other"}, hold=1.2) as watched:
        known = await watched.queue_until("t", lambda q: len(q.tasks) == 6 and q.consumers == 1)
        await watched.queue_until("other", lambda q: True, group=None)
        broker.answers = {api: None, script.FETCH: None}
        await watched.output.called("trouble")
        await asyncio.sleep(0.6)  # longer than anything else is held
        assert watched.queue("t") == known
        assert watched.queue("other", None).problems == []
        assert {call[1] for call in watched.output.calls if call[0] == "trouble"} == {"broker 1"}
        broker.answers.clear()
        broker.groups["g"].commits["t"][0] = 5
        await watched.queue_until("t", lambda q: q.depth == 5 and q.consumers == 1)


async def test_the_whole_cluster_is_out_of_reach(broker: Scripted, watch: Any) -> None:
    broker.groups["g"].members = {"one": {"t": [0]}}
    async with watch(broker.address, {"topic": "t"}, hold=0.3) as watched:
        known = await watched.queue_until("t", lambda q: q.depth == 6 and q.consumers == 1)
        broker.cut_off = True
        await watched.output.called("trouble", 6)
        await asyncio.sleep(0.5)  # longer than anything else is held
        assert watched.queue("t") == known
        broker.cut_off = False
        broker.groups["g"].commits["t"][0] = 5
        await watched.queue_until("t", lambda q: q.depth == 5)
