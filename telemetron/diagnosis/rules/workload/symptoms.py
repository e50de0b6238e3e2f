"""Symptoms of a workload: of one pod, of several, or of the whole."""

from collections.abc import Sequence
from datetime import datetime

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Node, Place, Symptom
from telemetron.document import Pod, Workload


def of_pods(
    rule: str,
    one: Workload,
    bad: Sequence[Pod],
    summary: str,
    fields: Sequence[str],
    *,
    since: datetime | None = None,
    newest: datetime | None = None,
    depends: Sequence[Node] = (),
) -> Symptom:
    """Return the symptom of one pod among several, else of the workload.

    It is critical if no pod is ready.
    """
    is_one = len(bad) == 1 < len(one.pods)
    none_ready = one.live is not None and one.live.ready == 0
    return Symptom(
        rule,
        "workload",
        one.key,
        summary,
        [
            Place("workload", one.key, item("pods", pod.pod_id, field))
            for pod in bad[:1]
            for field in fields
        ],
        path=item("pods", bad[0].pod_id) if is_one else None,
        since=since,
        newest=newest,
        provides=[
            ("pods", one.key),
            *(("pod", one.key, pod.pod_id) for pod in bad),
            *([("workload", one.key)] if none_ready or len(bad) == len(one.pods) else ()),
        ],
        depends=[*depends, *on_nodes(one, bad)],
        severity="critical" if none_ready else None,
    )


def whole(
    rule: str,
    one: Workload,
    summary: str,
    fields: Sequence[str],
    *,
    provides: Sequence[Node] = (),
    depends: Sequence[Node] = (),
    since: datetime | None = None,
    is_group: bool = False,
) -> Symptom:
    """Return the symptom of the whole workload."""
    evidence = [Place("workload", one.key, field) for field in fields]
    return Symptom(
        rule,
        "workload",
        one.key,
        summary,
        evidence,
        since=since,
        provides=provides,
        depends=depends,
        is_group=is_group,
    )


def on_nodes(one: Workload, pods: Sequence[Pod]) -> list[Node]:
    """Return the nodes that these pods of the workload are on."""
    return [("node", one.source, node) for node in sorted({pod.node for pod in pods if pod.node})]


def some(bad: Sequence[Pod], one: Workload) -> str:
    """Return the words for these pods of the workload."""
    if len(bad) == 1:
        return f"Pod {bad[0].pod_id} of {one.kind} {one.deployment_name}"
    count = "All" if len(bad) == len(one.pods) else f"{len(bad)} of"
    return f"{count} {len(one.pods)} pods of {one.kind} {one.deployment_name}"


def is_job(one: Workload) -> bool:
    """Return whether it is a Job, which may end."""
    return one.kind.partition(".")[0] == "Job"
