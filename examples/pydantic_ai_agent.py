"""An agent of Pydantic AI that reports: `TELEMETRON_URL=… python pydantic_ai_agent.py`.

Needs: pip install telemetron-agent pydantic-ai-slim
"""

import asyncio
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

import telemetron_agent
from telemetron_agent.pydantic_ai import instrument_pydantic_ai

instrument_pydantic_ai(telemetron_agent.Agent("pydantic-ai", interval=1))  # that is all


async def answer(messages: list[Any], info: Any) -> ModelResponse:
    """Answer as a slow model does."""
    await asyncio.sleep(0.6)
    if len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("look_up", {"subject": "tides"})])
    return ModelResponse(parts=[TextPart("The moon pulls at it.")])


researcher = Agent(FunctionModel(answer, model_name="stand-in"), name="researcher")


@researcher.tool_plain
async def look_up(subject: str) -> str:
    """Look something up."""
    await asyncio.sleep(0.6)
    return f"Facts about {subject}."


if __name__ == "__main__":
    print(researcher.run_sync("Why does the sea rise?").output)
