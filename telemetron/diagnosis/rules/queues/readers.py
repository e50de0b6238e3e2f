"""Readers of a queue: agents that declare it, and workloads whose pods are in its group."""

from telemetron.diagnosis.rule import Node
from telemetron.diagnosis.view import View
from telemetron.document import Agent, Queue


def of_members(queue: Queue, view: View) -> list[Node]:
    """Return the workloads whose pods are members of its group, or were when it last had any."""
    keys = {
        workload.key
        for member in queue.members
        if member.host
        for workload in view.find("workloads of address", member.host)
    }
    if keys:
        view.homes[queue.key] = sorted(keys)
    known = view.homes.get(queue.key) or _named_as(queue, view)
    return [("workload", key) for key in known]


def _named_as(queue: Queue, view: View) -> list[str]:
    """The workloads with the name of the group, if its members were never seen."""
    named = view.find("workloads by name", queue.consumer_group)
    return [one.key for one in named] if len(named) == 1 else []


def of_readers(readers: list[Agent]) -> list[Node]:
    """Return what the readers run in: without it they take nothing."""
    nodes: list[Node] = []
    for agent in readers:
        nodes.append(("agent", agent.key))
        workloads = {one.workload for one in agent.instances if one.workload}
        nodes += [("workload", workload) for workload in sorted(workloads)]
        if agent.deployment_name:
            nodes.append(("deployment", agent.namespace or "", agent.deployment_name))
    return nodes


def capacity(readers: list[Agent]) -> list[Node]:
    """Return what lets the readers do less: a backlog grows also if only some pods are missing."""
    workloads = {one.workload for agent in readers for one in agent.instances if one.workload}
    return [
        *(("pods", workload) for workload in sorted(workloads)),
        *(("maximum", workload) for workload in sorted(workloads)),
        *(("load", agent.key) for agent in readers),
        *(("failing", agent.key) for agent in readers),
        *(("stalls", agent.key) for agent in readers),
    ]
