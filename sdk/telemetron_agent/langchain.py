"""LangChain and LangGraph: `instrument_langchain(agent)` once reports every run.

A run outside of a task becomes a task; inside of a task it is a part of it. The nodes of a graph
are steps; the task waits for models, tools and retrievers. After `interrupt()` the task waits for a
human, until a run of the same thread continues it.
"""

from __future__ import annotations

import asyncio
import weakref
from contextvars import ContextVar
from typing import Any

from .agent import Agent
from .log import guarded
from .runs import Runs

_installed: dict[Agent, Any] = {}


@guarded
def instrument_langchain(agent: Agent) -> Any:
    """Report every run of this process; return the callback handler.

    Needs langchain-core, which does not report the cancellation of a model that was called outside
    of chains and graphs: such a task ends with the calling asyncio task, or with its next call.
    """
    if agent not in _installed:
        from langchain_core.tracers.context import register_configure_hook

        handler = _handler(agent)
        variable: ContextVar[Any] = ContextVar("telemetron_langchain", default=handler)
        register_configure_hook(variable, inheritable=True)
        _installed[agent] = handler
    return _installed[agent]


def _handler(agent: Agent) -> Any:
    from langchain_core.callbacks import BaseCallbackHandler

    class Handler(BaseCallbackHandler):  # type: ignore[misc]
        """Turns callbacks into tasks and waits; copies of a graph's configuration share it."""

        def __copy__(self) -> Any:
            return self

        def __deepcopy__(self, memo: object) -> Any:
            return self

        run_inline = True  # run callbacks at once, in the context of the run
        raise_error = False

        def __init__(self) -> None:
            self._runs = Runs(agent)
            self._bare: weakref.WeakKeyDictionary[asyncio.Task[Any], Any]
            self._bare = weakref.WeakKeyDictionary()

        @guarded
        def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: Any, **more: Any) -> None:
            node = (more.get("metadata") or {}).get("langgraph_node")
            parent, name = more.get("parent_run_id"), more.get("name")
            if parent is None:
                self._left(_here())
            step = node or name if parent is None or name == node else None
            thread = (more.get("metadata") or {}).get("thread_id") if parent is None else None
            self._runs.begin(run_id, parent, step, thread)

        @guarded
        def _model(self, serialized: Any, input: Any, *, run_id: Any, **more: Any) -> None:
            here = _here()
            self._left(here)
            bare = self._runs.wait(run_id, more.get("parent_run_id"), "llm", _model_name(more))
            if bare and here is not None:
                self._bare[here] = run_id
                here.add_done_callback(self._left)

        @guarded
        def on_llm_new_token(self, token: Any, *, run_id: Any, **more: Any) -> None:
            here = (
                _here()
            )  # the end of a stream is reported, and its reader may call models meanwhile
            if here is not None and self._bare.get(here) == run_id:
                del self._bare[here]

        def _left(self, here: asyncio.Task[Any] | None) -> None:
            """End the bare call of an asyncio task that calls again or has ended."""
            if here is None or here not in self._bare:
                return
            here.remove_done_callback(self._left)
            self._runs.end(self._bare.pop(here), asyncio.CancelledError())

        @guarded
        def _tool(self, serialized: Any, input: Any, *, run_id: Any, **more: Any) -> None:
            name = (serialized or {}).get("name") or more.get("name")
            self._runs.wait(run_id, more.get("parent_run_id"), "tool", name)

        @guarded
        def _ended(self, result: Any, *, run_id: Any, **more: Any) -> None:
            self._runs.end(run_id)

        @guarded
        def _failed(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
            if _is_interrupt(error):
                self._runs.interrupt(run_id)
            else:
                self._runs.end(run_id, error)

        on_chat_model_start = on_llm_start = _model
        on_tool_start = on_retriever_start = _tool
        on_chain_end = on_llm_end = on_tool_end = on_retriever_end = _ended
        on_chain_error = on_llm_error = on_tool_error = on_retriever_error = _failed

    return Handler()


def _here() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs
        return None


def _is_interrupt(error: BaseException) -> bool:
    """Return whether it is LangGraph's `interrupt()`, which is no failure."""
    return any(base.__name__ == "GraphInterrupt" for base in type(error).__mro__)


def _model_name(more: Any) -> object:
    """Return the model's name from the call or from its class, or None."""
    given = more.get("invocation_params") or {}
    named = (more.get("metadata") or {}).get("ls_model_name")
    return given.get("model") or given.get("model_name") or named
