"""LangChain and LangGraph: `instrument_langchain(agent)`, once, and all that runs is seen.

A run that begins outside of a task becomes one; inside of one it is a part of it. The nodes of a
graph are steps; models, tools and retrievers are waited for.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from .agent import Agent
from .log import guarded
from .runs import Runs

_installed: dict[Agent, Any] = {}


def instrument_langchain(agent: Agent) -> Any:
    """See every run of this process; returns the callback handler that does it.

    Needs langchain-core. It says nothing of a model that was called bare (in no chain, no graph)
    and was cancelled: such a task ends when its Python object is dropped.
    """
    if agent not in _installed:
        from langchain_core.tracers.context import register_configure_hook

        _installed[agent] = _handler(agent)
        variable: ContextVar[Any] = ContextVar("telemetron_langchain", default=_installed[agent])
        register_configure_hook(variable, inheritable=True)
    return _installed[agent]


def _handler(agent: Agent) -> Any:
    from langchain_core.callbacks import BaseCallbackHandler

    class Handler(BaseCallbackHandler):
        """LangChain's callbacks as tasks and waits."""

        run_inline = True  # in the context of what it tells of, and at once
        raise_error = False

        def __init__(self) -> None:
            self._runs = Runs(agent)

        @guarded
        def on_chain_start(
            self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
        ) -> None:
            node = (more.get("metadata") or {}).get("langgraph_node")
            root = parent_run_id is None
            step = node or more.get("name") if root or more.get("name") == node else None
            self._runs.begin(run_id, parent_run_id, step)

        @guarded
        def on_chat_model_start(
            self, serialized: Any, messages: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
        ) -> None:
            self._runs.wait(run_id, parent_run_id, "llm", _model(serialized, more))

        @guarded
        def on_llm_start(
            self, serialized: Any, prompts: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
        ) -> None:
            self._runs.wait(run_id, parent_run_id, "llm", _model(serialized, more))

        @guarded
        def on_tool_start(
            self, serialized: Any, input_str: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
        ) -> None:
            name = (serialized or {}).get("name") or more.get("name")
            self._runs.wait(run_id, parent_run_id, "tool", name)

        @guarded
        def on_retriever_start(
            self, serialized: Any, query: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
        ) -> None:
            name = more.get("name") or (serialized or {}).get("name")
            self._runs.wait(run_id, parent_run_id, "tool", name)

        @guarded
        def _ended(self, result: Any, *, run_id: Any, **more: Any) -> None:
            self._runs.end(run_id)

        @guarded
        def _failed(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
            self._runs.end(run_id, error)

        on_chain_end = on_llm_end = on_tool_end = on_retriever_end = _ended
        on_chain_error = on_llm_error = on_tool_error = on_retriever_error = _failed

    return Handler()


def _model(serialized: Any, more: Any) -> object:
    """The model's name as its caller gave it, else the name of its class."""
    given = more.get("invocation_params") or {}
    named = (more.get("metadata") or {}).get("ls_model_name")
    return given.get("model") or given.get("model_name") or named or more.get("name")
