"""What entities are found by."""

from collections.abc import Hashable, Iterable

from telemetron.diagnosis.view import Index
from telemetron.document import Agent, ModelDeployment, Pod, Task, Workload

LOST = ("NodeLost", "NodeNotReady")
"""Reasons of pods."""


def indexes() -> dict[str, Index]:
    """The indexes by name, empty."""
    return {
        "agents by beat": Index("agents", _beats),
        "agents by name": Index("agents", lambda agent: [agent.name]),
        "agents by queue": Index("agents", _queues),
        "agents by task": Index("agents", lambda agent: [task.id for task in _tasks(agent)]),
        "agents by parent task": Index(
            "agents", lambda agent: [task.parent_id for task in _tasks(agent) if task.parent_id]
        ),
        "agents by stalled wait": Index("agents", _stalled_waits),
        "agents of workload": Index(
            "agents", lambda agent: [one.workload for one in agent.instances if one.workload]
        ),
        "queues by dead letters": Index("queues", lambda queue: queue.dead_letters_of),
        "queues by name": Index("queues", lambda queue: [queue.name]),
        "sources of collector": Index("sources", lambda source: [source.collector]),
        "deployments of model": Index("litellm", _models),
        "workloads by name": Index("workload", lambda workload: [workload.deployment_name]),
        "deployments of provider": Index("litellm", _providers),
        "jobs of owner": Index("workload", _owners),
        "workloads of address": Index("workload", _addresses),
        "workloads of node": Index("workload", _nodes),
        "workloads of pod": Index("workload", _pods),
        "workloads up on node": Index("workload", _up),
        "workloads of lost node": Index("workload", _lost),
    }


def _beats(agent: Agent) -> Iterable[Hashable]:
    """Of each source whether an instance sends heartbeats, or all that did are silent."""
    told = [one for one in agent.instances if one.status != "declared"]
    live = {one.source for one in told if one.status != "silent"}
    silent = {one.source for one in told} - live
    return [*((one, "live") for one in live), *((one, "silent") for one in silent)]


def _tasks(agent: Agent) -> list[Task]:
    return agent.activity.active_task_ids


def _queues(agent: Agent) -> Iterable[Hashable]:
    return agent.queues


def _stalled_waits(agent: Agent) -> Iterable[Hashable]:
    for task in agent.activity.active_task_ids:
        if task.stalled and task.waits:
            yield task.waits[0].kind, task.waits[0].name or ""


def _models(one: ModelDeployment) -> Iterable[Hashable]:
    return [one.model, *one.aliases]


def _providers(one: ModelDeployment) -> Iterable[Hashable]:
    return [(one.source, one.provider)] if one.provider else []


def _owners(workload: Workload) -> Iterable[Hashable]:
    owner = workload.owner
    return [(workload.namespace, owner.kind, owner.name)] if owner else []


def _addresses(workload: Workload) -> Iterable[Hashable]:
    return [pod.ip for pod in workload.pods if pod.ip]


def _up(workload: Workload) -> Iterable[Hashable]:
    """The nodes on which a pod is ready, or on its way."""
    return [
        (workload.source, pod.node)
        for pod in workload.pods
        if pod.node
        and (pod.status == "Unknown" or (pod.status == "Running" and not is_unready(pod)))
    ]


def _lost(workload: Workload) -> Iterable[Hashable]:
    return [(workload.source, pod.node) for pod in workload.pods if pod.node and is_lost(pod)]


def is_lost(pod: Pod) -> bool:
    """Return whether the kubelet of its node does not answer."""
    return pod.status != "Succeeded" and (pod.node_ready is False or pod.reason in LOST)


def is_unready(pod: Pod) -> bool:
    """Return whether it runs and is not ready, however long it has had for that."""
    is_meant = pod.status == "Running" and pod.reason != "Terminating"
    return is_meant and pod.ready is False


def _nodes(workload: Workload) -> Iterable[Hashable]:
    return [(workload.source, pod.node) for pod in workload.pods if pod.node]


def _pods(workload: Workload) -> Iterable[Hashable]:
    return [(workload.namespace, pod.pod_id) for pod in workload.pods]
