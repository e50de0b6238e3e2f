"""Tasks as several rules look at them."""

import pytest

from telemetron.diagnosis.rules.agents.tasks import (
    agents_named,
    children,
    counted,
    of_wait,
    owners,
    stuck,
    waiting,
)
from telemetron.diagnosis.view import View
from telemetron.document import Agent, Wait
from tests.telemetron.diagnosis.system import System


def agents(system: System) -> tuple[View, dict[str, Agent]]:
    """A view of what is published, and the agents by key."""
    view = system.view()
    return view, {one.key: one for one in system.state.agents}


async def test_a_stalled_task_that_waits_for_people_is_not_stuck() -> None:
    async with System() as system:
        for id, kind in (("a", "tool"), ("b", "human"), ("c", "auth")):
            system.agent(id, system.task(id, Wait(kind=kind, name="x"), stalled=True))
        system.agent("d", system.task("d", Wait(kind="tool", name="x")))
        await system.settle()
        _, found = agents(system)
        assert [task.id for one in found.values() for task in stuck(one)] == ["a"]


async def test_a_wait_names_an_agent_of_its_own_namespace_first() -> None:
    async with System() as system:
        system.agent("writer")
        system.agent("writer", instance="w-1", namespace="test")
        system.agent("asker", system.task("t"), namespace="test")
        system.agent("far", system.task("u"), namespace="other")
        await system.settle()
        view, found = agents(system)
        wait = Wait(kind="agent", name="writer")
        named = [one.key for one in agents_named(wait, found["test/asker"], view)]
        assert named == ["test/writer"]
        assert agents_named(wait, found["other/far"], view) == []  # it may mean either
        (only,) = agents_named(Wait(kind="agent", name="asker"), found["other/far"], view)
        assert only.key == "test/asker"


async def test_a_task_is_found_by_its_id_and_by_its_parents() -> None:
    async with System() as system:
        system.agent("a", system.task("p"))
        system.agent("b", system.task("c", parent_id="p"))
        await system.settle()
        view, _ = agents(system)
        assert [(one.key, task.id) for one, task in owners("p", view)] == [("prod/a", "p")]
        assert [(one.key, task.id) for one, task in children("p", view)] == [("prod/b", "c")]


async def test_the_words_for_tasks_and_waits() -> None:
    async with System() as system:
        one, other = system.task("one"), system.task("other")
        system.agent("a", one)
        await system.settle()
        assert counted([one]) == "Task one"
        assert counted([one, other]) == "2 tasks"
        assert of_wait(agents(system)[1]["prod/a"], one) == []


@pytest.mark.parametrize(
    ("awaited", "said"),
    [
        (("", ""), ""),
        (("tool", ""), ", waiting for tool"),
        (("llm", "gpt"), ", waiting for llm gpt"),
    ],
)
def test_the_words_for_a_wait(awaited: tuple[str, str], said: str) -> None:
    assert waiting(awaited) == said
