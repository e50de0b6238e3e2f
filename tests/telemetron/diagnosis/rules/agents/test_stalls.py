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
