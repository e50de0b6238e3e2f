"""Jobs are as the job controller of a real control plane runs them; the tests play its kubelets."""

import asyncio
from itertools import count
from typing import Any

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from telemetron_collectors.kubernetes.api import objects
from telemetron_collectors.kubernetes.workloads import seen_workload
from tests.real.controlplane import ControlPlane
from tests.real.kubernetes.cluster import Cluster, Object, now, workload
from tests.real.kubernetes.conftest import Watching
from tests.real.kubernetes.view import State, View, has, pods
from tests.real.kubernetes.view import workload as shown
from tests.real.process import wait_until

HOLD = "example.invalid/hold"
NAME = "batch"
INDEX = "batch.kubernetes.io/job-completion-index"


async def make(cluster: Cluster, *, held: bool = False, **spec: Any) -> None:
    """A Job whose pods nobody runs; those that are `held` stay after they are deleted."""
    body = job(NAME, **spec)
    if held:
        body["spec"]["template"]["metadata"]["finalizers"] = [HOLD]
    await cluster.make("Job", body)


def job(name: str, **spec: Any) -> Object:
    body = workload(name, tended=False, pod={"restartPolicy": "Never"}, **spec)
    del body["spec"]["selector"]
    return body


async def release(cluster: Cluster) -> None:
    """Let go of the pods that are held."""
    for pod in await cluster.all("Pod", f"app={NAME}"):
        kept = [one for one in pod["metadata"].get("finalizers", ()) if one != HOLD]
        name = pod["metadata"]["name"]
        await cluster.patch("Pod", name, {"metadata": {"finalizers": kept}})


async def end(cluster: Cluster, phase: str, index: int) -> None:
    """End one of its pods: that of this index, or the one at this place."""
    found = [pod["metadata"] for pod in await cluster.all("Pod", f"app={NAME}")]
    found.sort(key=lambda pod: (pod["labels"].get(INDEX, ""), pod["name"]))
    name = found[index]["name"]
    await cluster.patch("Pod", name, {"status": ended(phase)}, "status")


def ended(phase: str) -> Object:
    code = int(phase == "Failed")
    state = {"terminated": {"exitCode": code, "finishedAt": now(), "startedAt": now()}}
    common = {"name": "main", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    return {"phase": phase, "containerStatuses": [{**common, "state": state}]}


async def until(view: View, **fields: Any) -> Any:
    """The Job, once its `live` has these values."""

    def look(state: State) -> Any:
        found = shown(state, NAME, "Job")
        return has(found["live"], **fields) and found

    return await view.until(look)


async def until_made(view: View, count: int) -> None:
    await view.until(lambda state: len(pods(state, NAME, "Job", status="Pending")) == count)


async def status_of(cluster: Cluster) -> str:
    """As `kubectl get job` prints it."""
    (row,) = await asyncio.to_thread(cluster.plane.table, cluster.path("Job"))
    return str(row["Status"])


async def test_a_job_that_is_about_to_fail_wants_no_pods(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        await make(cluster, held=True, completions=2, parallelism=2, backoffLimit=0)
        await until_made(view, 2)
        await end(cluster, "Failed", 0)
        await until(view, rollout="stuck", desired=0, reason="BackoffLimitExceeded")
        assert await status_of(cluster) == "FailureTarget"
        await view.until(lambda state: pods(state, NAME, "Job", status="Pending"))
        await release(cluster)
        await until(view, rollout="stuck", desired=0, reason="BackoffLimitExceeded")


async def test_a_job_that_has_met_its_success_policy_wants_no_pods(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        policy = {"rules": [{"succeededIndexes": "1"}]}
        indexed = {"completionMode": "Indexed", "successPolicy": policy}
        await make(cluster, held=True, completions=3, parallelism=3, **indexed)
        await until_made(view, 3)
        await end(cluster, "Succeeded", 1)
        await until(view, rollout="complete", desired=0, reason="SuccessPolicy")
        assert await status_of(cluster) == "SuccessCriteriaMet"
        await release(cluster)


async def test_an_index_that_failed_for_good_is_not_wanted(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        indexed = {"completionMode": "Indexed", "backoffLimitPerIndex": 0}
        await make(cluster, completions=5, parallelism=5, **indexed)
        await until_made(view, 5)
        await end(cluster, "Failed", 2)
        await end(cluster, "Succeeded", 4)
        await until(view, rollout="progressing", desired=3)
        assert (await cluster.get("Job", NAME))["status"]["active"] == 3


async def test_a_work_queue_starts_no_pod_after_the_first_success(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        await make(cluster, parallelism=3)
        await until_made(view, 3)
        found = await until(view, rollout="progressing", desired=3)
        assert found["max_pods"] == 3
        for place in range(2):
            await end(cluster, "Succeeded", place)
        await until(view, rollout="progressing", desired=1)
        assert (await cluster.get("Job", NAME))["status"]["active"] == 1
        await end(cluster, "Succeeded", 2)
        await until(view, rollout="complete", desired=0)


async def test_a_job_has_no_more_pods_than_completions(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        await make(cluster, completions=2, parallelism=5)
        await until_made(view, 2)
        found = await until(view, rollout="progressing", desired=2)
        assert found["max_pods"] == 2


async def test_a_job_without_parallelism_or_that_is_suspended_is_paused(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        await make(cluster, completions=2, parallelism=0)
        found = await until(view, rollout="paused", desired=0, reason=None)
        assert found["max_pods"] == 0
        await cluster.patch("Job", NAME, {"spec": {"parallelism": 1}})
        await until(view, rollout="progressing", desired=1)
        await cluster.patch("Job", NAME, {"spec": {"suspend": True}})
        await until(view, rollout="paused", desired=0, reason="JobSuspended")
        await cluster.patch("Job", NAME, {"spec": {"suspend": False}})
        await until(view, rollout="progressing", desired=1, reason=None)


async def test_a_job_past_its_deadline(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        await make(cluster, activeDeadlineSeconds=1)
        await until(view, rollout="stuck", desired=0, reason="DeadlineExceeded")


# Of an Indexed Job any index may fail for good; others would wait before they try again.
plain = st.fixed_dictionaries(
    {"parallelism": st.integers(0, 4)}, optional={"completions": st.integers(1, 4)}
)
indexed = st.fixed_dictionaries(
    {
        "parallelism": st.integers(0, 4),
        "completions": st.integers(1, 4),
        "completionMode": st.just("Indexed"),
        "backoffLimitPerIndex": st.just(0),
    }
)
phases = st.sampled_from(["Succeeded", "Failed"])
runs = st.tuples(plain, st.lists(st.just("Succeeded"), max_size=4)) | st.tuples(
    indexed, st.lists(phases, max_size=4)
)
numbers = count()


@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(jobs=st.lists(runs, min_size=8, max_size=8))
def test_jobs_want_the_pods_that_their_controller_runs(
    control_plane: ControlPlane, jobs: list[tuple[Object, list[str]]]
) -> None:
    space = f"jobs-{next(numbers)}"
    control_plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": space}})
    batch = f"/apis/batch/v1/namespaces/{space}/jobs"
    core = f"/api/v1/namespaces/{space}/pods"

    def wants(name: str) -> tuple[int | None, Object]:
        found = control_plane.call("GET", f"{batch}/{name}")
        seen = seen_workload("Job", msgspec.convert(found, objects.Job))
        return seen.live.desired, found["status"]

    def settles(name: str, successes: int) -> None:
        """The controller has counted its pods, and runs those that are wanted."""

        def is_settled() -> bool:
            desired, status = wants(name)
            is_counted = status.get("succeeded", 0) == successes and "startTime" in status
            is_empty = not any(status.get("uncountedTerminatedPods", {}).values())
            return is_counted and is_empty and status.get("active", 0) == desired

        wait_until(is_settled, seconds=60, what=f"{name} {jobs}")

    for number, (spec, _) in enumerate(jobs):
        control_plane.call("POST", batch, job(f"j{number}", **spec))
    for number, (_, ends) in enumerate(jobs):
        name = f"j{number}"
        settles(name, 0)
        query = f"?labelSelector=app%3D{name}"
        made = [pod["metadata"]["name"] for pod in control_plane.call("GET", core + query)["items"]]
        done = list(zip(made, ends, strict=False))
        for pod, phase in done:
            status = {"status": ended(phase)}
            control_plane.call("PATCH", f"{core}/{pod}/status", status)
        settles(name, sum([phase == "Succeeded" for _, phase in done]))
    control_plane.call("DELETE", f"/api/v1/namespaces/{space}")
