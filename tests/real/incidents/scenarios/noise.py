"""The harmless disorder of every real system."""

from typing import Any

from tests.real.incidents.times import ago, second_ago
from tests.real.incidents.world import World

DAY = 86_400.0
FAILED = {
    "type": "Failed",
    "status": "True",
    "reason": "BackoffLimitExceeded",
    "message": "Job has reached the specified backoff limit",
}
COMPLETE = {
    "type": "Complete",
    "status": "True",
    "reason": "CompletionsReached",
    "message": "Reached expected number of succeeded pods",
}
CONTAINER = {"name": "main", "image": "registry.example/atlas/indexer:1.9.0"}


async def make(w: World) -> None:
    """Finished and failed Jobs, old OOM kills and failures, an abandoned consumer group."""
    scar(w)
    add_job(w, "migrate-4-17", 90_000)
    add_job(w, "nightly-index-29412960", 100_000, "nightly-index", failures=2)
    add_job(w, "nightly-index-29414400", 14_000, "nightly-index")
    partitions = w.broker.topics["research"].partitions
    await w.broker.commit("console-consumer-4711", "research", [1] * partitions)


def scar(w: World) -> None:
    """Containers that have ended days ago, and a failure of last week."""
    planner, coder = w.workload("planner"), w.workload("coder")
    ended = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": second_ago(5 * DAY)}
    planner.pods[0].restarts, planner.pods[0].last = 1, {"terminated": ended}
    for pod in coder.pods:
        ended = {"reason": "Error", "exitCode": 1, "finishedAt": second_ago(9 * DAY)}
        pod.restarts, pod.last = 4, {"terminated": ended}
    planner.sync()
    coder.sync()
    for instance in w.instances("reviewer"):
        instance.failure = {"task_id": "rev-101", "error": "TimeoutError", "at": ago(6 * DAY)}


def add_job(w: World, name: str, age: float, cron: str | None = None, *, failures: int = 0) -> None:
    """A Job that has ended, with its pods."""
    owned = {"ownerReferences": [owner("CronJob", cron)]} if cron else {}
    metadata = {"creationTimestamp": second_ago(age), "uid": name, **owned}
    spec = {"parallelism": 1, "completions": 1, "template": {"spec": {"containers": [CONTAINER]}}}
    condition, counts = (FAILED, {"failed": failures}) if failures else (COMPLETE, {"succeeded": 1})
    status = {"conditions": [condition], **counts}
    w.cluster.put("jobs", name, metadata, spec=spec, status=status)
    for number in range(failures or 1):
        _add_pod(w, name, age - 10 * number, is_failed=bool(failures))


def _add_pod(w: World, job: str, age: float, *, is_failed: bool) -> None:
    code, reason = (1, "Error") if is_failed else (0, "Completed")
    ended = {"exitCode": code, "reason": reason, "finishedAt": second_ago(age - 100)}
    container = {"name": "main", "ready": False, "restartCount": 0, "state": {"terminated": ended}}
    status = {
        "phase": "Failed" if is_failed else "Succeeded",
        "startTime": second_ago(age),
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [container],
    }
    metadata = {"creationTimestamp": second_ago(age), "ownerReferences": [owner("Job", job)]}
    spec = {"containers": [CONTAINER], "nodeName": "node-a1"}
    w.cluster.put("pods", f"{job}-{w.cluster.token(5)}", metadata, spec=spec, status=status)


def owner(kind: str, name: str) -> dict[str, Any]:
    """A reference to the controller."""
    return {"apiVersion": "batch/v1", "kind": kind, "name": name, "controller": True, "uid": name}
