"""OpenAI Agents SDK: `instrument_openai_agents(agent)`, once, and each run is seen.

A run outside of a task becomes one; inside of one it is a part of it. The agents that take turns
are steps; models and tools are waited for.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .agent import Agent
from .log import guarded, guarded_async
from .runs import Calls, end_loose
from .task import NULL, Task, current, leave
from .text import text

_installed: dict[Agent, Any] = {}


@guarded
def instrument_openai_agents(agent: Agent) -> Any:
    """See every run of `agents.Runner` in this process; returns the hooks, for other runners.

    Needs openai-agents. The SDK's default runner is replaced by one that does the same, and ends
    the task with the run: its own hooks tell nothing of a run that fails or is cancelled.
    """
    if agent not in _installed:
        from agents import run

        hooks = _hooks()
        run.set_default_agent_runner(_runner(agent, hooks, run.get_default_agent_runner()))
        _installed[agent] = hooks
    return _installed[agent]


def _hooks() -> Any:
    from agents import RunHooks

    class Hooks(RunHooks):  # type: ignore[misc]
        """The SDK's hooks as waits and steps of the current task."""

        @guarded_async
        def on_agent_start(self, context: Any, agent: Any) -> None:
            current().progress(agent.name)

        @guarded_async
        def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
            _end_calls()
            current().progress(f"handed over to {to_agent.name}")

        @guarded_async
        def on_llm_start(self, context: Any, agent: Any, *prompt: Any) -> None:
            _end_calls()  # a model is asked once all tools have answered
            current().step = text(agent.name)
            _begin_call("llm", _model(agent), "llm")

        @guarded_async
        def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
            _end_call("llm")
            current().progress()

        @guarded_async
        def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
            _begin_call("tool", tool.name, _call_id(context, tool))

        @guarded_async
        def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            _end_call(_call_id(context, tool))
            current().progress(agent.name)

    return Hooks()


def _model(agent: Any) -> object:
    """The model's name; None where the default one is used."""
    return agent.model if isinstance(agent.model, str) else getattr(agent.model, "model", None)


def _runner(agent: Agent, hooks: Any, inner: Any) -> Any:
    from agents.run import AgentRunner

    class Runner(AgentRunner):  # type: ignore[misc]
        """Runs as `inner` does, each run within a task."""

        async def run(self, starting_agent: Any, input: Any, **options: Any) -> Any:
            with _Run(agent):
                return await inner.run(starting_agent, input, **_with(hooks, options))

        def run_sync(self, starting_agent: Any, input: Any, **options: Any) -> Any:
            with _Run(agent):
                return inner.run_sync(starting_agent, input, **_with(hooks, options))

        def run_streamed(self, starting_agent: Any, input: Any, **options: Any) -> Any:
            run = _Run(agent)
            with run.started():
                result = inner.run_streamed(starting_agent, input, **_with(hooks, options))
            run.goes_on(result)
            return result

    return Runner()


_running: weakref.WeakKeyDictionary[Task, _Run] = weakref.WeakKeyDictionary()
"""Tasks that a run goes on in. A run within one, as of an agent that is a tool, is its child."""
_calls = Calls()
"""Models and tools that runs wait for; several tools may be called at once."""


def _begin_call(kind: str, name: object, key: object) -> None:
    task = current()
    _calls.begin(_running.get(task), key, task.wait(kind, name))


def _end_call(key: object) -> None:
    _calls.end(_running.get(current()), key)


def _end_calls() -> None:
    """End the calls that the run left open: a model or a tool that failed."""
    run = _running.get(current())
    if run is not None:
        run.end_calls()


def _call_id(context: Any, tool: Any) -> object:
    """What tells calls of one tool apart."""
    return getattr(context, "tool_call_id", tool.name)


class _Run:
    """One run: a part of the task that the program began, else a task of its own."""

    def __init__(self, agent: Agent) -> None:
        around = current()
        self._own = around is NULL or around in _running
        self._task = agent.task() if self._own else around
        self._kept = self._task.waits  # the program's own
        _running[self._task] = self

    def __enter__(self) -> None:
        self._token = self._task.enter()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        leave(self._token)
        self._end(kind, error)

    @contextmanager
    def started(self) -> Iterator[None]:
        """What begins the run and leaves it running; where that fails, so has the run."""
        token = self._task.enter()
        try:
            yield
        except BaseException as error:
            self._end(type(error), error)
            raise
        finally:
            leave(token)

    @guarded
    def goes_on(self, result: Any) -> None:
        """It ends with the asyncio task of a streamed result."""
        result.run_loop_task.add_done_callback(self._done)

    def _done(self, loop: asyncio.Task[Any]) -> None:
        """The end of a run that went on by itself."""
        error = asyncio.CancelledError() if loop.cancelled() else loop.exception()
        self._end(type(error) if error else None, error)

    def end_calls(self) -> None:
        """End what its calls wait for, and waits that nothing else will end."""
        _calls.end_all(self)
        end_loose(self._task, self._kept)

    def _end(self, kind: Any, error: Any) -> None:
        _running.pop(self._task, None)
        self.end_calls()
        if self._own:
            self._task.__exit__(kind, error, None)


def _with(hooks: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a run, with these hooks before its own."""
    both = _both(hooks, options.get("hooks"))
    return options if both is None else {**options, "hooks": both}


@guarded
def _both(hooks: Any, own: Any) -> Any:
    """One that calls both; None: the run keeps its own, or what is none, for the SDK to refuse."""
    from agents.lifecycle import RunHooksBase

    if own is None:
        return hooks
    if own is hooks or not isinstance(own, RunHooksBase):
        return None

    def call(name: str) -> Any:
        async def both(*args: Any, **kwargs: Any) -> None:
            await getattr(hooks, name)(*args, **kwargs)
            await getattr(own, name)(*args, **kwargs)

        return both

    both: Any = RunHooksBase()
    for name in dir(RunHooksBase):
        if name.startswith("on_"):
            setattr(both, name, call(name))
    return both
