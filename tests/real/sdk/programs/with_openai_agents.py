"""What the OpenAI Agents SDK can do: hand over, fail, be cancelled, stream, use an agent."""

import asyncio

from agents import Agent, Model, ModelResponse, RunHooks, Runner, Usage, function_tool
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

import telemetron_agent
from telemetron_agent import current
from telemetron_agent.openai_agents import instrument_openai_agents

agent = telemetron_agent.Agent("openai-agents", interval=60)
assert instrument_openai_agents(agent) is instrument_openai_agents(agent)


class Fake(Model):
    model = "fake"

    def __init__(self, *answers):
        self.answers = list(answers)

    def answer(self):
        agent.flush(10)  # tells this moment
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def outputs(self):
        answer = self.answer()
        return answer if isinstance(answer, list) else [answer]

    async def get_response(self, *args, **kwargs):
        if not self.answers:
            await asyncio.sleep(60)
        return ModelResponse(output=self.outputs(), usage=Usage(), response_id=None)

    async def stream_response(self, *args, **kwargs):
        response = Response(
            id="r",
            created_at=0,
            model="fake",
            object="response",
            output=self.outputs(),
            tool_choice="none",
            tools=[],
            parallel_tool_calls=False,
        )
        yield ResponseCompletedEvent(
            type="response.completed", sequence_number=0, response=response
        )


def call(name, arguments="{}", id=None):
    id = id or name
    return ResponseFunctionToolCall(
        type="function_call", id=id, call_id=id, name=name, arguments=arguments
    )


def say(text):
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        type="message", id="m", role="assistant", status="completed", content=[content]
    )


class LeavesWaitsOpen(RunHooks):
    """Hooks of the program's own, which run beside ours."""

    async def on_agent_start(self, context, agent):
        if agent.name == "first":
            current().wait("human", "an approval that nobody closes")
            current().wait("tool", "a tool whose end is not told")

    async def on_handoff(self, context, from_agent, to_agent):
        agent.flush(10)


@function_tool(failure_error_function=None)
def broken():
    """Fails."""
    raise KeyError("a secret")


@function_tool
async def look(subject: str) -> str:
    """Looks."""
    if subject == "slow":
        await answered.wait()
        await asyncio.sleep(0.1)
        agent.flush(10)  # the quick one has answered
    else:
        answered.set()
    return "seen"


async def side_by_side():
    global answered
    answered = asyncio.Event()
    calls = [call("look", f'{{"subject": "{each}"}}', f"c-{each}") for each in ("slow", "quick")]
    looker = Agent("looker", model=Fake(calls, say("done")), tools=[look])
    async with asyncio.timeout(30):
        with agent.task("looking") as task:
            job = asyncio.create_task(Runner.run(looker, "q"))
            with task.wait("queue", "its own"):  # which no run may end
                await job
                agent.flush(10)


async def main():
    second = Agent("second", model=Fake(say("done")))
    first = Agent("first", model=Fake(call("transfer_to_second")), handoffs=[second])
    result = await Runner.run(first, "q", hooks=LeavesWaitsOpen())
    assert result.final_output == "done"
    for failing in (
        Agent("failing", model=Fake(call("broken")), tools=[broken]),
        Agent("failing", model=Fake(ValueError("a secret"))),
    ):
        try:
            await Runner.run(failing, "q")
        except Exception:
            agent.flush(10)
    job = asyncio.create_task(Runner.run(Agent("hanging", model=Fake()), "q"))
    await asyncio.sleep(0.1)
    job.cancel()
    try:
        await job
    except asyncio.CancelledError:
        agent.flush(10)
    streamed = Runner.run_streamed(Agent("streaming", model=Fake(say("done"))), "q")
    outside = current().step
    async for _ in streamed.stream_events():
        pass
    assert outside is None, outside
    sub = Agent("sub", model=Fake(say("sub")))
    top = Agent(
        "top",
        model=Fake(call("ask", '{"input": "x"}'), say("top")),
        tools=[sub.as_tool("ask", "asks")],
    )
    with agent.task("mine") as mine, mine.wait("agent", "top"):
        await Runner.run(top, "q")
    agent.flush(10)


asyncio.run(main())
asyncio.run(side_by_side())
assert Runner.run_sync(Agent("sync", model=Fake(say("done"))), "q").final_output == "done"
agent.flush(10)
