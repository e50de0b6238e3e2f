"""Tasks of agents, as several rules look at them."""

from collections.abc import Sequence

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Node, Place
from telemetron.diagnosis.view import View
from telemetron.document import Agent, Task, Wait

TASKS = "activity/active_task_ids"
PEOPLE = ("human", "auth")


def stuck(agent: Agent) -> list[Task]:
    """Return the tasks that make no progress and do not wait for people."""
    return [
        task
        for task in agent.activity.active_task_ids
        if task.stalled and not _asks_people(task) and task.status
    ]


def waits_for_people(task: Task, view: View, depth: int = 8) -> bool:
    """Return whether it waits for an agent's task which waits for people, directly or not."""
    if _asks_people(task):
        return True
    named = [one for wait in task.waits if wait.task for _, one in owners(wait.task, view)]
    if any(wait.kind == "agent" for wait in task.waits):
        named += [one for _, one in children(task.id, view)]
    return depth > 0 and any(waits_for_people(one, view, depth - 1) for one in named)


def _asks_people(task: Task) -> bool:
    return any(wait.kind in PEOPLE for wait in task.waits)


def awaited_by(task: Task) -> tuple[str, str]:
    """Return kind and name of the wait that has lasted longest."""
    for wait in task.waits:
        return wait.kind, wait.name or ""
    return "", ""


def waiting(awaited: tuple[str, str]) -> str:
    """Return the words for a wait, empty if there is none."""
    kind, name = awaited
    return f", waiting for {kind} {name}".rstrip() if kind else ""


def agents_named(wait: Wait, agent: Agent, view: View) -> list[Agent]:
    """Return the agents that a wait names: of the same namespace, else the only one so named."""
    found = view.find("agents by name", wait.name)
    near = [one for one in found if one.namespace == agent.namespace]
    return near or (found if len(found) == 1 else [])


def owners(task: str, view: View) -> list[tuple[Agent, Task]]:
    """Return the agents that have a task of this id, each with it."""
    return [
        (agent, one)
        for agent in view.find("agents by task", task)
        for one in agent.activity.active_task_ids
        if one.id == task
    ]


def children(task: str, view: View) -> list[tuple[Agent, Task]]:
    """Return the tasks whose parent has this id, each with its agent."""
    return [
        (agent, one)
        for agent in view.find("agents by parent task", task)
        for one in agent.activity.active_task_ids
        if one.parent_id == task
    ]


def models(name: str, view: View) -> list[Node]:
    """Return the models that a name means: of a wildcard deployment its pattern."""
    found = {model for one in view.serving(name) for model in (one.model, *one.aliases)}
    return [("model", one) for one in sorted({name} | {one for one in found if "*" in one})]


def proxies(model: str, view: View) -> list[Node]:
    """Return the proxies that serve a model.

    If none is known to, it is a proxy whose models Telemetron has never seen.
    """
    if deployments := view.serving(model):
        return [("source", one.source) for one in deployments]
    proxies = view.find("sources of collector", "litellm")
    return [("source", one.key) for one in proxies if one.last_ok_at is None]


def of_task(agent: Agent, task: Task, *fields: str) -> list[Place]:
    """Return these fields of a task."""
    return [Place("agents", agent.key, item(TASKS, task.id, field)) for field in fields]


def of_wait(agent: Agent, task: Task) -> list[Place]:
    """Return what the task has waited for longest."""
    if not task.waits:
        return []
    return of_task(agent, task, "waits/0/name" if task.waits[0].name else "waits/0/kind")


def counted(tasks: Sequence[Task]) -> str:
    """Return the words for so many tasks; one is named."""
    return f"Task {tasks[0].id}" if len(tasks) == 1 else f"{len(tasks)} tasks"
