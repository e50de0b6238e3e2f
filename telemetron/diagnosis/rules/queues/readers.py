"""Readers of a queue: agents that declare it, and workloads whose pods are in its group.

An agent names its queues, and several sources may have a queue of that name.
"""

from collections import defaultdict
from datetime import timedelta

from telemetron.diagnosis.rule import Node
from telemetron.diagnosis.rules.homes import workloads_of
from telemetron.diagnosis.view import View
from telemetron.document import Agent, Pod, Queue, Workload

STABLE = ("Stable", "Empty", "Dead", None)
"""States of a group that does not rebalance."""
STARTING = timedelta(seconds=60)
"""How long a new pod may take until it consumes."""
CREATING = (
    None,
    "ContainersNotReady",
    "NotReady",
    "ContainerCreating",
    "PodInitializing",
    "Unschedulable",
)
"""Reasons of a new pod that is not ready, if nothing is wrong with it: a node may yet be added."""


def queues_named(name: str, agent: Agent, view: View) -> list[Queue]:
    """Return the queues of this name that the agent can mean.

    If several sources have one, an agent means the queue of its own pods' group, else the queue
    whose group is in its cluster, else none.
    """
    found: list[Queue] = view.find("queues by name", name)
    if len({one.source for one in found}) < 2:
        return found
    own = workloads_of(agent, view)
    homes: defaultdict[str, list[Workload]] = defaultdict(list)
    for one in found:
        homes[one.source] += [
            home for key in _homes(one, view) if (home := view.get("workload", key))
        ]
    read = [one for one in found if any(home in own for home in homes[one.source])]
    clusters = {one.source for one in own}
    return read or [
        one for one in found if any(home.source in clusters for home in homes[one.source])
    ]


def readers_of(queue: Queue, view: View) -> list[Agent]:
    """Return the agents that read the queue."""
    return [
        agent
        for agent in view.find("agents by queue", queue.name)
        if queue in queues_named(queue.name, agent, view)
    ]


def of_members(queue: Queue, view: View) -> list[Node]:
    """Return the workloads whose pods are members of its group, or were when it last had any."""
    return [("workload", key) for key in _homes(queue, view)]


def _homes(queue: Queue, view: View) -> list[str]:
    found = {
        workload.key: workload
        for member in queue.members
        if member.host
        for workload in view.find("workloads of address", member.host)
    }
    if len({one.source for one in found.values()}) > 1:  # clusters may use the same addresses
        found = {key: one for key, one in found.items() if _declares(key, queue, view)}
    if len({one.source for one in found.values()}) == 1:
        view.homes[queue.key] = sorted(found)
    return view.homes.get(queue.key) or _named_as(queue, view)


def _declares(workload: str, queue: Queue, view: View) -> bool:
    return any(queue.name in agent.queues for agent in view.find("agents of workload", workload))


def _named_as(queue: Queue, view: View) -> list[str]:
    """The workloads with the name of the group, if its members were never seen."""
    named = view.find("workloads by name", queue.consumer_group)
    return [one.key for one in named] if len(named) == 1 else []


def of_readers(readers: list[Agent], view: View) -> list[Node]:
    """Return what the readers run in: without it they take nothing."""
    nodes: list[Node] = []
    for agent in readers:
        nodes.append(("agent", agent.key))
        nodes += [("workload", one.key) for one in workloads_of(agent, view)]
    return nodes


def capacity(readers: list[Agent], view: View) -> list[Node]:
    """Return what lets the readers do less: a backlog grows also if only some pods are missing."""
    workloads = {one.key for agent in readers for one in workloads_of(agent, view)}
    return [
        *(("pods", workload) for workload in sorted(workloads)),
        *(("maximum", workload) for workload in sorted(workloads)),
        *(("load", agent.key) for agent in readers),
        *(("failing", agent.key) for agent in readers),
        *(("stalls", agent.key) for agent in readers),
    ]


def is_idle(queue: Queue, view: View) -> bool:
    """Return whether nothing waits in the queue and its readers have nothing to do."""
    readers = readers_of(queue, view)
    return queue.depth == 0 and bool(readers) and all(one.status == "idle" for one in readers)


def is_starting(nodes: list[Node], view: View) -> bool:
    """Return whether a pod of these workloads is new, so that its consumer is about to come."""
    keys = dict.fromkeys(key for kind, key, *_ in nodes if kind == "workload")
    found = [one for key in keys if (one := view.get("workload", key))]
    if any(_is_new(pod, view) for one in found for pod in one.pods):
        view.revisit()
        return True
    return False


def _is_new(pod: Pod, view: View) -> bool:
    if pod.ready or pod.restarts or pod.created_at is None or pod.reason not in CREATING:
        return False
    return pod.status in ("Pending", "Running") and view.now - pod.created_at < STARTING
