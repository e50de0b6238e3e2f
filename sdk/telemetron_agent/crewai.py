"""CrewAI: `instrument_crewai(agent)`, once, and each crew and flow that runs is seen.

A run outside of a task becomes one; inside of one it is a part of it. Tasks of a crew and methods
of a flow are steps; models and tools are waited for. CrewAI's hooks tell no end of a call that
fails: its wait is closed by what comes next.
"""

from __future__ import annotations

from typing import Any

from .agent import Agent
from .log import guarded
from .runs import Calls, Runs, here
from .task import Task

_installed: set[Agent] = set()


@guarded
def instrument_crewai(agent: Agent) -> None:
    """See every crew and flow of this process. Needs a crewai with interception hooks (1.15)."""
    if agent in _installed:
        return
    from crewai.hooks.dispatch import InterceptionPoint, register

    _installed.add(agent)
    runs = Runs(agent)
    calls = Calls()

    def task(context: Any) -> Task:
        return runs.task(_run(context))

    def execution_start(context: Any) -> None:
        run = getattr(context, "crew", None) or getattr(context, "flow", None)
        runs.begin(id(run), step=getattr(run, "name", None))

    def execution_end(context: Any) -> None:
        for group in calls.groups:
            if group[0] == _run(context):
                calls.end_all(group)
        runs.end(_run(context), context.error)

    def pre_step(context: Any) -> None:
        task(context).progress(context.step_name)

    def pre_model_call(context: Any) -> None:
        calls.end_all(_group(context))  # a model is asked once all tools have answered
        model = getattr(context.llm, "model", None)
        calls.begin(_group(context), "llm", task(context).wait("llm", model))

    def post_model_call(context: Any) -> None:
        calls.end(_group(context), "llm")
        task(context).progress()

    def pre_tool_call(context: Any) -> None:
        wait = task(context).wait("tool", context.tool_name)
        calls.begin(_group(context), _call(context), wait)

    def post_tool_call(context: Any) -> None:
        calls.end(_group(context), _call(context))
        task(context).progress()

    for hook in (
        execution_start,
        execution_end,
        pre_step,
        pre_model_call,
        post_model_call,
        pre_tool_call,
        post_tool_call,
    ):
        register(InterceptionPoint(hook.__name__), guarded(hook))


def _run(context: Any) -> int:
    """Crews and flows are told apart by the object."""
    return id(getattr(context, "crew", None) or getattr(context, "flow", None))


def _group(context: Any) -> tuple[object, ...]:
    """Whose calls: those of tasks that run side by side, in one crew or by one agent, are apart."""
    task = getattr(context, "task", None)
    return _run(context), id(task) if task else here(), id(getattr(context, "agent", None))


def _call(context: Any) -> tuple[object, ...]:
    """Which call of a tool: several of them may run side by side."""
    return context.tool_name, here()
