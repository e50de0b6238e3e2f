"""CrewAI: `instrument_crewai(agent)` once reports each run of a crew or a flow.

A run outside of a task becomes a task; inside of a task it is a part of it. Tasks of a crew and
methods of a flow are steps; the task waits for models and tools. CrewAI's hooks do not report the
end of a failed call: its wait ends with the next event.
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
    """Report every crew and flow of this process. Needs crewai with interception hooks (1.15)."""
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
        calls.end_all(_group(context))  # a model is called after all tools have answered
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
    """Identify a crew or a flow by its object."""
    return id(getattr(context, "crew", None) or getattr(context, "flow", None))


def _group(context: Any) -> tuple[object, ...]:
    """Return the group of a call: parallel tasks of one crew or agent are separate."""
    task = getattr(context, "task", None)
    return _run(context), id(task) if task else here(), id(getattr(context, "agent", None))


def _call(context: Any) -> tuple[object, ...]:
    """Return the key of a tool's call: several may run in parallel."""
    return context.tool_name, here()
