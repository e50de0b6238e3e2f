"""Rules of queues: each beside the healthy situation that looks most like it."""

import pytest

from telemetron.document import Failure, Member, PartitionLag, PendingTask, Priority, Problem, Wait
from tests.telemetron.diagnosis.system import System, alarms


async def test_work_that_nobody_takes() -> None:
    async with System() as system:
        system.queue("q", depth=3, consumers=0, group_state="Empty", consumed_at=system.ago(60))
        (finding,) = await system.after(60)
        assert (finding.rule, finding.severity) == ("NoConsumers", "critical")
        assert finding.since == system.state.queues[0].consumed_at


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
        system.queue("new", None, consumers=None, depth=None, produced_at=system.clock.now())
        assert alarms(await system.after(60)) == [("NoConsumers", "kafka/new/-")]


async def test_consumers_that_commit_nothing() -> None:
    async with System() as system:
        system.agent("reader", queues=["q"], status="active")
        system.queue("q", depth=5, consumed_at=system.ago(10))
        assert next(one.rule for one in await system.after(200)) == "QueueStuck"


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


def poisoned(system: System, id: str = "bad") -> None:
    task = PendingTask(id="bad", partition=1, offset=7)
    lag = PartitionLag(partition=1, lag=4, consumed_at=system.ago(300))
    member = Member(client_id="c", host="10.0.0.1", partitions=[1], partition_count=1)
    system.queue("q", depth=4, tasks=[task], lagging=[lag], members=[member])
    failure = Failure(task_id=id, error="JSONDecodeError", at=system.ago(5))
    system.agent("reader", system.task("bad", queue="q"), queues=["q"], last_failure=failure)


async def test_a_task_that_its_consumers_fail_on() -> None:
    async with System() as system:
        poisoned(system)
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.path) == ("PoisonTask", "tasks/bad")
        assert {one.value for one in finding.evidence} >= {"bad", "JSONDecodeError", 7}


async def test_a_failure_of_another_task_poisons_nothing() -> None:
    async with System() as system:
        poisoned(system, "other")
        assert await system.after(60) == []


async def test_a_group_that_does_not_come_to_rest() -> None:
    async with System() as system:
        system.queue("q", depth=5, group_state="PreparingRebalance")
        assert await system.after(50) == []
        assert [one.rule for one in await system.after(30)] == ["Rebalancing"]


async def test_a_queue_that_grows() -> None:
    async with System() as system:
        for depth in range(5, 90, 2):
            system.queue("q", depth=depth, consumed_at=system.clock.now())
            found = await system.after(3)
        assert [one.rule for one in found] == ["QueueGrowing"]


async def test_a_large_backlog_that_shrinks_is_no_finding() -> None:
    async with System() as system:
        for depth in range(1500, 1300, -5):
            system.queue("q", depth=depth, consumed_at=system.clock.now())
            assert await system.after(3) == []


async def test_a_queue_that_goes_up_and_down_is_no_finding() -> None:
    async with System() as system:
        for number in range(60):
            system.queue("q", depth=5 + 9 * (number % 3), consumed_at=system.clock.now())
            assert await system.after(3) == []


async def test_an_overloaded_agent_is_the_root_of_its_growing_queue() -> None:
    async with System() as system:
        tasks = [system.task(f"t{number}", queue="q") for number in range(5)]
        system.agent("reader", *tasks, queues=["q"], max_parallel_invocations=2)
        for depth in range(5, 90, 2):
            system.queue("q", depth=depth, consumed_at=system.clock.now())
            found = await system.after(3)
        (finding,) = found
        assert finding.rule == "Overloaded"
        assert [one.rule for one in finding.effects] == ["QueueGrowing"]


async def test_a_transaction_that_stays_open() -> None:
    async with System() as system:
        since = system.ago(30)
        system.queue("q", depth=0, open_transaction_since=since, open_transaction_offsets=12)
        (finding,) = await system.after(90)
        assert (finding.rule, finding.since) == ("OpenTransaction", since)


async def test_transactions_that_come_and_go_are_no_finding() -> None:
    async with System() as system:
        for _ in range(20):
            system.queue("q", open_transaction_since=system.clock.now())
            assert await system.after(10) == []


async def test_records_that_were_deleted_unread() -> None:
    async with System() as system:
        problem = Problem(reason="RecordsLost", message="30 gone", since=system.ago(5))
        system.queue("q", depth=9, problems=[problem])
        assert alarms(await system.after(20)) == [("RecordsLost", "kafka/q/g")]


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


async def test_a_task_that_waits_for_one_that_nobody_takes() -> None:
    async with System() as system:
        pending = PendingTask(id="p", partition=0, offset=1, priority=Priority(blocked_task="b"))
        wait = Wait(kind="other", name="p")
        system.agent("a", system.task("b", wait, stalled=True), queues=["q"])
        for _ in range(10):
            system.queue("q", depth=3, tasks=[pending], consumed_at=system.clock.now())
            await system.after(10)
        (finding,) = system.findings
        assert (finding.rule, finding.root.path) == ("BlockedChain", "tasks/p")
        assert [one.rule for one in finding.effects] == ["TaskStalled"]


async def test_a_pending_task_whose_waiter_gets_on_is_no_finding() -> None:
    async with System() as system:
        pending = PendingTask(id="p", partition=0, offset=1, priority=Priority(blocked_task="b"))
        system.agent("a", system.task("b"), queues=["q"])
        for _ in range(10):
            system.queue("q", depth=3, tasks=[pending], consumed_at=system.clock.now())
            assert await system.after(10) == []


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
