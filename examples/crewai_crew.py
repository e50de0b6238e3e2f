"""A crew of CrewAI that reports to Telemetron: `TELEMETRON_URL=… python crewai_crew.py`.

Needs: pip install telemetron-agent crewai
"""

import time
from typing import Any

from crewai import Agent, BaseLLM, Crew, Task
from crewai.tools import tool

import telemetron_agent
from telemetron_agent.crewai import instrument_crewai

instrument_crewai(telemetron_agent.Agent("crewai", interval=1))  # the only line for Telemetron


class StandIn(BaseLLM):
    """A fake model that answers slowly."""

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
        time.sleep(0.6)
        if "Facts about" not in str(messages):
            return 'Thought: I look\nAction: look_up\nAction Input: {"subject": "tides"}'
        return "Thought: I know\nFinal Answer: The moon pulls at it."


@tool("look_up")
def look_up(subject: str) -> str:
    """Look something up."""
    time.sleep(0.6)
    return f"Facts about {subject}."


researcher = Agent(
    role="researcher",
    goal="Know",
    backstory="Reads",
    llm=StandIn(model="stand-in"),
    tools=[look_up],
)
question = Task(
    name="research",
    description="Why does the sea rise?",
    expected_output="A sentence",
    agent=researcher,
)

if __name__ == "__main__":
    print(Crew(agents=[researcher], tasks=[question]).kickoff())
