"""Pydantic AI: `instrument_pydantic_ai(agent)` once reports each run.

A run outside of a task becomes a task; inside of a task it is a part of it. The task waits for
models and tools; the step is the agent's name.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from .agent import Agent
from .log import guarded
from .task import NULL, Task, current

_installed: dict[Agent, Any] = {}


@guarded
def instrument_pydantic_ai(agent: Agent) -> Any:
    """Report every run of `pydantic_ai.Agent` in this process; return the capability.

    Needs pydantic-ai with capabilities (2.0); each run gets one more.
    """
    if agent not in _installed:
        import pydantic_ai

        capability = _capability(agent)
        pydantic_ai.Agent.iter = _with(pydantic_ai.Agent.iter, capability)
        _installed[agent] = capability
    return _installed[agent]


def _with(iter: Any, capability: Any) -> Any:
    """Wrap `Agent.iter`, which every run calls, to add the capability."""

    @wraps(iter)
    def wrapper(self: Any, *args: Any, capabilities: Any = None, **options: Any) -> Any:
        return iter(self, *args, capabilities=[*(capabilities or ()), capability], **options)

    return wrapper


def _capability(agent: Agent) -> Any:
    from pydantic_ai.capabilities import AbstractCapability

    class Telemetron(AbstractCapability[Any]):  # type: ignore[misc]
        """Reports one run; each run has its own copy, so that parallel runs stay separate."""

        _safe_at_runtime = True  # it brings neither tools nor models

        def __init__(self) -> None:
            self.task: Task = NULL

        async def for_run(self, ctx: Any) -> Any:
            return type(self)()

        async def wrap_run(self, ctx: Any, *, handler: Any) -> Any:
            around = current()
            if around is not NULL:
                self.task = around
                return await handler()
            with agent.task(model=_model(ctx)) as self.task:
                self.task.step = getattr(ctx.agent, "name", None)
                return await handler()

        async def wrap_model_request(self, ctx: Any, *, request_context: Any, handler: Any) -> Any:
            with self.task.wait("llm", _model(request_context)):
                response = await handler(request_context)
            self.task.progress()
            return response

        async def wrap_tool_execute(
            self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any
        ) -> Any:
            with self.task.wait("tool", call.tool_name):
                result = await handler(args)
            self.task.progress()
            return result

    return Telemetron()


def _model(context: Any) -> object:
    return getattr(getattr(context, "model", None), "model_name", None)
