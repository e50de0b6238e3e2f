"""Homes: the workloads of an agent, and the workload and the pod of an instance."""

from telemetron.diagnosis.view import View
from telemetron.document import Agent, Instance, Pod, Workload


def home_of(agent: Agent, one: Instance, view: View) -> Workload | None:
    """Return the workload of an instance, None if none is in sight.

    Kubernetes names the workloads only of pods that may still run. One that has ended or is gone
    belonged to that of the other instances, or to the agent's Deployment, if it is named so. An
    agent that Kubernetes does not declare runs in the only pod of its namespace with that name.
    """
    known: Workload | None = view.get("workload", one.workload) if one.workload else None
    pod = one.pod_id
    if known or pod is None:
        return known
    near = workloads_of(agent, view)
    named = next((found for found in near if pod.startswith(f"{found.deployment_name}-")), None)
    if named:
        return named
    found = view.find("workloads of pod", (agent.namespace, pod))
    return found[0] if len(found) == 1 else None


def workloads_of(agent: Agent, view: View) -> list[Workload]:
    """Return the workloads of its instances, and its Deployment if there is only one so named."""
    keys = {one.workload for one in agent.instances if one.workload}
    near = [found for key in sorted(keys) if (found := view.get("workload", key))]
    named = [
        found
        for found in view.find("workloads by name", agent.deployment_name)
        if found.namespace == agent.namespace and found.kind == "Deployment"
    ]
    return near + named if len(named) == 1 and named[0] not in near else near


def pod_of(home: Workload | None, one: Instance) -> Pod | None:
    """Return the pod of an instance in its workload, None if none is in sight."""
    pods = home.pods if home and one.pod_id else ()
    return next((pod for pod in pods if pod.pod_id == one.pod_id), None)
