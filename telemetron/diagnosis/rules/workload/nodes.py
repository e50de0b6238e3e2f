"""Nodes that do not answer."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.indexes import is_lost, is_unready
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import counted
from telemetron.document import Pod, Workload

STARTING = timedelta(minutes=2)
"""How long a pod may need until it is ready."""


def node_lost(one: Workload, view: View) -> Iterator[Symptom]:
    """A node does not answer any more; its pods may still run, or not."""
    unready = {pod.node for pod in one.pods if pod.node and _is_unready(pod, view)}
    for node in sorted(unready | {pod.node for pod in one.pods if pod.node and is_lost(pod)}):
        here = [pod for pod in one.pods if pod.node == node]
        is_clear = node not in unready or all(map(is_lost, here))
        is_out = not is_clear and view.fact(_is_out, one.source, node)
        lost = [pod for pod in here if is_out or is_lost(pod)]
        if not lost:
            continue
        hit = view.fact(_hit, one.source, node, is_out)
        yield Symptom(
            "NodeLost",
            "workload",
            one.key,
            f"{_words(node, lost)}; pods of {counted(hit, 'workload')} are on it",
            [
                Place("workload", one.key, item("pods", pod.pod_id, field))
                for pod in lost[:2]
                for field in ("node", "node_ready", "ready")
            ],
            kind="node",
            name=node,
            scope=one.source if view.count("sources of collector", "kubernetes") > 1 else "",
            provides=[
                ("node", one.source, node),
                ("pods", one.key),
                *(("pod", one.key, pod.pod_id) for pod in lost),
            ],
            severity="critical" if hit > 1 else "warning",
        )


# lookups


def _is_unready(pod: Pod, view: View) -> bool:
    """Whether the pod as a whole is not ready, long after its start."""
    if not is_unready(pod):
        return False
    is_new = pod.started_at is not None and view.now - pod.started_at <= STARTING
    if is_new:
        view.revisit()
    return not is_new


def _is_out(view: View, source: str, node: str) -> bool:
    """Whether no pod on the node is ready, and workloads that have pods elsewhere are ready there.

    Kubernetes shows so much also to those who may not look at nodes.
    """
    if view.count("workloads up on node", (source, node)):
        return False  # mostly so, among thousands of pods
    workloads = view.find("workloads of node", (source, node))
    here = (pod for one in workloads for pod in one.pods if pod.node == node)
    if len(workloads) < 2 or any(is_unready(pod) and not _is_unready(pod, view) for pod in here):
        return False
    spread = [one for one in workloads if any(pod.node != node for pod in one.pods)]
    return bool(spread) and all(
        any(pod.ready for pod in one.pods if pod.node != node) for one in spread
    )


def _hit(view: View, source: str, node: str, is_out: bool) -> int:
    """Count the workloads that have lost pods on the node."""
    index = "workloads of node" if is_out else "workloads of lost node"
    return view.count(index, (source, node))


def _words(node: str, lost: Sequence[Pod]) -> str:
    if any(map(is_lost, lost)):
        return f"Node {node} does not answer"
    return f"None of the pods on node {node} is ready"


RULES = (
    Rule(
        "NodeLost",
        "workload",
        "warning",
        5,
        15,
        "`pods[].node_ready` is false; or `pods[].ready` of all pods on a node is",
        "A node's kubelet does not answer, or no pod on it is ready while the same workloads are"
        " ready elsewhere. Its pods may still run; their state is unknown."
        " Critical if several workloads have pods there.",
        "Run `kubectl describe node NODE`; restart or replace the node, and drain it if its pods "
        "do not move.",
        node_lost,
    ),
)
