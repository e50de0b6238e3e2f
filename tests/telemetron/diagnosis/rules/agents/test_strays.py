"""Rules of stray tasks, each beside the healthy situation that looks most like it."""

from tests.telemetron.diagnosis.system import System, rules


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


async def test_a_stalled_task_on_a_pod_that_has_ended_is_one_finding() -> None:
    async with System() as system:
        pod = system.pod("a-0", status="Failed", ready=False, reason="Evicted")
        key = system.workload("a", pod, system.pod("a-1"))
        stuck = system.task("t", stalled=True)
        system.agent("a", stuck, instance="a-0", pod="a-0", workload=key)
        (finding,) = await system.after(60)
        assert finding.rule == "GhostTask"
        assert [one.rule for one in finding.effects] == ["TaskStalled"]


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
