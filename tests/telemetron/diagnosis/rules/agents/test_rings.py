"""Rules of rings, each beside the healthy situation that looks most like it."""

from telemetron.document import Wait
from tests.telemetron.diagnosis.system import System, rules


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


async def test_three_tasks_that_wait_for_each_other() -> None:
    async with System() as system:
        for name, awaited, id, parent in (
            ("planner", "coder", "p", None),
            ("coder", "tester", "c", "p"),
            ("tester", "planner", "t", "c"),
        ):
            wait = Wait(kind="agent", name=awaited)
            system.agent(name, system.task(id, wait, stalled=True, parent_id=parent))
        assert await rules(system) == [("WaitCycle", "critical")]
