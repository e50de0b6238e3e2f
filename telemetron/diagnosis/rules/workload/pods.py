"""Pods that crash, cannot start, or whose main container has ended."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.rules.workload.symptoms import is_job, of_pods, on_nodes, some
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import counted
from telemetron.document import Pod, Workload

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
RECENT = timedelta(minutes=10)
"""How long a pod that has restarted remembers its last failure as a crash."""
CRASHES = 3
"""Restarts that make a crash loop of a pod that runs at the moment."""


def crashing(one: Workload, view: View) -> Iterator[Symptom]:
    """Containers end with an error again and again."""
    bad = [pod for pod in one.pods if _crashes(pod, view)]
    if is_job(one) or not bad:
        return
    ends = [pod.last_exit for pod in bad if pod.last_exit and pod.last_exit.reason not in CLEAN]
    reasons = sorted({end.reason or "" for end in ends})
    restarts = [pod.restarts for pod in bad if pod.restarts is not None]
    details = [counted(sum(restarts), "restart")] if restarts else []
    if reasons:
        details.append(f"last exit {' and '.join(reasons)}")
    verb = "crashes" if len(bad) == 1 else "crash"
    summary = f"{some(bad, one)} {verb}{': ' if details else ''}{', '.join(details)}"
    fields = ["last_exit/reason", "last_exit/exit_code"] if "Error" in reasons else []
    fields = fields or (["last_exit/reason"] if ends else ["reason", "restarts"])
    yield of_pods(
        "WorkloadCrashing",
        one,
        bad,
        summary,
        fields,
        depends=[("crash", one.key)],
        newest=min(  # Kubernetes knows only the latest crash of each pod
            (end.at for end in ends if end.at and view.now - end.at < RECENT), default=None
        ),
    )


def image(one: Workload, _: View) -> Iterator[Symptom]:
    """An image cannot be pulled."""
    what = "cannot pull its image", "cannot pull an image"
    yield from _by_reason("ImagePull", one, IMAGE, *what, "image")


def config(one: Workload, _: View) -> Iterator[Symptom]:
    """A container cannot be created: a Secret, ConfigMap, key or command is missing."""
    what = "has a container that cannot be created"
    yield from _by_reason("ContainerConfig", one, CONFIG, what, what.replace("has", "have"))


def unschedulable(one: Workload, _: View) -> Iterator[Symptom]:
    """No node takes the pod."""
    reasons = ("Unschedulable",)  # gated pods are held back on purpose
    yield from _by_reason("Unschedulable", one, reasons, "finds no node", "find no node")


def container_gone(one: Workload, view: View) -> Iterator[Symptom]:
    """A container has ended for good, and others keep the pod Running."""
    for pod in one.pods:
        if pod.status == "Running" and pod.ready is False and _has_ended(pod):
            if _crashes(pod, view) or is_job(one):
                continue
            yield Symptom(
                "ContainerGone",
                "workload",
                one.key,
                f"Container {pod.container} of pod {pod.pod_id} has ended ({pod.reason}), while"
                " other containers keep the pod Running",
                [
                    Place("workload", one.key, item("pods", pod.pod_id, field))
                    for field in ("reason", "status", "ready", "last_exit/reason")
                ],
                path=item("pods", pod.pod_id),
                since=pod.last_exit.at if pod.last_exit else None,
                provides=[("pod", one.key, pod.pod_id), ("pods", one.key)],
                depends=on_nodes(one, [pod]),
            )


# lookups


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


def _by_reason(
    rule: str, one: Workload, reasons: Sequence[str], of_one: str, of_several: str, *more: str
) -> Iterator[Symptom]:
    bad = [pod for pod in one.pods if pod.reason in reasons and pod.status == "Pending"]
    bad += [pod for pod in one.pods if pod.reason in reasons and pod.status == "Running"]
    if bad:
        message = next((pod.message for pod in bad if pod.message), None)
        what = of_one if len(bad) == 1 else of_several
        summary = f"{some(bad, one)} {what}: {message or bad[0].reason}"
        since = min((pod.created_at for pod in bad if pod.created_at), default=None)
        yield of_pods(rule, one, bad, summary, ("reason", "message", *more), since=since)


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
        "Run `kubectl logs POD -c CONTAINER --previous`. If `last_exit.reason` is `OOMKilled`, "
        "compare the memory limit with the container's use; if the crashes began with a rollout, "
        "run `kubectl rollout undo`.",
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
        "Run `kubectl describe pod POD`; correct the image's name or the pull secret. `kubectl "
        "rollout undo` returns to the previous image.",
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
        "Run `kubectl describe pod POD`; create the object that the message names, or correct the "
        "pod's template.",
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
        "Read the scheduler's message (`kubectl describe pod POD`); add nodes, lower the "
        "requests, or correct selectors and tolerations.",
        unschedulable,
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
        "Run `kubectl logs POD -c CONTAINER`; then delete the pod, so that its controller creates "
        "a new one.",
        container_gone,
    ),
)
