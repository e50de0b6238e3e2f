"""Workloads: pods that crash, cannot start, or are missing."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Node, Place, Rule, Symptom
from telemetron.diagnosis.view import View
from telemetron.document import Pod, Queue, Workload

IMAGE = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
)
CONFIG = ("CreateContainerConfigError", "CreateContainerError", "ContainerCannotRun")
CRASH = ("CrashLoopBackOff", "RunContainerError", "PostStartHookError", "StartError")
CLEAN = ("Completed", None)
REJECTED = ("FailedCreate", "ReplicaFailure", "FailedCreatePodSandBox")
LOST = ("NodeLost", "NodeNotReady")
RECENT = timedelta(minutes=10)
"""How long a pod that has restarted remembers its last failure as a crash."""
CRASHES = 3
"""Restarts that make a crash loop of a pod that runs at the moment."""


def crashing(one: Workload, view: View) -> Iterator[Symptom]:
    """Containers end with an error again and again."""
    bad = [pod for pod in one.pods if _crashes(pod, view)]
    if one.kind.partition(".")[0] == "Job" or not bad:
        return
    ends = [pod.last_exit for pod in bad if pod.last_exit and pod.last_exit.reason not in CLEAN]
    reasons = sorted({end.reason or "" for end in ends})
    restarts = [pod.restarts for pod in bad if pod.restarts is not None]
    details = [f"{sum(restarts)} restarts"] if restarts else []
    if reasons:
        details.append(f"last exit {' and '.join(reasons)}")
    summary = f"{_some(bad, one)} crash{': ' if details else ''}{', '.join(details)}"
    fields = ("reason", "restarts", "last_exit/reason", "last_exit/exit_code")
    yield _of_pods(
        "WorkloadCrashing",
        one,
        bad,
        summary,
        fields,
        depends=[("crash", one.key)],
        since=_ended(bad),
    )


def image(one: Workload, _: View) -> Iterator[Symptom]:
    """An image cannot be pulled."""
    yield from _by_reason("ImagePull", one, IMAGE, "cannot pull their image")


def config(one: Workload, _: View) -> Iterator[Symptom]:
    """A container cannot be created: a Secret, ConfigMap, key or command is missing."""
    yield from _by_reason("ContainerConfig", one, CONFIG, "cannot be created")


def unschedulable(one: Workload, _: View) -> Iterator[Symptom]:
    """No node takes the pod."""
    yield from _by_reason(
        "Unschedulable", one, ("Unschedulable", "SchedulingGated"), "find no node"
    )


def replicas_missing(one: Workload, _: View) -> Iterator[Symptom]:
    """The API server refuses pods: a quota, an admission webhook."""
    live = one.live
    if live is None or live.reason not in REJECTED:
        return
    if (
        live.desired is not None
        and live.active_pods is not None
        and live.active_pods < live.desired
    ):
        yield _whole(
            "ReplicasMissing",
            one,
            f"{one.kind} {one.deployment_name} has {live.active_pods} of {live.desired} pods:"
            f" {live.message or live.reason}",
            ("live/reason", "live/message", "live/active_pods", "live/desired"),
            provides=[("pods", one.key), ("workload", one.key)],
        )


def rollout_stuck(one: Workload, _: View) -> Iterator[Symptom]:
    """A rollout is out of time."""
    if one.live is not None and one.live.rollout == "stuck":
        yield _whole(
            "RolloutStuck",
            one,
            f"The rollout of {one.kind} {one.deployment_name} is stuck"
            f"{f': {one.live.message}' if one.live.message else ''}",
            ("live/rollout", "live/reason", "live/message"),
            provides=[("rollout", one.key)],
            depends=[("pods", one.key)],
            since=one.live.rolled_out_at,
        )


def unavailable(one: Workload, _: View) -> Iterator[Symptom]:
    """No pod is ready of those that should be."""
    live = one.live
    if live is None or not live.desired or live.ready != 0 or _is_job(one):
        return
    yield _whole(
        "WorkloadUnavailable",
        one,
        f"None of {live.desired} pods of {one.kind} {one.deployment_name} is ready",
        ("live/ready", "live/desired"),
        provides=[("workload", one.key)],
        depends=[("pods", one.key), ("rollout", one.key), *_nodes(one.pods)],
    )


def container_gone(one: Workload, view: View) -> Iterator[Symptom]:
    """A container has ended for good, and others keep the pod Running."""
    for pod in one.pods:
        if pod.status == "Running" and pod.ready is False and _has_ended(pod):
            if _crashes(pod, view) or _is_job(one):
                continue
            yield Symptom(
                "ContainerGone",
                "workload",
                one.key,
                f"Container {pod.container} of pod {pod.pod_id} has ended ({pod.reason}), while"
                " other containers keep the pod Running",
                [
                    Place("workload", one.key, item("pods", pod.pod_id, field))
                    for field in ("status", "reason", "container", "ready", "last_exit/reason")
                ],
                path=item("pods", pod.pod_id),
                since=pod.last_exit.at if pod.last_exit else None,
                provides=[("pod", pod.pod_id), ("pods", one.key)],
                depends=_nodes([pod]),
            )


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


def job_failed(one: Workload, _: View) -> Iterator[Symptom]:
    """A Job has used up its retries or its time."""
    live = one.live
    if _is_job(one) and live and live.reason in ("BackoffLimitExceeded", "DeadlineExceeded"):
        yield _whole(
            "JobFailed",
            one,
            f"Job {one.deployment_name} failed: {live.reason}",
            ("live/reason", "live/message"),
        )


def scaled_to_zero(one: Workload, view: View) -> Iterator[Symptom]:
    """No pod is wanted, while work waits for its agents."""
    if one.live is None or one.live.desired != 0 or _is_job(one):
        return
    for queue in _queues(one, view):
        if queue.depth and queue.consumers == 0:
            yield Symptom(
                "ScaledToZero",
                "workload",
                one.key,
                f"{one.kind} {one.deployment_name} is scaled to zero, and"
                f" {queue.depth} tasks wait in queue {queue.name}",
                [
                    Place("workload", one.key, "live/desired"),
                    Place("queues", queue.key, "depth"),
                    Place("queues", queue.key, "consumers"),
                ],
                since=queue.oldest_submitted_at,
                provides=[("workload", one.key), ("queue", queue.key)],
            )
            return


def at_maximum(one: Workload, view: View) -> Iterator[Symptom]:
    """An autoscaler may add no more pods, while the backlog of its agents grows."""
    live = one.live
    if live is None or live.desired is None or one.max_pods is None:
        return
    if live.desired < one.max_pods:
        view.autoscaled.add(one.key)  # without an autoscaler the two are equal
    if live.desired < one.max_pods or one.key not in view.autoscaled:
        return
    for queue in _queues(one, view):
        if view.trends.rises(("queues", queue.key), view.monotonic):
            yield Symptom(
                "AtMaximum",
                "workload",
                one.key,
                f"{one.kind} {one.deployment_name} has all {one.max_pods} pods that its"
                f" autoscaler allows, and queue {queue.name} grows: {queue.depth} tasks wait",
                [
                    Place("workload", one.key, "live/desired"),
                    Place("workload", one.key, "max_pods"),
                    Place("queues", queue.key, "depth"),
                ],
                since=queue.oldest_submitted_at,
                provides=[("maximum", one.key)],
            )
            return


# what they look at


def _queues(one: Workload, view: View) -> Iterator[Queue]:
    """Yield the queues that the workload's agents read."""
    for agent in view.find("agents of workload", one.key):
        for name in agent.queues:
            yield from view.find("queues by name", name)


def _crashes(pod: Pod, view: View) -> bool:
    """Whether it is in a crash loop, also between two crashes."""
    if pod.reason in CRASH:
        return True
    end = pod.last_exit
    if end is None or end.reason in CLEAN or end.at is None or (pod.restarts or 0) < CRASHES:
        return False
    return pod.status in ("Running", "Pending") and view.now - end.at < RECENT


def _has_ended(pod: Pod) -> bool:
    """Whether the reason is that of a container that has terminated."""
    if pod.container is None or pod.reason is None or pod.last_exit is None:
        return False
    return pod.reason == pod.last_exit.reason and pod.container == pod.last_exit.container


def _is_lost(pod: Pod) -> bool:
    return pod.status != "Succeeded" and (pod.node_ready is False or pod.reason in LOST)


def _is_job(one: Workload) -> bool:
    return one.kind.partition(".")[0] == "Job"


def _by_reason(rule: str, one: Workload, reasons: Sequence[str], what: str) -> Iterator[Symptom]:
    bad = [pod for pod in one.pods if pod.reason in reasons and pod.status == "Pending"]
    bad += [pod for pod in one.pods if pod.reason in reasons and pod.status == "Running"]
    if bad:
        message = next((pod.message for pod in bad if pod.message), None)
        summary = f"{_some(bad, one)} {what}: {message or bad[0].reason}"
        since = min((pod.created_at for pod in bad if pod.created_at), default=None)
        yield _of_pods(rule, one, bad, summary, ("reason", "message", "image"), since=since)


def _of_pods(
    rule: str,
    one: Workload,
    bad: Sequence[Pod],
    summary: str,
    fields: Sequence[str],
    *,
    since: datetime | None,
    depends: Sequence[Node] = (),
) -> Symptom:
    """Of one pod among several it is the pod's, else the workload's; critical if none is ready."""
    is_one = len(bad) == 1 < len(one.pods)
    none_ready = one.live is not None and one.live.ready == 0
    return Symptom(
        rule,
        "workload",
        one.key,
        summary,
        [
            Place("workload", one.key, item("pods", pod.pod_id, field))
            for pod in bad[:2]
            for field in fields
        ],
        path=item("pods", bad[0].pod_id) if is_one else None,
        since=since,
        provides=[
            ("pods", one.key),
            *(("pod", pod.pod_id) for pod in bad),
            *([("workload", one.key)] if none_ready or len(bad) == len(one.pods) else []),
        ],
        depends=[*depends, *_nodes(bad)],
        severity="critical" if none_ready else None,
    )


def _whole(
    rule: str,
    one: Workload,
    summary: str,
    fields: Sequence[str],
    *,
    provides: Sequence[Node] = (),
    depends: Sequence[Node] = (),
    since: datetime | None = None,
) -> Symptom:
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
    )


def _nodes(pods: Sequence[Pod]) -> list[Node]:
    return [("node", node) for node in sorted({pod.node for pod in pods if pod.node})]


def _some(bad: Sequence[Pod], one: Workload) -> str:
    if len(bad) == 1:
        return f"Pod {bad[0].pod_id} of {one.kind} {one.deployment_name}"
    count = "All" if len(bad) == len(one.pods) else f"{len(bad)} of"
    return f"{count} {len(one.pods)} pods of {one.kind} {one.deployment_name}"


def _ended(pods: Sequence[Pod]) -> datetime | None:
    """When the earliest of their last failures was; the loop began before, unknown when."""
    ends = [pod.last_exit.at for pod in pods if pod.last_exit and pod.last_exit.at]
    return min(ends, default=None)


RULES = (
    Rule(
        "WorkloadCrashing",
        "workload",
        "warning",
        5,
        120,
        "`pods[].reason`, `restarts`, `last_exit`",
        "Containers end with an error again and again: a crash loop, an OOM kill, a failing start."
        " Critical if no pod of the workload is ready.",
        "Read `last_exit` and the logs of the previous container (`kubectl logs --previous`); after"
        " `OOMKilled` compare the memory limit with what the container needs.",
        crashing,
    ),
    Rule(
        "ImagePull",
        "workload",
        "warning",
        10,
        10,
        "`pods[].reason`: `ErrImagePull`, `ImagePullBackOff` and their like",
        "An image cannot be pulled: its tag does not exist, or the registry refuses.",
        "Check the image's name and the pull secret; undo the rollout if old pods still serve.",
        image,
    ),
    Rule(
        "ContainerConfig",
        "workload",
        "warning",
        10,
        10,
        "`pods[].reason`: `CreateContainerConfigError` and its like",
        "A container cannot be created: a Secret, a ConfigMap, one of their keys or the command is"
        " missing.",
        "Create what the message names, or correct the pod's template.",
        config,
    ),
    Rule(
        "Unschedulable",
        "workload",
        "warning",
        30,
        10,
        "`pods[].reason` is `Unschedulable`",
        "The scheduler finds no node for the pod.",
        "Read the message: add nodes, lower the requests, or correct selectors and tolerations.",
        unschedulable,
    ),
    Rule(
        "ReplicasMissing",
        "workload",
        "warning",
        15,
        10,
        "`live.reason` is `FailedCreate` and `active_pods` is below `desired`",
        "The API server refuses to create pods: a quota is used up or an admission webhook denies.",
        "Read `live.message`; raise the quota or mend what the webhook objects to.",
        replicas_missing,
    ),
    Rule(
        "RolloutStuck",
        "workload",
        "warning",
        0,
        5,
        "`live.rollout` is `stuck`",
        "The rollout has not progressed within its deadline.",
        "Look at the new pods; `kubectl rollout undo` goes back.",
        rollout_stuck,
    ),
    Rule(
        "WorkloadUnavailable",
        "workload",
        "critical",
        60,
        10,
        "`live.ready` is 0 and `live.desired` is above 0",
        "No pod of the workload is ready.",
        "Read the reasons of its pods.",
        unavailable,
    ),
    Rule(
        "ContainerGone",
        "workload",
        "warning",
        15,
        10,
        "`pods[].reason` of a pod that is `Running` and not ready",
        "The pod's container has ended and is not started again, while a sidecar keeps the pod"
        " Running.",
        "Delete the pod, so that its controller makes a new one; read `last_exit` for the cause.",
        container_gone,
    ),
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
    Rule(
        "JobFailed",
        "workload",
        "info",
        0,
        0,
        "`live.reason` of a Job: `BackoffLimitExceeded`, `DeadlineExceeded`",
        "A Job has failed for good.",
        "Read the logs of its pods; start it again when the cause is mended.",
        job_failed,
    ),
    Rule(
        "ScaledToZero",
        "workload",
        "critical",
        30,
        5,
        "`live.desired` is 0, and `depth` of a queue that its agents read is above 0",
        "No pod is wanted, but work waits for it.",
        "Scale the workload up; look for an autoscaler that cannot see the queue.",
        scaled_to_zero,
        asks=("queues", "agents"),
    ),
    Rule(
        "AtMaximum",
        "workload",
        "warning",
        20,
        30,
        "`live.desired` equals `max_pods`, and `depth` of a queue that its agents read grows",
        "The autoscaler cannot add pods, and the backlog grows. An autoscaler at its maximum is no"
        " finding if the backlog does not grow.",
        "Raise the autoscaler's maximum, or make each pod do more.",
        at_maximum,
        asks=("queues", "agents"),
    ),
)
