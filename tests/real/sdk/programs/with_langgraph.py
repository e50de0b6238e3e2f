"""What LangGraph can do: run, fail, be cancelled, stream, be a part of a task."""

import asyncio
from itertools import repeat

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from telemetron_agent import Agent, current
from telemetron_agent.langchain import instrument_langchain

agent = Agent("langgraph", interval=60)
assert instrument_langchain(agent) is instrument_langchain(agent)


class Model(GenericFakeChatModel):
    def _generate(self, *args, **kwargs):
        agent.flush(10)  # tells this moment
        return super()._generate(*args, **kwargs)


class Hanging(Model):
    async def _agenerate(self, *args, **kwargs):
        await asyncio.sleep(60)


model = Model(messages=repeat(AIMessage("x")))


def graph(node):
    made = StateGraph(MessagesState)
    made.add_node("work", node)
    made.add_edge(START, "work")
    made.add_edge("work", END)
    return made.compile()


async def ask(state):
    return {"messages": [await model.ainvoke(state["messages"])]}


async def fail(state):
    raise KeyError("a secret")


async def hang(state):
    started.set()
    await asyncio.sleep(60)


def ask_human(state):
    answer = interrupt("may I?")
    return {"messages": [("ai", answer)]}


async def parallel():
    """Two nodes side by side: one model returns, the other one hangs."""
    quick, slow = Model(messages=repeat(AIMessage("x"))), Hanging(messages=repeat(AIMessage("x")))

    async def returns(state):
        await quick.ainvoke("q", config={"metadata": {"ls_model_name": "quick"}})
        returned.set()
        return {"messages": []}

    async def hangs(state):
        await slow.ainvoke("q", config={"metadata": {"ls_model_name": "slow"}})

    returned = asyncio.Event()
    made = StateGraph(MessagesState)
    for name, node in (("returns", returns), ("hangs", hangs)):
        made.add_node(name, node)
        made.add_edge(START, name)
        made.add_edge(name, END)
    job = asyncio.create_task(made.compile().ainvoke({"messages": []}))
    await returned.wait()
    await asyncio.sleep(0.1)
    agent.flush(10)
    job.cancel()
    try:
        await job
    except asyncio.CancelledError:
        agent.flush(10)


def interrupted():
    """A human is asked twice, in one thread of the graph; another thread runs meanwhile."""
    made = StateGraph(MessagesState)
    made.add_node("approve", ask_human)
    made.add_node("again", ask_human)
    made.add_edge(START, "approve")
    made.add_edge("approve", "again")
    made.add_edge("again", END)
    app = made.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t-1"}}
    app.invoke({"messages": []}, config)
    agent.flush(10)
    app.invoke({"messages": []}, {"configurable": {"thread_id": "t-2"}})
    for _ in app.stream(Command(resume="yes"), config):
        pass
    agent.flush(10)
    app.invoke(Command(resume="yes"), config)
    for _ in range(2):
        app.invoke(Command(resume="yes"), {"configurable": {"thread_id": "t-2"}})


async def main():
    global started
    started = asyncio.Event()
    question = {"messages": [("human", "q")]}
    await graph(ask).ainvoke(question)
    try:
        await graph(fail).ainvoke(question)
    except KeyError:
        agent.flush(10)
    job = asyncio.create_task(graph(hang).ainvoke(question))
    await started.wait()
    job.cancel()
    try:
        await job
    except asyncio.CancelledError:
        agent.flush(10)
    async for _ in graph(ask).astream(question):
        current().progress("streaming")
    with agent.task("mine"):
        await graph(ask).ainvoke(question)
    await asyncio.gather(*(graph(ask).ainvoke(question) for _ in range(20)))
    hanging = Hanging(messages=repeat(AIMessage("x")))
    for _ in range(2):  # LangChain does not tell that a bare model is left
        job = asyncio.create_task(hanging.ainvoke("bare"))
        await asyncio.sleep(0.1)
        job.cancel()
    for _ in range(2):
        try:
            await asyncio.wait_for(hanging.ainvoke("bare"), 0.1)
        except TimeoutError:
            agent.flush(10)
    async for _ in model.astream("bare"):
        await model.ainvoke("bare, in the midst of it")
    agent.flush(10)


asyncio.run(main())
asyncio.run(parallel())
interrupted()
agent.flush(10)
