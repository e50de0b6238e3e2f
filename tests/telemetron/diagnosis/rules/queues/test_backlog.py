"""Rules of backlogs, each beside the healthy situation that looks most like it."""

from telemetron.document import PendingTask, Priority, Wait
from tests.telemetron.diagnosis.system import System


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
