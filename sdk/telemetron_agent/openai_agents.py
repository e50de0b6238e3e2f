"""OpenAI Agents SDK: `instrument_openai_agents(agent)` once reports each run.

A run outside of a task becomes a task; inside of a task it is a part of it. Each agent's turn is a
step; the task waits for models and tools.
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
    """Report every run of `agents.Runner` in this process; return the hooks, for other runners.

    Needs openai-agents. This wraps the SDK's default runner and ends the task with the run: the
    SDK's own hooks do not report a run that fails or is cancelled.
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
        """Turns the SDK's hooks into waits and steps of the current task."""

        @guarded_async
        def on_agent_start(self, context: Any, agent: Any) -> None:
            current().progress(agent.name)

        @guarded_async
        def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
            _end_calls()
            current().progress(f"handed over to {to_agent.name}")

        @guarded_async
        def on_llm_start(self, context: Any, agent: Any, *prompt: Any) -> None:
            _end_calls()  # a model is called after all tools have answered
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
    """Return the model's name, or None for the default model."""
    return agent.model if isinstance(agent.model, str) else getattr(agent.model, "model", None)


def _runner(agent: Agent, hooks: Any, inner: Any) -> Any:
    from agents.run import AgentRunner

    class Runner(AgentRunner):  # type: ignore[misc]
        """Runs `inner`, each run within a task."""

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
            run.end_with(result)
            return result

    return Runner()


_running: weakref.WeakKeyDictionary[Task, _Run] = weakref.WeakKeyDictionary()
"""Tasks with an open run. A run inside one, as of an agent used as a tool, is its child."""
_calls = Calls()
"""Open calls of models and tools; several tools may be called at once."""


def _begin_call(kind: str, name: object, key: object) -> None:
    task = current()
    _calls.begin(_running.get(task), key, task.wait(kind, name))


def _end_call(key: object) -> None:
    _calls.end(_running.get(current()), key)


def _end_calls() -> None:
    """End the calls that the run left open: failed models and tools."""
    run = _running.get(current())
    if run is not None:
        run.end_calls()


def _call_id(context: Any, tool: Any) -> object:
    """Return an id of the call, or the tool's name."""
    return getattr(context, "tool_call_id", tool.name)


class _Run:
    """One run: a part of the program's task, or else a task of its own."""

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
        """Start a run that continues after the block; an exception ends it."""
        token = self._task.enter()
        try:
            yield
        except BaseException as error:
            self._end(type(error), error)
            raise
        finally:
            leave(token)

    @guarded
    def end_with(self, result: Any) -> None:
        """End the run with the asyncio task of its streamed result."""
        result.run_loop_task.add_done_callback(self._done)

    def _done(self, loop: asyncio.Task[Any]) -> None:
        """End a streamed run."""
        error = asyncio.CancelledError() if loop.cancelled() else loop.exception()
        self._end(type(error) if error else None, error)

    def end_calls(self) -> None:
        """End the waits of its calls, and other waits that nothing else will end."""
        _calls.end_all(self)
        end_loose(self._task, self._kept)

    def _end(self, kind: Any, error: Any) -> None:
        _running.pop(self._task, None)
        self.end_calls()
        if self._own:
            self._task.__exit__(kind, error, None)


def _with(hooks: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run, with these hooks before its own."""
    both = _both(hooks, options.get("hooks"))
    return options if both is None else {**options, "hooks": both}


@guarded
def _both(hooks: Any, own: Any) -> Any:
    """Return hooks that call both; None if the run keeps its own, or has invalid ones."""
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
