"""Reports what an agent does; Telemetron shows it in `GET /system/state`.

    agent = Agent("researcher", models=["claude-sonnet"])
    with agent.task("t-1") as task:
        with task.wait("llm", "claude-sonnet"):
            ...
        task.progress("ranked")

No call raises an exception or waits for the network.
"""

from .agent import Agent
from .task import Task, Wait, current

__all__ = ["Agent", "Task", "Wait", "current"]
__version__ = "0.1.0"
