"""Rules of stalled tasks, each beside the healthy situation that looks most like it."""

import pytest

from telemetron.document import (
    Wait,
)
from tests.telemetron.diagnosis.system import System, rules


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


async def test_a_tool_that_is_a_workload_is_explained_by_its_pods() -> None:
    async with System() as system:
        system.workload("qdrant", system.pod("q-0", ready=False, reason="CrashLoopBackOff"))
        system.agent("a", system.task("t", Wait(kind="tool", name="qdrant"), stalled=True))
        system.agent("b", system.task("u", Wait(kind="tool", name="qdrant"), stalled=True))
        (finding,) = await system.after(60)
        assert (finding.rule, finding.effect_count) == ("WorkloadCrashing", 2)


@pytest.mark.parametrize(
    ("namespaces", "roots"),
    [
        (["tools"], {"WorkloadCrashing"}),
        (["red", "blue"], {"TaskStalled", "WorkloadCrashing"}),
        (["red", "prod"], {"WorkloadCrashing"}),
    ],
)
async def test_a_tool_is_a_workload_of_its_namespace_or_the_only_one_of_its_name(
    namespaces: list[str], roots: set[str]
) -> None:
    async with System() as system:
        for one in namespaces:
            bad = system.pod("q-0", ready=False, reason="CrashLoopBackOff")
            system.workload("qdrant", bad, namespace=one)
        system.agent("a", system.task("t", Wait(kind="tool", name="qdrant"), stalled=True))
        assert {rule for rule, _ in await rules(system)} == roots


async def test_agents_of_two_namespaces_that_wait_for_their_own_agents_have_no_wait_in_common() -> (
    None
):
    async with System() as system:
        for name, namespace in (("a", "red"), ("b", "blue")):
            wait = Wait(kind="agent", name="writer")
            task = system.task(f"t-{name}", wait, stalled=True)
            system.agent(name, task, namespace=namespace)
        assert await rules(system) == [("TaskStalled", "warning"), ("TaskStalled", "warning")]


async def test_a_tool_whose_workload_is_well_is_the_root() -> None:
    async with System() as system:
        system.workload("qdrant", system.pod("q-0"))
        system.agent("a", system.task("t", Wait(kind="tool", name="qdrant"), stalled=True))
        assert await rules(system) == [("TaskStalled", "warning")]


async def test_a_task_that_waits_for_one_that_waits_for_a_person_is_no_finding() -> None:
    async with System() as system:
        system.agent("boss", system.task("t", Wait(kind="agent", name="a"), stalled=True))
        ask = Wait(kind="human", name="approval")
        system.agent("a", system.task("u", ask, stalled=True, parent_id="t"))
        assert await rules(system) == []


async def test_a_wait_as_long_as_the_calls_of_its_model_take_is_no_finding() -> None:
    async with System() as system:
        system.model("m-1", latency_seconds=40.0)
        await system.after(5)
        wait = Wait(kind="llm", name="m", since=system.ago(30))
        system.agent("a", system.task("t", wait, stalled=True))
        assert await rules(system, 80) == []
        assert await rules(system) == [("TaskStalled", "warning")]


async def test_tasks_that_wait_for_a_queue_are_explained_by_the_hang_of_its_reader() -> None:
    async with System() as system:
        system.queue("q")
        system.agent("reader", system.task("u", stalled=True), queues=["q"])
        system.agent("boss", system.task("t", Wait(kind="queue", name="q"), stalled=True))
        (finding,) = await system.after(60)
        assert (finding.root.key, finding.effect_count) == ("prod/reader", 1)


async def test_tools_that_only_one_agent_uses_are_one_finding() -> None:
    async with System() as system:
        waits = [Wait(kind="tool", name=name) for name in ("sandbox", "git")]
        tasks = [system.task(f"t-{one.name}", one, stalled=True) for one in waits]
        system.agent("tester", *tasks)
        (finding,) = await system.after(60)
        assert finding.summary.endswith(
            "2 tasks of agent tester make no progress, waiting for tool git and tool sandbox"
        )
        other = system.task("u", Wait(kind="tool", name="git"), stalled=True)
        system.agent("coder", other)
        assert sorted(await rules(system)) == [
            ("CommonWait", "warning"),
            ("TaskStalled", "warning"),
        ]


async def test_an_agent_that_has_left_is_explained_by_the_workload_of_its_name() -> None:
    async with System() as system:
        bad = system.pod("w-0", status="Pending", ready=False, reason="ImagePullBackOff")
        system.workload("writer", bad)
        system.agent("a", system.task("t", Wait(kind="agent", name="writer"), stalled=True))
        (finding,) = await system.after(60)
        assert (finding.rule, finding.effect_count) == ("ImagePull", 1)


async def test_a_queue_that_no_source_shows_is_that_of_the_agents_that_declare_it() -> None:
    async with System() as system:
        system.agent("reader", status="silent", queues=["q"])
        system.agent("boss", system.task("t", Wait(kind="queue", name="q"), stalled=True))
        (finding,) = await system.after(60)
        assert (finding.rule, finding.effect_count) == ("AgentGone", 1)
