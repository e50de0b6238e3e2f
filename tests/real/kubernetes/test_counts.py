"""Counts of many pods, and which of them are listed; pods as real controllers make them."""

import asyncio
from typing import Any

from tests.real.kubernetes.cluster import Cluster, Object, pod_spec, workload
from tests.real.kubernetes.conftest import Watching
from tests.real.kubernetes.view import agent, has
from tests.real.kubernetes.view import workload as shown

MANY = 300
PLANNER = {"telemetron.dev/agent": "planner"}
EVICTED = {"status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}}
RUNNING = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}


async def patch_all(cluster: Cluster, pods: list[Object], status: Object) -> None:
    """Say this of each pod."""
    async with asyncio.TaskGroup() as tasks:
        for one in pods:
            tasks.create_task(cluster.patch("Pod", one["metadata"]["name"], status, "status"))


async def alive(cluster: Cluster, count: int, labels: str) -> list[Object]:
    """So many pods that have not ended, once there are."""
    async with asyncio.timeout(60):
        while True:
            pods = [
                one
                for one in await cluster.all("Pod", labels)
                if one["status"]["phase"] in ("Pending", "Running")
                and "deletionTimestamp" not in one["metadata"]
            ]
            if len(pods) == count:
                return pods
            await asyncio.sleep(0.1)


async def test_pods_that_run_are_listed_and_counted_beside_many_that_were_evicted(
    cluster: Cluster, watching: Watching
) -> None:
    body = workload("web", replicas=100, tended=False, annotations=PLANNER)
    await cluster.make("Deployment", body)
    for _ in range(MANY // 100):
        await patch_all(cluster, await alive(cluster, 100, "app=web"), EVICTED)
    await cluster.patch("Deployment", "web", {"spec": {"replicas": 3}}, "scale")
    running = await alive(cluster, 3, "app=web")
    await patch_all(cluster, running, RUNNING)
    names = {one["metadata"]["name"] for one in running}
    async with watching() as view:
        web = await view.until(
            lambda state: (
                {one["pod_id"] for one in shown(state, "web")["pods"][:3]} == names
                and has(shown(state, "web")["live"], active_pods=3)
                and shown(state, "web")
            )
        )
        assert len(web["pods"]) == 256
        assert web["truncated"] == {"pods": MANY + 3}
        assert {one["reason"] for one in web["pods"][3:]} == {"Evicted"}
        assert agent(await view.state(), "planner")["instance_count"] == 3


async def test_every_one_of_many_running_pods_is_an_instance(
    cluster: Cluster, watching: Watching
) -> None:
    body = workload("web", replicas=MANY, annotations=PLANNER)
    await cluster.make("Deployment", body)
    async with watching() as view:
        planner = await view.until(
            lambda state: (
                has(agent(state, "planner"), instance_count=MANY)
                and has(shown(state, "web")["live"], active_pods=MANY, ready=MANY)
                and agent(state, "planner")
            ),
            90,
        )
        assert (len(planner["instances"]), planner["truncated"]) == (256, {"instances": MANY})


def indexed_job() -> Object:
    """Six pods, none of which may fail."""
    template = {
        "metadata": {"labels": {"app": "batch", "kubelet": "none"}},
        "spec": pod_spec(restartPolicy="Never"),
    }
    counts = {"completions": 6, "parallelism": 6, "backoffLimitPerIndex": 0}
    spec = {**counts, "completionMode": "Indexed", "template": template}
    return {"metadata": {"name": "batch"}, "spec": spec}


async def test_of_a_failed_job_the_pod_that_failed_is_listed_and_all_are_counted(
    cluster: Cluster, watching: Watching
) -> None:
    await cluster.make("Job", indexed_job())
    index = "batch.kubernetes.io/job-completion-index"
    pods = await alive(cluster, 6, "app=batch")
    first = [one for one in pods if one["metadata"]["annotations"][index] == "0"]
    await patch_all(cluster, first, {"status": {"phase": "Failed"}})
    rest = [one for one in pods if one not in first]
    await patch_all(cluster, rest, {"status": {"phase": "Succeeded"}})
    async with watching() as view:
        job = await view.until(
            lambda state: (
                has(shown(state, "batch", "Job")["live"], reason="FailedIndexes")
                and shown(state, "batch", "Job")
            )
        )
        assert [one["status"] for one in job["pods"]] == ["Failed", "Succeeded", "Succeeded"]
        assert job["pods"][0]["pod_id"] == first[0]["metadata"]["name"]
        assert job["truncated"] == {"pods": 6}
        assert job["live"]["active_pods"] == 0


async def test_jobs_of_a_cronjob_name_it(cluster: Cluster, watching: Watching) -> None:
    template = {"spec": indexed_job()["spec"]}
    cron: Any = {
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 0 31 2 *", "jobTemplate": template},
    }
    path = f"/apis/batch/v1/namespaces/{cluster.namespace}/cronjobs"
    made = await cluster.call("POST", path, cron)
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": "nightly",
        "uid": made["metadata"]["uid"],
        "controller": True,
    }
    for name in ("nightly-1", "nightly-2"):  # as `kubectl create job --from` does
        job = {**indexed_job(), "metadata": {"name": name, "ownerReferences": [owner]}}
        await cluster.make("Job", job)
    async with watching() as view:
        for name in ("nightly-1", "nightly-2"):
            job = await view.until(lambda state, name=name: shown(state, name, "Job"))
            assert job["owner"] == {"kind": "CronJob", "name": "nightly"}
