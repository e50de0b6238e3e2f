"""What CrewAI can do: run, fail, be a part of a task, run async."""

import asyncio

from crewai import Agent, BaseLLM, Crew, Task
from crewai.tools import tool

import telemetron_agent
from telemetron_agent.crewai import instrument_crewai

agent = telemetron_agent.Agent("crewai", interval=60)
instrument_crewai(agent)
instrument_crewai(agent)


class Fake(BaseLLM):
    def call(self, messages, *args, **kwargs):
        agent.flush(10)  # tells this moment
        if self.model == "failing":
            raise KeyError("a secret")
        if "Observation" not in str(messages[1:]):
            return 'Thought: I look\nAction: look\nAction Input: {"subject": "x"}'
        return "Thought: I know\nFinal Answer: done"


@tool("look")
def look(subject: str) -> str:
    """Looks."""
    agent.flush(10)
    return "seen"


def crew(model):
    member = Agent(role="r", goal="g", backstory="b", llm=Fake(model=model), tools=[look])
    work = Task(name="research", description="d", expected_output="o", agent=member)
    return Crew(agents=[member], tasks=[work])


assert str(crew("fake").kickoff()) == "done"
try:
    crew("failing").kickoff()
except KeyError:
    agent.flush(10)
with agent.task("mine"):
    crew("fake").kickoff()
assert str(asyncio.run(crew("fake").akickoff())) == "done"
agent.flush(10)
