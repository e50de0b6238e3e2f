"""Rings: tasks that wait for each other, or are each other's parents."""

from collections.abc import Iterable, Iterator

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.rules.agents.tasks import (
    TASKS,
    agents_named,
    of_task,
    of_wait,
    owners,
    stuck,
)
from telemetron.diagnosis.view import View
from telemetron.document import Agent, Task


def cycle(agent: Agent, view: View) -> Iterator[Symptom]:
    """Tasks wait for each other in a ring."""
    ring = waiting_ring(agent, view)
    if ring and min(ring.values()) == agent.key:
        mine = [task for task in stuck(agent) if task.id in ring]
        first = min(mine, key=lambda task: task.started_on.timestamp() if task.started_on else 0.0)
        names = sorted({key.rpartition("/")[2] for key in ring.values()})
        yield Symptom(
            "WaitCycle",
            "agents",
            agent.key,
            f"Tasks of {' and '.join(names)} wait for each other: {', '.join(sorted(ring)[:4])}"
            if len(ring) > 1
            else f"Task {first.id} of {agent.name} waits for itself",
            [place for id, key in sorted(ring.items())[:4] for place in _waits_of(key, id, view)],
            path=item(TASKS, first.id),
            since=first.progressed_at,
            provides=[
                *(("task", id) for id in ring),
                *(("stalls", key) for key in {*ring.values()}),
            ],
        )


def loop(agent: Agent, view: View) -> Iterator[Symptom]:
    """Tasks are each other's parents."""
    for task in agent.activity.active_task_ids:
        chain = _chain(task, view)
        if chain and min(chain)[1] == task.id:
            keys = sorted({key for key, _ in chain})
            yield Symptom(
                "HandoffLoop",
                "agents",
                agent.key,
                f"Tasks of {' and '.join(key.rpartition('/')[2] for key in keys)} are each other's"
                f" parents: {', '.join(sorted(id for _, id in chain)[:4])}"
                if len(chain) > 1
                else f"Task {task.id} of {agent.name} is its own parent",
                [
                    Place("agents", key, item(TASKS, id, "parent_id"))
                    for key, id in sorted(chain)[:4]
                ],
                path=item(TASKS, task.id),
                since=task.started_on,
                provides=[("task", id) for _, id in chain],
            )


# lookups


def waiting_ring(agent: Agent, view: View) -> dict[str, str]:
    """Return the tasks of a ring of waits through this agent, with their agents' keys."""
    for start in stuck(agent):
        trail = {start.id: agent.key}
        if ring := _walk(agent, start, start.id, trail, view):
            return ring
    return {}


def _walk(
    agent: Agent, task: Task, goal: str, trail: dict[str, str], view: View
) -> dict[str, str] | None:
    if len(trail) > 8:
        return None
    for other, next_task in _waited_for(agent, task, view):
        if next_task.id == goal:
            return trail
        if next_task.id in trail:
            continue
        found = _walk(other, next_task, goal, trail | {next_task.id: other.key}, view)
        if found:
            return found
    return None


def _waited_for(agent: Agent, task: Task, view: View) -> Iterator[tuple[Agent, Task]]:
    """Stalled tasks that this one waits for: named, its children, or the one that asks back."""
    for wait in task.waits:
        if wait.task:
            yield from ((one, t) for one, t in owners(wait.task, view) if t.stalled)
        elif wait.kind == "agent":
            for one in agents_named(wait, agent, view):
                for other in stuck(one):
                    if other.parent_id == task.id or other.id in _ancestors(task, view):
                        yield one, other


def _ancestors(task: Task, view: View) -> list[str]:
    """The ids of its parent, its parent's parent and so on, as far as their tasks are known."""
    found: list[str] = []
    parent = task.parent_id
    while parent and parent not in found and len(found) < 8:
        found.append(parent)
        parent = next((one.parent_id for _, one in owners(parent, view)), None)
    return found


def _waits_of(key: str, id: str, view: View) -> Iterable[Place]:
    agent = view.get("agents", key)
    for task in agent.activity.active_task_ids if agent else ():
        if task.id == id:
            return [*of_task(agent, task, "stalled"), *of_wait(agent, task)]
    return ()


def _chain(task: Task, view: View) -> list[tuple[str, str]]:
    """Task and key of those that are each other's ancestors in a ring with this one."""
    if task.parent_id is None:
        return []
    chain: list[tuple[str, str]] = []
    current: Task | None = task
    while current is not None and len(chain) < 16:
        owner = next(iter(owners(current.id, view)), None)
        if owner is None:
            return []
        chain.append((owner[0].key, current.id))
        parent = next(iter(owners(current.parent_id or "", view)), None)
        if parent and parent[1].id == task.id:
            return chain
        current = parent[1] if parent and (parent[0].key, parent[1].id) not in chain else None
    return []


RULES = (
    Rule(
        "WaitCycle",
        "agents",
        "critical",
        5,
        5,
        "`active_task_ids[].waits` of tasks that are stalled",
        "Tasks wait for each other in a ring: none of them can go on.",
        "Cancel one of them; let agents answer from what they know instead of asking back.",
        cycle,
    ),
    Rule(
        "HandoffLoop",
        "agents",
        "warning",
        15,
        5,
        "`active_task_ids[].parent_id`",
        "Tasks are each other's parents: agents hand work to and fro, and it never ends.",
        "Cancel one of the tasks; give the dialogue a bound.",
        loop,
    ),
)
