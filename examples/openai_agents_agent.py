"""Two agents of the OpenAI Agents SDK that report to Telemetron: a researcher and a writer.

`TELEMETRON_URL=… python openai_agents_agent.py`
Needs: pip install telemetron-agent openai-agents
"""

import asyncio
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

import telemetron_agent
from telemetron_agent.openai_agents import instrument_openai_agents

instrument_openai_agents(telemetron_agent.Agent("openai-agents", interval=1))  # that is all


class StandIn(Model):
    """A fake model that answers slowly, with given answers."""

    model = "stand-in"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        await asyncio.sleep(0.6)
        return ModelResponse(output=[self.answers.pop(0)], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def call(name: str, arguments: str) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        type="function_call", id=name, call_id=name, name=name, arguments=arguments
    )


def say(text: str) -> ResponseOutputMessage:
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(
        type="message", id="answer", role="assistant", status="completed", content=[content]
    )


@function_tool
async def look_up(subject: str) -> str:
    """Look something up."""
    await asyncio.sleep(0.6)
    return f"Facts about {subject}."


writer = Agent("writer", model=StandIn(say("The moon pulls at it.")))
researcher = Agent(
    "researcher",
    model=StandIn(call("look_up", '{"subject": "tides"}'), call("transfer_to_writer", "{}")),
    tools=[look_up],
    handoffs=[writer],
)

if __name__ == "__main__":
    set_tracing_disabled(True)  # nothing goes to OpenAI
    print(Runner.run_sync(researcher, "Why does the sea rise?").final_output)
