"""Rules of load, each beside the healthy situation that looks most like it."""

import pytest

from telemetron.document import (
    PendingTask,
    Wait,
)
from tests.telemetron.diagnosis.system import System, alarms, rules


async def test_more_tasks_than_it_can_run() -> None:
    async with System() as system:
        tasks = [system.task(f"t{number}") for number in range(5)]
        system.agent("a", *tasks, max_parallel_invocations=2)
        assert await rules(system) == [("Overloaded", "warning")]


@pytest.mark.parametrize("most", [None, 5])
async def test_as_many_tasks_as_it_can_run_are_no_finding(most: int | None) -> None:
    async with System() as system:
        tasks = [system.task(f"t{number}") for number in range(5)]
        system.agent("a", *tasks, max_parallel_invocations=most)
        assert await rules(system) == []


async def test_an_agent_that_does_not_take_what_waits_for_it() -> None:
    async with System() as system:
        system.agent("a", queues=["q"])
        system.queue("q", depth=5, consumers=0, group_state="Empty", consumed_at=system.ago(5))
        (finding,) = await system.after(90)
        assert (finding.rule, finding.severity) == ("NotConsuming", "critical")
        assert [one.rule for one in finding.effects] == ["NoConsumers"]
        assert finding.effect_count == 1


@pytest.mark.parametrize(
    ("awaited", "severity"),
    [(("agent", "a"), "critical"), (("queue", "q"), "critical"), (("agent", "b"), "warning")],
)
async def test_an_agent_that_does_not_poll(awaited: tuple[str, str], severity: str) -> None:
    async with System() as system:
        system.agent("a", queues=["q"])
        system.queue("q", depth=5, consumed_at=system.ago(5))
        wait = Wait(kind=awaited[0], name=awaited[1])
        system.agent("waiter", system.task("t", wait, stalled=True))
        found = dict(await rules(system, 90))
        assert found["IdleWhileWorkWaits"] == severity
        assert ("TaskStalled" in found) == (severity == "warning")


async def test_an_idle_agent_without_work_is_no_finding() -> None:
    async with System() as system:
        system.agent("a", queues=["q"])
        system.queue("q")
        assert await rules(system, 300) == []


async def test_an_agent_that_is_idle_between_two_tasks_is_no_finding() -> None:
    async with System() as system:
        system.agent("a", queues=["q"])
        for _ in range(20):
            system.queue("q", depth=1, consumed_at=system.clock.now())
            assert alarms(await system.after(5)) == []


async def test_all_slots_wait_for_tasks_that_wait_for_a_slot() -> None:
    async with System() as system:
        system.queue("q", depth=2, consumed_at=system.clock.now())
        pending = [PendingTask(id="child", partition=0, offset=1)]
        system.queue("q", depth=1, tasks=pending, consumed_at=system.clock.now())
        wait = Wait(kind="agent", name="a")
        tasks = [system.task(f"t{number}", wait, stalled=True, queue="q") for number in range(2)]
        system.agent("a", *tasks, queues=["q"], max_parallel_invocations=2)
        assert "SlotsExhausted" in dict(await rules(system))


async def test_another_group_that_was_left_behind_on_its_queue_is_no_finding() -> None:
    async with System() as system:
        system.agent("a", queues=["q"])
        system.queue("q", "a")
        system.queue("q", "console-consumer-4711", depth=9, consumers=0, group_state="Empty")
        assert await rules(system, 120) == []


async def test_a_process_that_has_just_started_is_about_to_consume() -> None:
    async with System() as system:
        key = system.workload("w", system.pod("w-0"))
        own = {"workload": key, "queues": ["q"], "started_at": system.clock.now()}
        system.agent("a", **own)
        system.queue("q", depth=9, consumers=0, group_state="Empty")
        assert "NotConsuming" not in {rule for rule, _ in await rules(system, 55)}
        assert ("NotConsuming", "critical") in await rules(system, 60)
