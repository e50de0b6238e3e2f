"""A LangGraph graph that reports to Telemetron: `TELEMETRON_URL=… python langgraph_agent.py`.

Needs: pip install telemetron-agent langgraph
"""

import time
from collections.abc import Iterator
from itertools import repeat
from typing import Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph

from telemetron_agent import Agent
from telemetron_agent.langchain import instrument_langchain

instrument_langchain(Agent("langgraph", interval=1))  # the only line for Telemetron


class StandIn(GenericFakeChatModel):
    """A fake model that answers slowly."""

    messages: Iterator[AIMessage] = repeat(AIMessage("Look at the tides."))
    model_name: str = "stand-in"

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(0.6)
        return super()._generate(*args, **kwargs)

    def _get_ls_params(self, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(**kwargs), "ls_model_name": self.model_name}


@tool
def look_up(subject: str) -> str:
    """Look something up."""
    time.sleep(0.6)
    return f"Facts about {subject}."


def plan(state: MessagesState) -> MessagesState:
    return {"messages": [StandIn().invoke(state["messages"])]}


def act(state: MessagesState) -> MessagesState:
    return {"messages": [AIMessage(look_up.invoke({"subject": "tides"}))]}


graph = StateGraph(MessagesState)
graph.add_node("plan", plan)
graph.add_node("act", act)
graph.add_edge(START, "plan")
graph.add_edge("plan", "act")
graph.add_edge("act", END)

if __name__ == "__main__":
    answer = graph.compile().invoke({"messages": [HumanMessage("Why does the sea rise?")]})
    print(answer["messages"][-1].content)
