"""A document, asked by names. What it lacks is a StopIteration."""

from typing import Any

from tests.real.incidents.cluster import NAMESPACE

Object = dict[str, Any]


class View:
    """One state of the document."""

    def __init__(self, state: Object) -> None:
        self.state = state

    def agent(self, name: str) -> Object:
        """An agent."""
        return next(one for one in self.state["agents"] if one["key"] == f"{NAMESPACE}/{name}")

    def instance(self, id: str) -> Object:
        """An instance of any agent."""
        return next(one for one in self.instances() if one["id"] == id)

    def instances(self) -> list[Object]:
        """All instances."""
        return [one for agent in self.state["agents"] for one in agent["instances"]]

    def outcomes(self, name: str, outcome: str) -> int:
        """How many tasks of an agent have ended so."""
        instances: list[Object] = self.agent(name)["instances"]
        return sum(one["outcomes"][outcome] for one in instances)

    def tasks(self, name: str) -> list[Object]:
        """The tasks of an agent."""
        tasks: list[Object] = self.agent(name)["activity"]["active_task_ids"]
        return tasks

    def task(self, id: str) -> Object:
        """A task of any agent."""
        return next(one for one in self._all_tasks() if one["id"] == id)

    def stalled(self, name: str | None = None) -> list[Object]:
        """The tasks that are stalled, of one agent or of all."""
        tasks = self._all_tasks() if name is None else self.tasks(name)
        return [task for task in tasks if task["stalled"]]

    def agents_waiting(self, *models: str) -> int:
        """How many agents have a task that is stalled in a wait for a model."""
        return sum(
            any(waits_for(task, "llm", *models) for task in self.stalled(one["key"].split("/")[1]))
            for one in self.state["agents"]
        )

    def queue(self, topic: str) -> Object:
        """A queue, as the group of its agents has it."""
        queues = [one for one in self.state["queues"] if one["name"] == topic]
        return next(one for one in queues if not (one["consumer_group"] or "").startswith("conso"))

    def workload(self, name: str) -> Object:
        """A workload."""
        return next(one for one in self.state["workload"] if one["deployment_name"] == name)

    def pod(self, id: str) -> Object:
        """A pod of any workload."""
        pods = (pod for one in self.state["workload"] for pod in one["pods"])
        return next(pod for pod in pods if pod["pod_id"] == id)

    def model(self, id: str) -> Object:
        """A deployment of a model."""
        return next(one for one in self.state["litellm"] if one["id"] == id)

    def source(self, key: str) -> Object:
        """A source."""
        return next(one for one in self.state["sources"] if one["key"] == key)

    def is_out_of_sight(self, key: str) -> bool:
        """Whether a source cannot be reached and says so."""
        source = self.source(key)
        reasons = {problem["reason"] for problem in source["problems"]}
        return source["status"] == "stale" and bool(reasons & {"Timeout", "Unreachable"})

    def _all_tasks(self) -> list[Object]:
        agents = self.state["agents"]
        return [task for one in agents for task in one["activity"]["active_task_ids"]]


def waits_for(task: Object, kind: str, *names: str) -> bool:
    """Whether a task waits for something of this kind, if names are given for one of them."""
    return any(
        wait["kind"] == kind and (not names or wait["name"] in names) for wait in task["waits"]
    )
