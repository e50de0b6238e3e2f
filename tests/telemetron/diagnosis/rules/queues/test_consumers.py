"""Rules of consumers, each beside the healthy situation that looks most like it."""

import pytest

from telemetron.document import (
    Cooldowns,
    Member,
    Wait,
)
from tests.telemetron.diagnosis.system import System, alarms, rules


async def test_work_that_nobody_takes() -> None:
    async with System() as system:
        system.queue(
            "q", depth=3, consumers=0, group_state="Empty", oldest_submitted_at=system.ago(60)
        )
        (finding,) = await system.after(60)
        assert (finding.rule, finding.severity) == ("NoConsumers", "critical")
        assert finding.since == system.state.queues[0].oldest_submitted_at


async def test_work_whose_consumers_start_for_too_long() -> None:
    async with System() as system:
        pod = system.pod("w-0", ready=False, reason="NotReady", created_at=system.ago(0))
        key = system.workload("w", pod)
        system.agent("a", workload=key, queues=["q"], status="declared")
        system.queue("q", depth=3, consumers=0, group_state="Empty")
        assert alarms(await system.after(50)) == []
        assert alarms(await system.after(60))


@pytest.mark.parametrize(
    "fields", [{"depth": 0, "consumers": 0}, {"depth": None, "lag": None, "consumers": 0}]
)
async def test_a_queue_without_work_needs_no_consumer(fields: dict[str, object]) -> None:
    async with System() as system:
        system.queue("q", **fields)
        assert await system.after(90) == []


async def test_an_unknown_number_of_consumers_is_not_none() -> None:
    async with System() as system:
        system.queue("q", depth=3, consumers=None)
        assert await system.after(90) == []


async def test_a_consumer_that_restarts_is_no_finding() -> None:
    async with System() as system:
        for number in range(6):
            system.queue("q", depth=3, consumers=number % 2, consumed_at=system.clock.now())
            assert await system.after(10) == []


async def test_a_group_that_was_abandoned_is_no_finding() -> None:
    async with System() as system:
        system.queue("q", "console-consumer-1", depth=90, consumers=0, group_state="Empty")
        system.queue("q", depth=1, consumed_at=system.clock.now())
        system.agent("reader", system.task("t", queue="q"), queues=["q"])
        assert await system.after(90) == []


async def test_records_that_no_group_reads() -> None:
    async with System() as system:
        system.agent("boss", system.task("t", Wait(kind="agent", name="a"), stalled=True))
        system.agent("a", queues=["old"])
        system.queue("old")
        system.queue("new", None, consumers=None, depth=None, produced_at=system.clock.now())
        assert ("NoConsumers", "kafka/new/-") in alarms(await system.after(60))


async def test_an_audit_log_that_no_group_reads_is_information() -> None:
    async with System() as system:
        system.queue("audit", None, consumers=None, depth=None, produced_at=system.clock.now())
        assert await rules(system) == [("NoConsumers", "info")]


async def test_commits_of_a_client_without_a_group_are_no_finding() -> None:
    async with System() as system:
        for _ in range(10):
            system.queue("q", depth=2, consumers=0, consumed_at=system.clock.now())
            assert await system.after(10) == []


async def test_consumers_that_commit_nothing() -> None:
    async with System() as system:
        system.agent("reader", queues=["q"], status="active")
        system.queue("q", depth=5, consumed_at=system.ago(10))
        assert next(one.rule for one in await system.after(200)) == "QueueStuck"


async def test_a_queue_is_not_stuck_by_itself_if_its_readers_wait_for_a_model() -> None:
    async with System() as system:
        system.model("a", "gpt", status="cooling_down", cooldowns=Cooldowns(1, status_code=429))
        wait = Wait(kind="llm", name="gpt", since=system.ago(10))
        system.agent("reader", system.task("t", wait, queue="q", stalled=True), queues=["q"])
        system.queue("q", depth=5, consumed_at=system.ago(10))
        [finding] = await system.after(300)
        assert finding.root.section == "litellm"
        assert {one.rule for one in finding.effects} == {"TaskStalled", "QueueStuck"}


async def test_a_task_that_takes_long_is_no_stuck_queue() -> None:
    async with System() as system:
        system.agent("reader", system.task("t", queue="q"), queues=["q"])
        system.queue("q", depth=5, consumed_at=system.ago(10))
        assert await system.after(300) == []


async def test_a_queue_whose_commits_move_is_not_stuck() -> None:
    async with System() as system:
        system.agent("reader", queues=["q"], status="active")
        for _ in range(30):
            system.queue("q", depth=5, consumed_at=system.clock.now())
            assert await system.after(10) == []


async def test_a_group_that_does_not_come_to_rest() -> None:
    async with System() as system:
        system.queue("q", depth=5, group_state="PreparingRebalance")
        assert await system.after(50) == []
        assert [one.rule for one in await system.after(30)] == ["Rebalancing"]


async def test_members_that_are_gone_are_remembered() -> None:
    """So that a queue without consumers is joined to the workload that read it."""
    async with System() as system:
        member = Member(client_id="c", host="10.0.0.1", partitions=[0], partition_count=1)
        system.workload("coder", system.pod("c-0", ip="10.0.0.1"))
        system.queue("code", members=[member])
        await system.after(5)
        bad = system.pod("c-1", status="Pending", ready=False, reason="CreateContainerConfigError")
        system.workload("coder", bad)
        system.queue("code", depth=4, consumers=0, group_state="Empty")
        (finding,) = await system.after(60)
        assert finding.rule == "ContainerConfig"
        assert "NoConsumers" in {one.rule for one in finding.effects}


async def test_tasks_that_wait_for_a_queue_without_consumers_are_effects() -> None:
    async with System() as system:
        system.queue("q", depth=3, consumers=0, group_state="Empty")
        wait = Wait(kind="queue", name="q")
        system.agent("a", system.task("t1", wait, stalled=True))
        system.agent("b", system.task("t2", wait, stalled=True))
        (finding,) = await system.after(60)
        assert (finding.rule, finding.effect_count) == ("NoConsumers", 2)


async def test_a_group_that_rebalances_again_and_again_and_commits_nothing() -> None:
    async with System() as system:
        since = system.clock.now()
        for generation in range(14):
            system.queue("q", depth=9, generation=generation, consumed_at=since)
            await system.after(9)
        assert "Rebalancing" in {one.rule for one in system.findings}


async def test_a_group_that_rebalances_in_a_rollout_and_gets_on_is_no_finding() -> None:
    async with System() as system:
        for generation in range(14):
            system.queue("q", depth=9, generation=generation, consumed_at=system.clock.now())
            assert await system.after(9) == []


async def test_the_workload_that_the_group_is_named_after_explains_it() -> None:
    """After a restart of Telemetron the members of an empty group are not known."""
    async with System() as system:
        pod = system.pod("w-0", ready=False, reason="CrashLoopBackOff", restarts=4)
        system.workload("writer", pod)
        system.queue("q", "writer", depth=3, consumers=0, group_state="Empty")
        assert alarms(await system.after(60)) == [
            ("WorkloadCrashing", "kubernetes/prod/Deployment/writer")
        ]


async def test_work_that_goes_to_a_renamed_queue() -> None:
    async with System() as system:
        wait = Wait(kind="agent", name="planner")
        system.agent("boss", system.task("t", wait, stalled=True))
        system.agent("planner", queues=["plans"])
        system.queue("plans", depth=0)
        new = {"consumers": 0, "depth": None, "group_state": None}
        system.queue("plans-v2", None, produced_at=system.clock.now(), **new)
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.key) == ("NoConsumers", "kafka/plans-v2/-")
        assert [one.rule for one in finding.effects] == ["TaskStalled"]


async def test_an_unread_queue_of_an_unrelated_name_explains_no_wait() -> None:
    async with System() as system:
        wait = Wait(kind="agent", name="planner")
        system.agent("boss", system.task("t", wait, stalled=True))
        system.agent("planner", queues=["plans"])
        system.queue("audit", None, consumers=0, depth=None, produced_at=system.clock.now())
        assert [one.rule for one in await system.after(60)] == ["NoConsumers", "TaskStalled"]


async def test_a_group_whose_members_are_in_another_group_by_now_is_information() -> None:
    async with System() as system:
        system.workload("writer", system.pod("w-0", ip="10.0.0.1"))
        member = Member(client_id="c", host="10.0.0.1", partitions=[0], partition_count=1)
        system.queue("q", "old", members=[member])
        await system.after(5)
        system.queue("q", "old", depth=4, consumers=0, consumed_at=system.clock.now())
        system.queue("q", "new", members=[member])
        assert await rules(system) == [("NoConsumers", "info")]
