"""What Pydantic AI can do: use tools side by side, fail, be cancelled, stream."""

import asyncio

from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

import telemetron_agent
from telemetron_agent.pydantic_ai import instrument_pydantic_ai

agent = telemetron_agent.Agent("pydantic-ai", interval=60)
assert instrument_pydantic_ai(agent) is instrument_pydantic_ai(agent)


def answer(messages, info):
    agent.flush(10)  # tells this moment
    if len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("left", {}), ToolCallPart("right", {})])
    return ModelResponse(parts=[TextPart("done")])


async def stream(messages, info):
    agent.flush(10)
    yield "do"
    yield "ne"


working = Agent(FunctionModel(answer, stream_function=stream, model_name="fake"), name="working")
both: asyncio.Barrier


@working.tool_plain
async def left() -> str:
    await both.wait()
    return "l"


@working.tool_plain
async def right() -> str:
    await both.wait()
    agent.flush(10)
    return "r"


async def hang(messages, info):
    await asyncio.sleep(60)


def fail(messages, info):
    raise KeyError("a secret")


async def answer_quick(messages, info):
    return ModelResponse(parts=[TextPart("quick")])


async def answer_slow(messages, info):
    await quick_is_over.wait()
    agent.flush(10)  # it hangs, and the other one has returned
    return ModelResponse(parts=[TextPart("slow")])


async def sub_agents():
    """Two agents side by side in one task."""
    global quick_is_over
    quick_is_over = asyncio.Event()

    async def run_quick():
        await Agent(FunctionModel(answer_quick, model_name="quick")).run("q")
        quick_is_over.set()

    with agent.task("both"):
        slow = Agent(FunctionModel(answer_slow, model_name="slow")).run("q")
        await asyncio.gather(slow, run_quick())


async def main():
    global both
    both = asyncio.Barrier(2)
    assert (await working.run("q")).output == "done"
    with agent.task("mine"):
        await working.run("q")
    async with working.run_stream("q") as result:
        assert await result.get_output() == "done"
    job = asyncio.create_task(Agent(FunctionModel(hang)).run("q"))
    await asyncio.sleep(0.1)
    job.cancel()
    try:
        await job
    except asyncio.CancelledError:
        agent.flush(10)
    try:
        await Agent(FunctionModel(fail)).run("q")
    except KeyError:
        agent.flush(10)


asyncio.run(main())
asyncio.run(sub_agents())
agent.flush(10)
