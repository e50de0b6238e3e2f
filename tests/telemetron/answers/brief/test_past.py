"""The past of a brief has the changes around an onset, without the coming and going of tasks."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from telemetron.answers.brief import past
from telemetron.answers.brief.past import Asked, PastChange, Window, onset, ordered
from telemetron.document import Root
from telemetron.history.history import History
from tests.telemetron.answers.brief.made import (
    NOW,
    agent,
    ago,
    finding,
    incident,
    snapshot,
    surveyed,
)
from tests.telemetron.diagnosis.system import System

QUEUE = ("queues", "kafka/sections/g")
AGENT = ("agents", "prod/planner")


@pytest.fixture
async def kept() -> AsyncIterator[tuple[System, History]]:
    async with System() as system:
        history = History(system.store)
        history.start()
        yield system, history
        await history.stop()


async def asked(system: System, history: History, *asked: Any) -> list[PastChange]:
    wanted, now = Asked(*asked), system.clock.now()
    return await history.ask(lambda timeline: past.changes(timeline, wanted, now))


async def test_status_changes_are_told_and_tasks_are_not(kept: tuple[System, History]) -> None:
    system, history = kept
    for number in range(3):
        system.agent("planner", system.task(f"t-{number}"))
        system.queue("sections", consumers=2)
        await system.after(1)
    system.agent("planner", status="silent")
    system.queue("sections", consumers=0, group_state="Empty")
    await system.after(1)
    found = await asked(system, history, [AGENT, QUEUE])
    told = {(one.id, one.field, one.old, one.new) for one in found}
    assert (AGENT, "status", "active", "silent") in told
    assert (QUEUE, "consumers", 2, 0) in told
    assert (QUEUE, "group_state", "Stable", "Empty") in told
    assert not [one for one in found if "task" in one.field]
    assert found[0].at == max(one.at for one in found)


async def test_changes_outside_the_windows_are_left_out(kept: tuple[System, History]) -> None:
    system, history = kept
    system.queue("sections", consumers=2)
    await system.after(600)
    system.queue("sections", consumers=0)
    await system.after(1)
    window = Window(system.ago(60), system.ago(0))
    found = await asked(system, history, [QUEUE], [window], 1)
    assert [(one.field, one.new) for one in found] == [("consumers", 0)]


async def test_an_entity_that_is_not_recorded_has_no_changes(kept: tuple[System, History]) -> None:
    assert await asked(*kept, [("agents", "prod/nobody")]) == []


def test_the_onset_asks_about_the_entities_of_the_findings() -> None:
    survey = surveyed(snapshot(**incident()))
    wanted = onset(survey, survey.findings)
    home = "kubernetes/prod/Deployment/writer"
    assert wanted.ids[:3] == [("workload", home), QUEUE, AGENT]
    assert wanted.own == 3
    (window,) = wanted.windows
    assert window.has(ago(95))
    assert not window.has(ago(1_000))
    assert not window.has(NOW)


def test_without_findings_nothing_is_asked() -> None:
    survey = surveyed(snapshot(agents=[agent("a")]))
    assert onset(survey, []).ids == []
    timeless = finding(1, Root("agents", "prod/a"), since=None, raised_at=None)
    assert onset(survey, [timeless]).ids == []


def test_alike_changes_of_several_items_are_one() -> None:
    pods = [PastChange(NOW, QUEUE, f"pods/{n}/reason", None, "Error") for n in range(3)]
    other = PastChange(NOW, QUEUE, "pods/9/reason", None, "OOMKilled")
    found = ordered([*pods, other], Asked([QUEUE]))
    assert {(one.field, one.items) for one in found} == {("pods/0/reason", 3), ("pods/9/reason", 1)}


def test_the_own_entities_come_first() -> None:
    early = PastChange(NOW - timedelta(seconds=9), AGENT, "status", "idle", "silent")
    late = PastChange(NOW, QUEUE, "consumers", 2, 0)
    found = ordered([early, late], Asked([QUEUE, AGENT], [Window()], 1))
    assert [one.id for one in found] == [QUEUE, AGENT]
