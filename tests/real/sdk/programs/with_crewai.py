"""What CrewAI can do: run, fail, be a part of a task, run async."""

import asyncio
import threading

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


class Quick(BaseLLM):
    def call(self, messages, *args, **kwargs):
        return "Thought: I know\nFinal Answer: quick"


class Slow(BaseLLM):
    def call(self, messages, *args, **kwargs):
        assert quick_is_over.wait(30)
        agent.flush(10)  # it hangs, and the other one has returned
        return "Thought: I know\nFinal Answer: slow"


def answered(output):
    quick_is_over.set()


def side_by_side():
    """Two tasks of a crew at once."""
    tasks = []
    for llm in (Slow(model="slow"), Quick(model="quick")):
        member = Agent(role=llm.model, goal="g", backstory="b", llm=llm)
        tasks.append(
            Task(
                name=llm.model,
                description="d",
                expected_output="o",
                agent=member,
                async_execution=True,
                callback=answered,
            )
        )
    last = Task(name="last", description="d", expected_output="o", agent=tasks[1].agent)
    with agent.task("both"):
        Crew(agents=[task.agent for task in tasks], tasks=[*tasks, last]).kickoff()


quick_is_over = threading.Event()
side_by_side()
assert str(crew("fake").kickoff()) == "done"
try:
    crew("failing").kickoff()
except KeyError:
    agent.flush(10)
with agent.task("mine"):
    crew("fake").kickoff()
assert str(asyncio.run(crew("fake").akickoff())) == "done"
agent.flush(10)
