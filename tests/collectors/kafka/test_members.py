"""The members of groups of every type, on a scripted broker."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.collectors.kafka import scripted as script
from tests.collectors.kafka.conftest import QUEUE, reasons, six
from tests.collectors.kafka.scripted import Log, Scripted, two_topics

KINDS = ["classic", "consumer", "share", "streams"]


@pytest.fixture
async def broker() -> AsyncIterator[Scripted]:
    async with two_topics() as made:
        yield made


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


async def test_assignments_are_unknown_while_a_classic_group_rebalances(
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


async def test_members_of_a_group_of_an_unknown_type_are_unknown(
    broker: Scripted, watch: Any
) -> None:
    broker.groups["g"].type = "future"
    broker.groups["g"].members = {"one": {"t": [0]}}
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.lag == 6)
        assert (queue.consumers, queue.group_state, queue.generation) == (None, None, None)
        assert (queue.members, reasons(queue)) == ([], ["BadAnswer"])
        assert "type future" in queue.problems[0].message
        assert script.DESCRIBE not in broker.asked


@pytest.mark.parametrize("kind", ["consumer", "share", "streams"])
async def test_a_broker_that_cannot_describe_a_type_is_a_problem(
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


async def test_a_group_that_becomes_a_share_group_shows_no_tasks(
    broker: Scripted, watch: Any
) -> None:
    async with watch(broker.address, {"topic": "t"}) as watched:
        await watched.queue_until("t", lambda q: len(q.tasks) == 6)
        broker.groups["g"].type = "share"
        queue = await watched.queue_until("t", lambda q: not q.tasks)
        assert (queue.depth, queue.depth_exact) == (6, False)


@pytest.mark.parametrize("kind", ["consumer", "share"])
async def test_consumer_and_share_groups_are_shown(broker: Scripted, watch: Any, kind: str) -> None:
    broker.groups["g"].type = kind
    broker.groups["g"].lag = 3
    async with watch(broker.address, {"topic": "t"}) as watched:
        queue = await watched.queue_until("t", lambda q: q.lag is not None and q.group_state)
        assert (queue.group_state, queue.consumers) == ("Stable", 0)
        if kind == "consumer":
            await six(watched)
        else:
            assert (queue.lag, queue.depth, queue.depth_exact, queue.tasks) == (6, 6, False, [])
            broker.versions[script.SHARE_OFFSETS] = (0, 0)  # without the lag: by offsets
            broker.groups["g"].commits["t"][0] = 5
            broker.cut_off = True
            await watched.until(lambda: watched.troubles())
            broker.cut_off = False
            await watched.queue_until("t", lambda q: q.lag == 5)


@pytest.mark.parametrize("kind", ["consumer", "share"])
async def test_a_deleted_consumer_or_share_group_is_dead(
    broker: Scripted, watch: Any, kind: str
) -> None:
    broker.groups["g"].type = kind
    async with watch(broker.address, QUEUE) as watched:
        await watched.queue_until("t", lambda q: q.group_state == "Stable")
        broker.groups["g"].describe_error = 69
        broker.groups["g"].listed = False
        queue = await watched.queue_until("t", lambda q: q.group_state == "Dead")
        assert (queue.consumers, queue.members) == (0, [])


async def test_all_groups_of_an_old_broker_are_classic(broker: Scripted, watch: Any) -> None:
    broker.versions[script.GROUPS] = (0, 4)
    async with watch(broker.address, QUEUE) as watched:
        queue = await six(watched)
        assert (queue.group_state, queue.consumers) == ("Stable", 0)
