"""Homes: the workload and the pod of an instance."""

from telemetron.diagnosis.view import View
from telemetron.document import Agent, Instance, Pod, Workload


def home_of(agent: Agent, one: Instance, view: View) -> Workload | None:
    """Return the workload of an instance, None if none is in sight.

    Kubernetes names the workloads only of pods that may still run. One that has ended or is gone
    belonged to that of the other instances, or to the agent's Deployment, if it is named so.
    """
    known: Workload | None = view.get("workload", one.workload) if one.workload else None
    pod = one.pod_id
    if known or pod is None:
        return known
    keys = sorted({other.workload for other in agent.instances if other.workload})
    near = [found for key in keys if (found := view.get("workload", key))]
    near += [
        found
        for found in view.find("workloads by name", agent.deployment_name)
        if found.namespace == agent.namespace
    ]
    return next((found for found in near if pod.startswith(f"{found.deployment_name}-")), None)


def pod_of(home: Workload | None, one: Instance) -> Pod | None:
    """Return the pod of an instance in its workload, None if none is in sight."""
    pods = home.pods if home and one.pod_id else ()
    return next((pod for pod in pods if pod.pod_id == one.pod_id), None)
