"""Runs that frameworks tell of by an id."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import sys

import pytest

from telemetron_agent import Agent, current
from telemetron_agent.runs import MAX_RUNS, Calls, Runs, end_loose


@pytest.fixture
def agent(stand_in) -> Agent:
    with Agent("x", url=stand_in.url, interval=60) as agent:
        yield agent


@pytest.fixture
def runs(agent: Agent) -> Runs:
    return Runs(agent)


def outcomes(stand_in, agent: Agent) -> tuple[int, ...]:
    assert agent.flush(10)
    return tuple(stand_in.beats[-1]["outcomes"].values())


def test_a_run_is_a_task_and_what_runs_in_it_a_step(stand_in, agent, runs) -> None:
    outside = current()
    task = runs.begin("run", step="graph")
    assert (current(), task.step) == (task, "graph")
    assert runs.begin("node", parent="run", step="plan") is task
    assert task.step == "plan"
    runs.wait("call", "node", "llm", "m")
    assert [(wait.kind, wait.name) for wait in task.waits] == [("llm", "m")]
    runs.end("call")
    assert task.waits == ()
    runs.end("node", ValueError())  # which the graph may live with
    runs.end("run")
    runs.end("run")
    assert current() is outside
    assert outcomes(stand_in, agent) == (1, 0, 0)


@pytest.mark.parametrize(
    ("error", "told"),
    [(None, (1, 0, 0)), (KeyError(), (0, 1, 0)), (asyncio.CancelledError(), (0, 0, 1))],
)
def test_how_a_run_ends(stand_in, agent, runs, error, told) -> None:
    runs.begin("run")
    runs.end("run", error)
    assert outcomes(stand_in, agent) == told


def test_within_a_task_of_the_program_a_run_is_a_part_of_it(stand_in, agent, runs) -> None:
    with agent.task("mine") as mine:
        assert runs.begin("run", step="graph") is mine
        runs.wait("call", "run", "tool", "t")
        runs.end("call", KeyError())
        runs.end("run", KeyError())
        assert (mine.step, mine.waits, mine.ended) == ("graph", (), False)
    assert outcomes(stand_in, agent) == (1, 0, 0)


def test_a_bare_call_is_a_task(stand_in, agent, runs) -> None:
    assert runs.wait("call", None, "llm", "m")
    task = runs.task("call")
    assert (task.model, task.waits[0].name) == ("m", "m")
    assert current() is not task  # what is called next is no part of it
    runs.end("call")
    assert runs.wait("tool", None, "tool", "t")
    assert runs.task("tool").model is None
    runs.end("tool", ValueError())
    assert outcomes(stand_in, agent) == (1, 1, 0)


def test_runs_that_never_end_are_bounded(stand_in, agent, runs) -> None:
    def begin(number: int) -> None:
        contextvars.Context().run(runs.begin, number)

    for number in range(MAX_RUNS + 3):
        begin(number)
    assert outcomes(stand_in, agent) == (0, 0, 3)
    assert stand_in.beats[-1]["task_count"] == MAX_RUNS


def test_a_call_ends_by_itself_or_with_its_group(agent: Agent) -> None:
    task, calls = agent.task(), Calls()
    for group, key in (("a", 1), ("a", 2), ("b", 1)):
        calls.begin(group, key, task.wait("tool", f"{group}{key}"))
    calls.end("a", 2)
    calls.end("a", "unknown")
    calls.end("unknown", 1)
    assert [wait.name for wait in task.waits] == ["a1", "b1"]
    calls.end_all("a")
    assert [wait.name for wait in task.waits] == ["b1"]
    assert calls.groups == ["b"]


def test_loose_waits_of_a_run_end_with_it(agent: Agent) -> None:
    with agent.task() as task:
        mine = task.wait("agent", "crew")
        task.wait("human", "left open")
        with task.wait("tool", "held"):
            end_loose(task, (mine,))
            assert [wait.name for wait in task.waits] == ["crew", "held"]


def test_a_node_that_ends_ends_its_own_calls(agent: Agent, runs: Runs) -> None:
    task = runs.begin("graph")
    runs.begin("one", parent="graph")
    runs.begin("two", parent="graph")
    runs.wait("call of one", "one", "llm", "m1")
    runs.wait("call of two", "two", "llm", "m2")
    runs.wait("tool of two", "two", "tool", "t")
    runs.end("tool of two")  # which is progress
    assert [wait.name for wait in task.waits] == ["m1", "m2"]
    runs.end("two", asyncio.CancelledError())  # the end of its call is not reported
    assert [wait.name for wait in task.waits] == ["m1"]
    runs.end("graph")
    assert task.waits == ()
    runs.end("call of one")


def test_an_interrupted_run_waits_for_a_human_and_goes_on(stand_in, agent, runs) -> None:
    outside = current()
    task = runs.begin("first", thread="thread-1")
    runs.begin("node", parent="first")
    runs.interrupt("node")
    runs.end("first")
    assert [wait.kind for wait in task.waits] == ["human"]
    assert current() is outside
    other = runs.begin("other", thread="thread-2")
    assert other is not task
    runs.end("other")
    assert runs.begin("second", thread="thread-1") is current() is task
    assert task.waits == ()
    runs.end("second")
    assert outcomes(stand_in, agent) == (2, 0, 0)


def test_an_interrupted_run_that_cannot_go_on_is_over(stand_in, agent, runs) -> None:
    runs.begin("run")
    runs.interrupt("run")
    assert outcomes(stand_in, agent) == (1, 0, 0)


def test_an_interrupted_part_of_a_program_s_task(agent: Agent, runs: Runs) -> None:
    with agent.task() as task:
        runs.begin("first", thread=1)
        runs.interrupt("first")
        assert [wait.kind for wait in task.waits] == ["human"]
        assert runs.begin("second", thread=1) is task
        assert task.waits == ()
        runs.end("second")
        assert not task.ended


@pytest.mark.parametrize("framework", ["langchain", "openai_agents", "celery", "crewai"])
def test_a_missing_framework_is_logged_once(
    agent: Agent, caplog, monkeypatch, framework: str
) -> None:
    for name in ("langchain_core", "agents", "celery", "crewai"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    module = importlib.import_module(f"telemetron_agent.{framework}")
    for _ in range(2):
        assert getattr(module, f"instrument_{framework}")(agent) is None
    (record,) = [r for r in caplog.records if r.name == "telemetron_agent"]
    assert f"instrument_{framework} failed: ModuleNotFoundError " in record.getMessage()
