"""Any pod whose status an API server accepts: random, and in most parts as a kubelet writes it."""

from typing import Any

from hypothesis import strategies as st

from tests.real.controlplane import UNTENDED

Object = dict[str, Any]

AT = ("2026-11-28T10:00:00Z", "2026-11-28T10:05:00Z", "2026-11-28T10:10:00Z")
GATE = "example.invalid/gate"
WAITS = (
    *("ContainerCreating", "PodInitializing", "CrashLoopBackOff", "ImagePullBackOff"),
    *("ErrImagePull", "CreateContainerConfigError", ""),
)
ENDS = ("Completed", "Error", "OOMKilled", "ContainerStatusUnknown", "StartError", "")
REASONS = ("", "", "", "", "Evicted", "DeadlineExceeded", "NodeLost", "NodeAffinity")
CONDITIONS = {
    "Initialized": ("", "ContainersNotInitialized"),
    "Ready": ("", "ContainersNotReady", "ReadinessGatesNotReady", "UnknownContainerStatuses"),
    "ContainersReady": ("", "ContainersNotReady"),
    "PodScheduled": ("", "Unschedulable", "SchedulingGated", "SchedulerError"),
    "PodReadyToStartContainers": ("",),
    "DisruptionTarget": ("", "DeletionByPodGC", "EvictionByEvictionAPI", "PreemptionByScheduler"),
    GATE: ("",),
}

choice = st.sampled_from


WAITING = st.builds(lambda reason: {"waiting": {"reason": reason, "message": "m"}}, choice(WAITS))
RUNNING = st.just({"running": {"startedAt": AT[0]}})
TERMINATED = st.builds(
    lambda code, signal, reason, at: {
        "terminated": {"exitCode": code, "signal": signal, "reason": reason, "finishedAt": at}
    },
    choice((0, 0, 1, 137)),
    choice((0, 0, 9)),
    choice(ENDS),
    choice(AT),
)
STATUS = st.fixed_dictionaries(
    {
        "image": st.just("i"),
        "imageID": st.just(""),
        "ready": st.booleans(),
        "restartCount": st.integers(0, 3),
        "state": st.one_of(RUNNING, TERMINATED, WAITING, st.just({})),
    },
    optional={"started": st.booleans(), "lastState": TERMINATED},
)
"""What a kubelet writes of one container, without its name."""


def condition(name: str, reasons: tuple[str, ...]) -> st.SearchStrategy[Object]:
    """One condition; if it is True it has a reason only if it is a disruption."""

    def build(status: str, reason: str) -> Object:
        says = reason if status != "True" or name == "DisruptionTarget" else ""
        return {"type": name, "status": status, "reason": says, "message": f"of {name}"}

    return st.builds(build, choice(("True", "False", "False", "Unknown")), choice(reasons))


EACH = {name: condition(name, reasons) for name, reasons in CONDITIONS.items()}
SOME = st.fixed_dictionaries({}, optional=EACH).map(lambda found: list(found.values()))


@st.composite
def pods(draw: st.DrawFn) -> Object:
    """A pod with its status; `metadata.finalizers` where it is to be deleted and stay."""
    sidecars = [draw(st.booleans()) for _ in range(draw(st.integers(0, 3)))]
    init = [
        {"name": f"init-{index}", "image": "i", **({"restartPolicy": "Always"} if lasts else {})}
        for index, lasts in enumerate(sidecars)
    ]
    regular = [{"name": f"main-{index}", "image": "i"} for index in range(draw(st.integers(1, 3)))]
    spec: Object = {
        "containers": regular,
        "initContainers": init,
        "readinessGates": draw(choice(([], [], [{"conditionType": GATE}]))),
        "restartPolicy": draw(choice(("Always", "OnFailure", "Never"))),
        "schedulerName": "none",
        "terminationGracePeriodSeconds": 0,
        **draw(choice(({"nodeName": "node-1"}, {}, {"schedulingGates": [{"name": GATE}]}))),
    }
    metadata: Object = {"labels": UNTENDED}
    if draw(st.integers(0, 4)) == 4:
        metadata["finalizers"] = ["example.invalid/wait"]
    phases = ("Running", "Running", "Pending", "Failed", "Succeeded", "Unknown", "")
    said: Object = {
        "phase": draw(choice(phases)),
        "reason": draw(choice(REASONS)),
        "message": "of the pod",
        "conditions": draw(SOME),
        "initContainerStatuses": draw_statuses(draw, init),
        "containerStatuses": draw_statuses(draw, regular),
        "ephemeralContainerStatuses": draw_statuses(draw, [{"name": "debugger"}]),
    }
    return {"metadata": metadata, "spec": spec, "status": said}


def draw_statuses(draw: st.DrawFn, containers: list[Object]) -> list[Object]:
    """One status for each of the first of these containers; for all of them, mostly."""
    seen = len(containers) if draw(st.integers(0, 5)) else draw(st.integers(0, len(containers)))
    return [{"name": one["name"], **draw(STATUS)} for one in containers[:seen]]
