"""What kubelets and controllers write of pods: as the state shows it, and as kubectl prints it."""

import asyncio
from typing import Any, NamedTuple

from tests.real.kubernetes.cluster import Cluster, Object, pod
from tests.real.kubernetes.conftest import Watching
from tests.real.kubernetes.view import has, workload

EARLIER, LATER = "2026-11-28T10:00:00Z", "2026-11-28T10:00:30Z"
FINALIZER = "example.invalid/wait"
GATE = "example.invalid/balanced"


def state(name: str, said: Object, ready: bool | None = None, **more: Any) -> Object:
    """The status of a container, which is ready if it runs, unless told otherwise."""
    is_ready = "running" in said if ready is None else ready
    basis = {"name": name, "image": "i", "imageID": "", "restartCount": 0, "ready": is_ready}
    return {**basis, "state": said, **more}


def ended(code: int, reason: str, at: str = EARLIER) -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": at}}


def condition(type: str, status: str, reason: str = "", message: str = "") -> Object:
    return {"type": type, "status": status, "reason": reason, "message": message}


def containers(*names: str) -> list[Object]:
    return [{"name": name, "image": f"{name}:1"} for name in names]


RUNNING = {"running": {"startedAt": EARLIER}}
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}
INITIALIZED = condition("Initialized", "True")
NOT_READY = condition("Ready", "False", "ContainersNotReady", "unready")
SIDECAR = {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}
KILLED = {
    "phase": "Failed",
    "conditions": [INITIALIZED],
    "initContainerStatuses": [state("proxy", ended(137, "Error", LATER))],
    "containerStatuses": [state("app", ended(137, "OOMKilled"))],
}
KILLED_SPEC = {"restartPolicy": "Never", "initContainers": [SIDECAR]}


class Case(NamedTuple):
    word: str
    """What kubectl prints as STATUS."""
    reason: str | None
    container: str | None
    status: Object
    spec: Object | None = None
    is_deleted: bool = False


CASES = {
    "killed": Case("OOMKilled", "OOMKilled", "app", KILLED, KILLED_SPEC),
    "held": Case("OOMKilled", "OOMKilled", "app", KILLED, KILLED_SPEC, is_deleted=True),
    "probed": Case(
        *("Running", "ContainersNotReady", "app"),
        {
            "phase": "Running",
            "conditions": [INITIALIZED, NOT_READY],
            "containerStatuses": [state("app", RUNNING, ready=False, started=True)],
        },
    ),
    "completed": Case(
        *("NotReady", "NotReady", "app"),
        {
            "phase": "Running",
            "conditions": [INITIALIZED, NOT_READY],
            "containerStatuses": [state("app", ended(0, "Completed")), state("helper", RUNNING)],
        },
        {"containers": containers("app", "helper")},
    ),
    "migrating": Case(
        *("Init:0/2", "PodInitializing", "migrate"),
        {
            "phase": "Pending",
            "conditions": [condition("Initialized", "False"), NOT_READY],
            "initContainerStatuses": [
                state("migrate", RUNNING, ready=False),
                state("warm", INITIALIZING),
            ],
            "containerStatuses": [state("app", INITIALIZING)],
        },
        {"initContainers": containers("migrate", "warm")},
    ),
    "collected": Case(
        *("Failed", "DeletionByPodGC", None),
        {
            "phase": "Failed",
            "conditions": [condition("DisruptionTarget", "True", "DeletionByPodGC", "no node")],
        },
    ),
    "gated": Case(
        *("Running", "ReadinessGatesNotReady", None),
        {
            "phase": "Running",
            "conditions": [
                INITIALIZED,
                condition("Ready", "False", "ReadinessGatesNotReady", GATE),
            ],
            "containerStatuses": [state("app", RUNNING)],
        },
        {"readinessGates": [{"conditionType": GATE}]},
    ),
    "lost": Case(
        *("Running", "NodeNotReady", None),
        {
            "phase": "Running",
            "conditions": [INITIALIZED, condition("Ready", "False")],
            "containerStatuses": [state("app", RUNNING)],
        },
    ),
    "wordless": Case(
        *("ExitCode:0", "Completed", "app"),
        {
            "phase": "Running",
            "conditions": [INITIALIZED, NOT_READY],
            "containerStatuses": [state("app", ended(0, ""))],
        },
    ),
    "restarted": Case(
        *("Running", None, None),
        {
            "phase": "Running",
            "conditions": [INITIALIZED, condition("Ready", "True")],
            "initContainerStatuses": [state("rotate", ended(0, "Completed", LATER))],
            "containerStatuses": [
                state("app", RUNNING, restartCount=1, lastState=ended(137, "OOMKilled")),
            ],
        },
        {"initContainers": containers("rotate")},
    ),
}


async def stored(cluster: Cluster, name: str, case: Case) -> None:
    """Write the pod and its status, as a kubelet would; a deleted one waits for a finalizer."""
    spec = {"nodeName": "node-1", "containers": containers("app"), **(case.spec or {})}
    body = pod(name, tended=False, **spec)
    if case.is_deleted:
        body["metadata"]["finalizers"] = [FINALIZER]
    await cluster.make("Pod", body)
    await cluster.patch("Pod", name, {"status": case.status}, "status")
    if case.is_deleted:
        await cluster.delete("Pod", name)


async def test_pods_are_shown_in_kubectls_words_or_more_precisely(
    cluster: Cluster, watching: Watching
) -> None:
    for name, case in CASES.items():
        await stored(cluster, name, case)
    rows = await asyncio.to_thread(cluster.plane.table, cluster.path("Pod"))
    assert {row["Name"]: row["Status"] for row in rows} == {
        name: case.word for name, case in CASES.items()
    }
    async with watching() as view:
        state = await view.until(lambda state: len(state["workload"]) == len(CASES) and state)
    shown = {name: workload(state, name, "Pod")["pods"][0] for name in CASES}
    assert {name: (one["reason"], one["container"]) for name, one in shown.items()} == {
        name: (case.reason, case.container) for name, case in CASES.items()
    }
    assert GATE in shown["gated"]["message"]
    assert has(shown["killed"]["last_exit"], reason="OOMKilled", exit_code=137, container="app")
    assert has(shown["restarted"]["last_exit"], reason="OOMKilled", exit_code=137, container="app")
    await cluster.patch("Pod", "held", {"metadata": {"finalizers": None}})


async def test_the_image_is_that_of_the_default_container(
    cluster: Cluster, watching: Watching
) -> None:
    default = {"kubectl.kubernetes.io/default-container": "app"}
    await cluster.make(
        "Pod", pod("web", annotations=default, containers=containers("proxy", "app"))
    )
    async with watching() as view:
        await view.until(lambda state: workload(state, "web", "Pod")["pods"][0]["image"] == "app:1")
