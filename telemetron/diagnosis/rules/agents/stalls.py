"""Tasks that make no progress, and what they wait for."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Node, Rule, Symptom
from telemetron.diagnosis.rules.agents.rings import waiting_ring
from telemetron.diagnosis.rules.agents.tasks import (
    TASKS,
    agents_named,
    awaited_by,
    children,
    counted,
    models,
    of_task,
    of_wait,
    proxies,
    stuck,
    waiting,
    waits_for_people,
)
from telemetron.diagnosis.rules.homes import workloads_of
from telemetron.diagnosis.rules.litellm import is_slow
from telemetron.diagnosis.rules.queues.readers import (
    is_idle,
    is_starting,
    of_members,
    of_readers,
    queues_named,
    readers_of,
)
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import verb
from telemetron.document import Agent, Queue, Task, Workload

OWN = ("", "tool", "other")
"""Kinds of waits that no other section of the document shows."""
USUAL = 3.0
"""How many times the mean latency of its model a task may wait in peace."""


def stalled(agent: Agent, view: View) -> Iterator[Symptom]:
    """Tasks make no progress; all that wait for the same thing are one symptom."""
    ring = waiting_ring(agent, view)
    tasks = [
        task for task in stuck(agent) if task.id not in ring and not _is_due(agent, task, view)
    ]
    groups: defaultdict[tuple[str, str], list[Task]] = defaultdict(list)
    for task in sorted(tasks, key=lambda task: (task.progressed_at is None, task.progressed_at)):
        groups[_shared(awaited_by(task), agent, view)].append(task)
    for awaited, members in groups.items():
        first = members[0]
        yield Symptom(
            "TaskStalled",
            "agents",
            agent.key,
            f"{counted(members)} of agent {agent.name} {verb(len(members), 'make')} no"
            f" progress{_all_awaited(members)}",
            [*of_task(agent, first, "stalled"), *of_wait(agent, first)],
            path=item(TASKS, first.id),
            since=first.progressed_at,
            provides=[("stalls", agent.key), *(("task", task.id) for task in members)],
            depends=[
                ("awaited", *awaited, _scope(awaited, agent, view)),
                *(node for task in members for node in _reasons(agent, task, view)),
            ],
        )


def common_wait(agent: Agent, view: View) -> Iterator[Symptom]:
    """Tasks of several agents make no progress, and wait for the same."""
    tasks = sorted(
        (task for task in stuck(agent) if not _is_due(agent, task, view)), key=awaited_by
    )
    for awaited, group in groupby(tasks, key=awaited_by):
        count, names = _waiting_for(awaited, agent, view)
        if not awaited[1] or count < 2:
            continue
        first = min(group, key=lambda task: task.id)
        yield Symptom(
            "CommonWait",
            "agents",
            agent.key,
            f"Tasks of {count} agents make no progress{waiting(awaited)}: {', '.join(names)}",
            [*of_task(agent, first, "stalled"), *of_wait(agent, first)],
            kind=awaited[0],
            name=awaited[1],
            scope=_scope(awaited, agent, view),
            since=first.progressed_at,
            provides=[("awaited", *awaited, _scope(awaited, agent, view))],
            depends=_reasons(agent, first, view),
            is_group=True,
        )


# lookups


def _shared(awaited: tuple[str, str], agent: Agent, view: View) -> tuple[str, str]:
    """Return what others depend on, too; all that only this agent waits for is one trouble."""
    kind, name = awaited
    if kind not in OWN or _waiting_for(awaited, agent, view)[0] > 1:
        return awaited
    return awaited if _servers(name, agent, view) else ("", "")


def _all_awaited(tasks: Sequence[Task]) -> str:
    named = sorted({waiting(awaited_by(task)) for task in tasks} - {""})
    return (
        " and".join([named[0], *(one.rpartition("for")[2] for one in named[1:4])]) if named else ""
    )


def _waiting_for(awaited: tuple[str, str], agent: Agent, view: View) -> tuple[int, tuple[str, ...]]:
    """Count the agents whose tasks wait for the same, and name some.

    Two namespaces may have equal agents, two clusters equal queues.
    """
    kind, name = awaited
    if kind == "agent":
        return view.fact(_waiting_in, awaited, agent.namespace)
    if kind == "queue":
        return view.fact(_waiting_at, name, _keys(queues_named(name, agent, view)))
    return view.fact(_waiting_in, awaited, None)


def _scope(awaited: tuple[str, str], agent: Agent, view: View) -> str:
    """Return the namespace of an agent, or the source of a queue, if the name has several."""
    kind, name = awaited
    if kind == "agent" and view.count("agents by name", name) > 1:
        return agent.namespace or ""
    if kind == "queue" and view.count("queues by name", name) > 1:
        return next((one.source for one in queues_named(name, agent, view)), "")
    return ""


def _waiting_in(
    view: View, awaited: tuple[str, str], namespace: str | None
) -> tuple[int, tuple[str, ...]]:
    found = view.find("agents by stalled wait", awaited)
    names = [one.name for one in found if namespace in (None, one.namespace)]
    return len(names), tuple(names[:4])


def _waiting_at(view: View, name: str, queues: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    found = view.find("agents by stalled wait", ("queue", name))
    names = [one.name for one in found if _keys(queues_named(name, one, view)) == queues]
    return len(names), tuple(names[:4])


def _keys(queues: Sequence[Queue]) -> tuple[str, ...]:
    return tuple(one.key for one in queues)


def _is_due(agent: Agent, task: Task, view: View) -> bool:
    """Whether it waits for good cause: for people, for new pods, for a model as long as usual."""
    return (
        waits_for_people(task, view)
        or _is_usual(agent, task, view)
        or is_starting(_awaited_readers(agent, task, view), view)
    )


def _awaited_readers(agent: Agent, task: Task, view: View) -> list[Node]:
    """What the agents and the readers of the queues run in that it waits for."""
    found: list[Agent] = []
    nodes: list[Node] = []
    for wait in task.waits:
        if wait.kind == "agent":
            found += agents_named(wait, agent, view)
            nodes += [("workload", one.key) for one in _servers(wait.name or "", agent, view)]
        elif wait.kind == "queue":
            for queue in queues_named(wait.name or "", agent, view):
                nodes += view.fact(_readers_run_in, queue.key)
    return [*nodes, *of_readers(found, view)]


def _readers_run_in(view: View, queue: str) -> list[Node]:
    one: Queue | None = view.get("queues", queue)
    return [*of_members(one, view), *of_readers(readers_of(one, view), view)] if one else []


def _is_usual(agent: Agent, task: Task, view: View) -> bool:
    """Whether it waits for a model, no longer than the calls of that model usually take."""
    kind, name = awaited_by(task)
    since = task.waits[0].since if task.waits else None
    if kind != "llm" or since is None:
        return False
    clocks = {one.id: one.clock_offset_seconds or 0.0 for one in agent.instances}
    age = (view.now - since).total_seconds() + clocks.get(task.instance or "", 0.0)
    deployments = view.serving(name)
    if any(is_slow(one, view) for one in deployments):
        return False  # that is a cause
    latencies = [one.latency_seconds or 0.0 for one in deployments]
    is_usual = age < USUAL * max(latencies, default=0.0)
    if is_usual:
        view.revisit()
    return is_usual


def _reasons(agent: Agent, task: Task, view: View) -> list[Node]:
    """What would explain that a task makes no progress."""
    nodes: list[Node] = [("blocker", task.id)]
    for wait in task.waits:
        name = wait.name or ""
        if wait.kind == "llm":
            nodes += [*models(name, view), *proxies(name, view)]
        elif wait.kind == "queue":
            for queue in queues_named(name, agent, view):
                nodes += _of_queue(queue, view)
                nodes += view.fact(_of_readers, queue.key)
            nodes += view.fact(_of_declared, name)
        elif wait.kind == "agent":
            named = agents_named(wait, agent, view)
            if not named:  # all of its instances have left
                nodes += [("workload", one.key) for one in _servers(name, agent, view)]
            for one in named:
                nodes += _of_agent(one)
                for queue in _queues(one, view):
                    nodes += _of_queue(queue, view)
        elif wait.kind == "tool":
            nodes += [("workload", one.key) for one in _servers(name, agent, view)]
        if wait.task:
            nodes.append(("task", wait.task))
    if any(wait.kind == "agent" for wait in task.waits):
        nodes += [("task", one.id) for _, one in children(task.id, view)]
    return nodes


def _queues(agent: Agent, view: View) -> list[Queue]:
    return [queue for name in agent.queues for queue in queues_named(name, agent, view)]


def _of_queue(queue: Queue, view: View) -> list[Node]:
    nodes: list[Node] = [("queue", queue.key), ("backlog", queue.key)]
    if is_idle(queue, view):  # the work may have gone to a queue of another name
        nodes.append(("unread", queue.source, queue.name))
    return nodes


def _of_readers(view: View, queue: str) -> list[Node]:
    one: Queue | None = view.get("queues", queue)
    return [node for each in readers_of(one, view) for node in _of_agent(each)] if one else []


def _of_declared(view: View, queue: str) -> list[Node]:
    """The agents that declare a queue, if no source shows one of that name."""
    if view.count("queues by name", queue):
        return []
    return [node for one in view.find("agents by queue", queue) for node in _of_agent(one)]


def _of_agent(one: Agent) -> list[Node]:
    return [("agent", one.key), ("stalls", one.key), ("failing", one.key)]


def _servers(tool: str, agent: Agent, view: View) -> list[Workload]:
    """The workloads named as the tool: of the agent's cluster and namespace, else the only one."""
    found = view.find("workloads by name", tool)
    clusters = {one.source for one in workloads_of(agent, view)}
    here = [one for one in found if one.source in clusters] or found
    near = [one for one in here if one.namespace == agent.namespace]
    return near or (here if len(here) == 1 else [])


RULES = (
    Rule(
        "TaskStalled",
        "agents",
        "warning",
        5,
        5,
        "`active_task_ids[].stalled` and `waits`",
        "A task has made no progress for `stall_after_seconds`; the summary says what it waits "
        "for. All tasks that hang in tools which only their agent uses are one finding. A task "
        "that waits for a person, or for pods that just start, is no finding.",
        "Look at the tool, model, queue or agent that the task waits for; cancel or restart the "
        "task if that does not answer.",
        stalled,
        asks=("queues", "litellm", "workload"),
    ),
    Rule(
        "CommonWait",
        "agents",
        "warning",
        5,
        5,
        "`active_task_ids[].waits` of stalled tasks of several agents",
        "Tasks of several agents make no progress, and all wait for the same tool, model, queue or"
        " agent. `root` names it by `kind` and `name`.",
        "Call the tool, model or agent in `root` once by hand; restart it if it does not answer.",
        common_wait,
        asks=("queues", "litellm", "workload"),
    ),
)
