"""Rules of agents: each beside the healthy situation that looks most like it."""

import pytest

from telemetron.document import Failure, Member, Outcomes, PartitionLag, PendingTask, Wait
from tests.telemetron.diagnosis.system import System, alarms


async def rules(system: System, seconds: float = 60) -> list[tuple[str, str]]:
    """Rule and severity of what is found."""
    return [(one.rule, one.severity) for one in await system.after(seconds)]


async def test_all_instances_silent() -> None:
    async with System() as system:
        system.agent("a", status="silent")
        assert await rules(system) == [("AgentGone", "critical")]


async def test_one_instance_silent() -> None:
    async with System() as system:
        system.agent("a", instance="a-0", status="silent")
        system.agent("a", instance="a-1")
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.path) == ("AgentSilent", "instances/a-0")
        assert finding.since == system.state.agents[0].instances[0].silent_since


async def test_a_beat_that_is_late_is_no_finding() -> None:
    async with System() as system:
        for number in range(10):
            system.agent("a", status="silent" if number % 2 else None)
            assert await system.after(5) == []


async def test_an_instance_that_said_goodbye_is_no_finding() -> None:
    async with System() as system:
        system.agent("a")
        await system.after(5)
        system.goodbye("a-0")
        assert await rules(system) == []


async def test_a_pod_that_was_scaled_away_without_tasks_is_information() -> None:
    async with System() as system:
        key = system.workload("a", system.pod("a-1"))
        system.agent("a", instance="a-0", status="silent", pod="a-0", workload=key)
        system.agent("a", instance="a-1", pod="a-1", workload=key)
        assert await rules(system) == [("AgentSilent", "info")]


async def test_a_silent_instance_whose_partitions_move_is_alive() -> None:
    async with System() as system:
        key = system.workload("a", system.pod("a-0", ip="10.0.0.1"), system.pod("a-1"))
        system.agent("a", instance="a-0", status="silent", pod="a-0", workload=key, queues=["q"])
        system.agent("a", instance="a-1", pod="a-1", workload=key, queues=["q"])
        member = Member(client_id="c", host="10.0.0.1", partitions=[0], partition_count=1)
        for _ in range(10):
            system.queue("q", members=[member], consumed_at=system.clock.now())
            await system.after(5)
        (finding,) = system.findings
        assert (finding.rule, finding.severity) == ("AgentSilent", "info")
        assert finding.basis == "contradiction"
        assert {one.section for one in finding.evidence} == {"agents", "queues"}


async def test_a_member_whose_partition_stands_still_is_no_sign_of_life() -> None:
    async with System() as system:
        key = system.workload("a", system.pod("a-0", ip="10.0.0.1"), system.pod("a-1"))
        system.agent("a", instance="a-0", status="silent", pod="a-0", workload=key, queues=["q"])
        system.agent("a", instance="a-1", pod="a-1", workload=key, queues=["q"])
        member = Member(client_id="c", host="10.0.0.1", partitions=[0], partition_count=1)
        lag = PartitionLag(partition=0, lag=3, consumed_at=system.ago(100))
        for _ in range(10):
            now = system.clock.now()
            system.queue("q", members=[member], lagging=[lag], consumed_at=now)
            await system.after(5)
        assert ("AgentSilent", "warning") in [(one.rule, one.severity) for one in system.findings]


async def test_a_declared_agent_that_never_beat_is_no_finding() -> None:
    async with System() as system:
        system.agent("a", status="declared")
        assert await rules(system) == []


async def test_a_task_in_a_tool_that_hangs() -> None:
    async with System() as system:
        stuck = system.task("t1", Wait(kind="tool", name="chromium"), stalled=True)
        system.agent("browser", stuck, system.task("t2"))
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.path) == (
            "TaskStalled",
            "activity/active_task_ids/t1",
        )
        assert "waiting for tool chromium" in finding.summary
        assert finding.since == stuck.progressed_at


async def test_a_tool_that_hangs_for_several_agents_is_one_finding() -> None:
    async with System() as system:
        for name in ("a", "b", "c"):
            wait = Wait(kind="tool", name="search")
            system.agent(name, system.task(f"t-{name}", wait, stalled=True))
        (finding,) = await system.after(60)
        assert (finding.rule, finding.effect_count) == ("CommonWait", 3)
        assert (finding.root.kind, finding.root.name) == ("tool", "search")


@pytest.mark.parametrize("kind", ["human", "auth"])
async def test_a_task_that_waits_for_people_is_no_finding(kind: str) -> None:
    async with System() as system:
        wait = Wait(kind=kind, name="approval")
        system.agent("a", system.task("t", wait, stalled=True, status="waiting"))
        assert await rules(system, 300) == []


async def test_a_long_task_that_progresses_is_no_finding() -> None:
    async with System() as system:
        system.agent("a", system.task("t", started_on=system.ago(7200)))
        assert await rules(system, 300) == []


async def test_a_parent_that_waits_for_its_stalled_child_is_an_effect() -> None:
    async with System() as system:
        parent = system.task("p", Wait(kind="agent", name="child"), stalled=True)
        stuck = system.task("c", Wait(kind="tool", name="x"), stalled=True, parent_id="p")
        system.agent("boss", parent)
        system.agent("child", stuck)
        (finding,) = await system.after(60)
        assert finding.root.key == "prod/child"
        assert [one.key for one in finding.effects] == ["prod/boss"]


async def test_tasks_that_wait_for_each_other() -> None:
    async with System() as system:
        first = system.task("c1", Wait(kind="agent", name="tester"), stalled=True)
        second = system.task("t1", Wait(kind="agent", name="coder"), stalled=True, parent_id="c1")
        system.agent("coder", first)
        system.agent("tester", second)
        (finding,) = await system.after(60)
        assert (finding.rule, finding.severity) == ("WaitCycle", "critical")
        assert "c1, t1" in finding.summary


async def test_a_ring_that_is_named_by_task_ids() -> None:
    async with System() as system:
        for number, other in ((1, 2), (2, 3), (3, 1)):
            wait = Wait(kind="agent", name=f"a{other}", task=f"t{other}")
            system.agent(f"a{number}", system.task(f"t{number}", wait, stalled=True))
        (finding,) = await system.after(60)
        assert finding.rule == "WaitCycle"


async def test_agents_that_ask_each_other_and_get_on_are_no_ring() -> None:
    async with System() as system:
        system.agent("coder", system.task("c1", Wait(kind="agent", name="tester")))
        system.agent("tester", system.task("t1", Wait(kind="agent", name="coder"), parent_id="c1"))
        assert await rules(system) == []


async def test_tasks_that_are_each_others_parents() -> None:
    async with System() as system:
        system.agent("a", system.task("one", parent_id="two"))
        system.agent("b", system.task("two", parent_id="one"))
        assert [rule for rule, _ in await rules(system)] == ["HandoffLoop"]


async def test_a_deep_chain_of_parents_is_no_loop() -> None:
    async with System() as system:
        for number in range(8):
            system.agent(f"a{number}", system.task(f"t{number}", parent_id=f"t{number - 1}"))
        assert await rules(system) == []


async def test_children_of_a_lost_parent() -> None:
    async with System() as system:
        system.agent("boss", instance="boss-1")
        lost = system.task("p", last_known=True, stalled=None)
        system.agent("boss", lost, instance="boss-0", status="silent")
        system.agent("child", system.task("c", parent_id="p"))
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.path) == ("AgentSilent", "instances/boss-0")
        assert [one.rule for one in finding.effects] == ["OrphanTask"]


async def test_a_task_whose_parent_has_ended_is_no_orphan() -> None:
    async with System() as system:
        system.agent("child", system.task("c", parent_id="over"))
        assert await rules(system) == []


async def test_a_task_on_a_pod_that_has_ended() -> None:
    async with System() as system:
        pod = system.pod("a-0", status="Failed", ready=False, reason="Evicted")
        key = system.workload("a", pod, system.pod("a-1"))
        system.agent("a", system.task("t"), instance="a-0", pod="a-0", workload=key)
        assert [rule for rule, _ in await rules(system)] == ["GhostTask"]


async def test_a_task_that_is_active_twice() -> None:
    async with System() as system:
        system.agent("a", system.task("t"), instance="a-0")
        system.agent("a", system.task("t"), instance="a-1")
        assert [rule for rule, _ in await rules(system)] == ["DuplicateTask"]


async def test_a_task_that_moves_to_another_instance_is_no_duplicate() -> None:
    async with System() as system:
        lost = system.task("t", last_known=True, stalled=None)
        system.agent("a", lost, instance="a-0", status="silent")
        system.agent("a", system.task("t"), instance="a-1")
        assert "DuplicateTask" not in dict(await rules(system))


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


async def run(system: System, *, completed: int, failed: int, **fields: object) -> None:
    """A minute in which so many tasks end each 5 s."""
    error = fields.pop("error", "TimeoutError")
    for number in range(1, 13):
        outcomes = Outcomes(completed * number, failed * number)
        last = Failure(task_id=f"t{number}", error=str(error), at=system.clock.now())
        system.agent("a", outcomes=outcomes, last_failure=last if failed else None, **fields)
        await system.after(5)


async def test_tasks_that_all_fail() -> None:
    async with System() as system:
        await run(system, completed=0, failed=1)
        assert [(one.rule, one.severity) for one in system.findings] == [
            ("AgentFailing", "critical")
        ]


@pytest.mark.parametrize("failed", [0, 1])
async def test_a_task_that_fails_now_and_then_is_no_finding(failed: int) -> None:
    async with System() as system:
        await run(system, completed=9, failed=failed)
        assert system.findings == []


async def test_a_model_that_nobody_serves() -> None:
    async with System() as system:
        system.model("x", "gpt")
        await run(system, completed=0, failed=1, error="NotFoundError", models=["gpt-99"])
        (finding,) = system.findings
        assert (finding.rule, finding.root.name) == ("ModelUnknown", "gpt-99")
        assert [one.rule for one in finding.effects] == ["AgentFailing"]


async def test_a_model_beside_the_proxy_that_works_is_no_finding() -> None:
    async with System() as system:
        system.model("x", "gpt")
        system.agent("a", system.task("t"), models=["my-own-model"])
        assert await rules(system) == []


async def test_a_model_that_a_pattern_serves_is_known() -> None:
    async with System() as system:
        system.model("x", "openai/*")
        await run(system, completed=9, failed=1, error="NotFoundError", models=["openai/gpt"])
        assert system.findings == []


async def test_failures_by_a_model_that_is_down_are_its_effects() -> None:
    async with System() as system:
        system.model("x", "gpt", status="unhealthy")
        await run(system, completed=0, failed=1, models=["gpt"])
        (finding,) = system.findings
        assert finding.rule == "ModelDown"
        assert [one.rule for one in finding.effects] == ["AgentFailing"]


async def test_an_agent_that_does_not_take_what_waits_for_it() -> None:
    async with System() as system:
        system.agent("a", queues=["q"])
        system.queue("q", depth=5, consumers=0, group_state="Empty", consumed_at=system.ago(5))
        (finding,) = await system.after(90)
        assert finding.rule in ("IdleWhileWorkWaits", "NoConsumers")
        assert finding.effect_count == 1


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


async def test_a_clock_that_differs_is_information() -> None:
    async with System() as system:
        system.agent("a", clock_offset_seconds=-3600.0)
        assert await rules(system) == [("ClockSkew", "info")]
