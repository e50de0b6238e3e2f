"""Nodes that do not answer."""

from collections.abc import Iterator

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.view import View
from telemetron.document import Pod, Workload

LOST = ("NodeLost", "NodeNotReady")


def node_lost(one: Workload, view: View) -> Iterator[Symptom]:
    """A node does not answer any more; its pods may still run, or not."""
    for node in sorted({pod.node for pod in one.pods if pod.node and _is_lost(pod)}):
        lost = [pod for pod in one.pods if pod.node == node and _is_lost(pod)]
        others = view.find("workloads of node", node)
        hit = [other for other in others if any(_is_lost(p) for p in other.pods if p.node == node)]
        yield Symptom(
            "NodeLost",
            "workload",
            one.key,
            f"Node {node} does not answer; pods of {len(hit)} workloads are on it",
            [
                Place("workload", one.key, item("pods", pod.pod_id, field))
                for pod in lost[:3]
                for field in ("node", "node_ready")
            ],
            kind="node",
            name=node,
            provides=[
                ("node", node),
                ("pods", one.key),
                *(("pod", pod.pod_id) for pod in lost),
            ],
            severity="critical" if len(hit) > 1 else "warning",
        )


# lookups


def _is_lost(pod: Pod) -> bool:
    return pod.status != "Succeeded" and (pod.node_ready is False or pod.reason in LOST)


RULES = (
    Rule(
        "NodeLost",
        "workload",
        "warning",
        5,
        15,
        "`pods[].node_ready` is false",
        "A node's kubelet does not answer. Its pods may still run; their state is unknown."
        " Critical if several workloads have pods there.",
        "Look at the node (`kubectl describe node`); drain or replace it.",
        node_lost,
    ),
)
