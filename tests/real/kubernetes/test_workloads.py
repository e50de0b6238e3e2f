"""What a real control plane does with workloads is what the state says of them."""

import asyncio
from typing import Any

from tests.real.kubernetes.cluster import Cluster, new_image, now, pod, workload
from tests.real.kubernetes.conftest import Watching
from tests.real.kubernetes.view import has, names, pods, source
from tests.real.kubernetes.view import workload as shown
from tests.real.process import wait_until

MISSING = "example.invalid/missing:1"
MEMORY = {"limits": {"cpu": "250m", "memory": "64Mi"}}


def complete(state: Any, name: str, count: int, image: str) -> Any:
    """The Deployment, once all its pods run this image."""
    found = shown(state, name)
    live = found["live"]
    done = has(live, rollout="complete", desired=count, ready=count, available=count, image=image)
    running = pods(state, name, status="Running", ready=True, image=image)
    return done and len(running) == count == len(found["pods"]) and found


async def test_a_deployment_rolls_out_scales_and_rolls_back(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        await cluster.make("Deployment", workload("web", replicas=2, image="example.invalid/web:1"))
        first = await view.until(lambda state: complete(state, "web", 2, "example.invalid/web:1"))
        assert has(first, namespace=cluster.namespace, kind="Deployment", max_pods=2, problems=[])
        assert first["key"] == f"kubernetes/{cluster.namespace}/Deployment/web"
        assert first["live"]["active_pods"] == 2

        await cluster.patch("Deployment", "web", {"spec": {"replicas": 4}}, "scale")
        more = await view.until(lambda state: complete(state, "web", 4, "example.invalid/web:1"))
        assert more["max_pods"] == 4

        await cluster.patch("Deployment", "web", new_image("example.invalid/web:2"))
        second = await view.until(lambda state: complete(state, "web", 4, "example.invalid/web:2"))
        assert second["live"]["rolled_out_at"] >= first["live"]["rolled_out_at"]

        await cluster.patch("Deployment", "web", new_image("example.invalid/web:1"))
        back = await view.until(lambda state: complete(state, "web", 4, "example.invalid/web:1"))
        assert back["live"]["rolled_out_at"] == await rolled_out_at(cluster, "web")
        await same_facts(cluster, back)

        await cluster.delete("Deployment", "web")
        await view.until(lambda state: not shown(state, "web"))


async def rolled_out_at(cluster: Cluster, name: str) -> str:
    """When it last rolled out, by its own condition."""
    conditions = (await cluster.get("Deployment", name))["status"]["conditions"]
    times = [one["lastUpdateTime"] for one in conditions if one["type"] == "Progressing"]
    return str(times[0])


async def same_facts(cluster: Cluster, found: Any) -> None:
    """Each pod as the API server itself says it."""
    items = await cluster.all("Pod", "app=" + found["deployment_name"])
    for one, item in zip(found["pods"], sorted(items, key=name_of), strict=True):
        status, container = item["status"], item["status"]["containerStatuses"][0]
        assert has(
            one,
            pod_id=item["metadata"]["name"],
            status=status["phase"],
            ready=container["ready"],
            image=container["image"],
            restarts=container["restartCount"],
            node=item["spec"]["nodeName"],
            ip=status["podIP"],
            created_at=item["metadata"]["creationTimestamp"],
            started_at=status["startTime"],
            network_in=None,
            network_out=None,
        )


def name_of(item: Any) -> str:
    return str(item["metadata"]["name"])


async def test_a_rollout_to_an_image_that_does_not_exist_gets_stuck(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        await cluster.make("Deployment", workload("web", replicas=1, progressDeadlineSeconds=3))
        await view.until(lambda state: complete(state, "web", 1, "example.invalid/app:1"))

        change = new_image(MISSING)
        change["spec"]["template"]["metadata"] = {"labels": {"kubelet": "none"}}
        await cluster.patch("Deployment", "web", change)
        (new,) = await view.until(lambda state: pods(state, "web", status="Pending"))
        await cluster.container(
            new["pod_id"], state={"waiting": {"reason": "ImagePullBackOff", "message": "no image"}}
        )
        await view.until(
            lambda state: pods(state, "web", reason="ImagePullBackOff", container="main")
        )
        stuck = await view.until(
            lambda state: shown(state, "web")["live"]["rollout"] == "stuck" and shown(state, "web")
        )
        assert has(stuck["live"], reason="ProgressDeadlineExceeded", desired=1, available=1)
        assert stuck["live"]["message"]


async def test_a_paused_rollout(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        await cluster.make("Deployment", workload("web", replicas=1, paused=True))
        await view.until(lambda state: shown(state, "web")["live"]["rollout"] == "paused")


async def until_progress(cluster: Cluster, name: str, reason: str) -> str:
    """The time of the condition that tells how its rollout goes, once it has this reason."""
    path = f"{cluster.path('Deployment')}/{name}"
    found: dict[str, Any] = {}

    def has_reason() -> bool:
        conditions = cluster.plane.call("GET", path)["status"].get("conditions", ())
        found.update(*[one for one in conditions if one["type"] == "Progressing"])
        return found.get("reason") == reason

    await asyncio.to_thread(wait_until, has_reason, seconds=30, what=reason)
    return str(found["lastUpdateTime"])


async def test_a_deployment_that_is_paused_and_resumed_is_not_rolled_out(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        await cluster.make("Deployment", workload("web", replicas=1))
        first = await view.until(lambda state: complete(state, "web", 1, "example.invalid/app:1"))
        at = await until_progress(cluster, "web", "NewReplicaSetAvailable")
        assert first["live"]["rolled_out_at"] == at
        moved = at
        while moved == at:  # times are whole seconds
            await cluster.patch("Deployment", "web", {"spec": {"paused": True}})
            await until_progress(cluster, "web", "DeploymentPaused")
            await view.until(lambda state: shown(state, "web")["live"]["rollout"] == "paused")
            await cluster.patch("Deployment", "web", {"spec": {"paused": False}})
            moved = await until_progress(cluster, "web", "NewReplicaSetAvailable")

        await cluster.patch("Deployment", "web", {"spec": {"replicas": 2}}, "scale")
        same = await view.until(lambda state: complete(state, "web", 2, "example.invalid/app:1"))
        assert same["live"]["rolled_out_at"] == at

        await cluster.patch("Deployment", "web", new_image("example.invalid/app:2"))
        await view.until(lambda state: complete(state, "web", 2, "example.invalid/app:2"))
        new = await until_progress(cluster, "web", "NewReplicaSetAvailable")
        await view.until(lambda state: shown(state, "web")["live"]["rolled_out_at"] == new)
        assert new > at


async def test_a_complete_rollout_stays_complete_when_its_pods_crash(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        pinned = {"nodeName": "node-1"}
        await cluster.make("Deployment", workload("web", tended=False, pod=pinned, replicas=1))
        (one,) = await view.until(lambda state: pods(state, "web", status="Pending"))
        await cluster.container(one["pod_id"], state={"running": {"startedAt": now()}})
        await view.until(lambda state: shown(state, "web")["live"]["rollout"] == "complete")
        await until_progress(cluster, "web", "NewReplicaSetAvailable")
        crash = {"waiting": {"reason": "CrashLoopBackOff"}}
        await cluster.container(one["pod_id"], 3, state=crash)
        live = await view.until(
            lambda state: (
                shown(state, "web")["live"]["available"] == 0 and shown(state, "web")["live"]
            )
        )
        assert has(live, rollout="complete", ready=0, desired=1)
        assert has(live, reason="MinimumReplicasUnavailable")


async def test_default_limits_of_the_namespace_are_those_of_its_pods(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        default = {"type": "Container", "default": {"cpu": "500m", "memory": "256Mi"}}
        body = {"metadata": {"name": "default"}, "spec": {"limits": [default]}}
        await cluster.make("LimitRange", body)
        await cluster.make("Deployment", workload("web"))
        (one,) = await view.until(lambda state: pods(state, "web", status="Running"))
        assert one["limits"] == {"cpu": "500m", "memory": "256Mi"}
        web = shown(await view.state(), "web")
        assert has(web, pod_max_cpu="500m", pod_max_ram="256Mi")


async def resize(cluster: Cluster, pod: str, **limits: str) -> None:
    """Ask for other limits of the pod's container, in place."""
    containers = (await cluster.get("Pod", pod))["spec"]["containers"]
    containers[0]["resources"] = {"limits": limits, "requests": limits}
    await cluster.patch("Pod", pod, {"spec": {"containers": containers}}, "resize")


async def test_limits_of_a_pod_that_is_resized_are_those_in_force(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        small, large = {"cpu": "1", "memory": "1Gi"}, {"cpu": "64", "memory": "512Gi"}
        resources = {"limits": small, "requests": small}
        pod = {
            "nodeName": "node-1",
            "containers": [{"name": "main", "image": "i:1", "resources": resources}],
        }
        await cluster.make("Deployment", workload("web", tended=False, pod=pod))
        (one,) = await view.until(lambda state: pods(state, "web", limits=small))
        name, running = one["pod_id"], {"running": {"startedAt": now()}}

        await resize(cluster, name, **large)
        await cluster.container(name, state=running, resources=resources)
        pending = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
        conditions = [{**pending, "message": "Node didn't have enough capacity: memory"}]
        await cluster.patch("Pod", name, {"status": {"conditions": conditions}}, "status")
        (waits,) = await view.until(lambda state: pods(state, "web", reason="Infeasible"))
        assert waits["limits"] == small
        assert waits["message"] == "PodResizePending: Node didn't have enough capacity: memory"

        larger = {"cpu": "2", "memory": "2Gi"}
        await resize(cluster, name, **larger)
        resized = {"limits": larger, "requests": larger}
        await cluster.container(name, state=running, resources=resized)
        await view.until(lambda state: pods(state, "web", limits=larger, reason=None))
        assert shown(await view.state(), "web")["pod_max_ram"] == "2Gi"


async def test_containers_that_crash_and_are_killed(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        await cluster.make(
            "Deployment", workload("worker", tended=False, pod={"nodeName": "node-1"})
        )
        (one,) = await view.until(lambda state: pods(state, "worker", status="Pending"))
        name = one["pod_id"]

        ended = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": now(), "startedAt": now()}
        await cluster.container(
            name, 1, state={"running": {"startedAt": now()}}, lastState={"terminated": ended}
        )
        (killed,) = await view.until(lambda state: pods(state, "worker", restarts=1))
        assert has(killed, status="Running", ready=True)
        assert killed["last_exit"] == {
            "reason": "OOMKilled",
            "exit_code": 137,
            "at": ended["finishedAt"],
            "container": "main",
        }

        await cluster.container(
            name,
            2,
            state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
            lastState={"terminated": {**ended, "message": "SECRET=hunter2"}},
        )
        (crashing,) = await view.until(lambda state: pods(state, "worker", restarts=2))
        assert has(crashing, ready=False, reason="CrashLoopBackOff", container="main")
        assert "hunter2" not in str(await view.state())

        gone = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}
        await cluster.patch("Pod", name, {"status": gone}, "status")
        (evicted,) = await view.until(lambda state: pods(state, "worker", reason="Evicted"))
        assert evicted["status"] == "Failed"


async def test_an_eviction_through_the_api(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        await cluster.make("Deployment", workload("web"))
        (before,) = await view.until(lambda state: pods(state, "web", status="Running"))
        path = f"{cluster.path('Pod')}/{before['pod_id']}/eviction"
        body = {"apiVersion": "policy/v1", "kind": "Eviction"}
        await cluster.call("POST", path, {**body, "metadata": {"name": before["pod_id"]}})
        await view.until(
            lambda state: (
                pods(state, "web", status="Running")
                and before["pod_id"] not in names(pods(state, "web"))
            )
        )


async def test_unschedulable_pod_is_not_ready(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        await cluster.make(
            "Deployment", workload("far", pod={"nodeSelector": {"moon": "far-side"}})
        )
        (one,) = await view.until(lambda state: pods(state, "far", reason="Unschedulable"))
        assert has(one, status="Pending", node=None, ready=False)
        assert "node" in one["message"]


async def test_a_pod_that_is_being_deleted(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        body = pod("clings")
        body["metadata"]["finalizers"] = ["example.invalid/wait"]
        await cluster.make("Pod", body)
        await view.until(lambda state: pods(state, "clings", "Pod", status="Running"))
        await cluster.delete("Pod", "clings")
        await view.until(lambda state: pods(state, "clings", "Pod", reason="Terminating"))
        await cluster.patch("Pod", "clings", {"metadata": {"finalizers": None}})
        await view.until(lambda state: not shown(state, "clings", "Pod"))


async def test_other_kinds_of_workloads(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        limits = {"containers": [{"name": "main", "image": "i:1", "resources": MEMORY}]}
        await cluster.make("StatefulSet", workload("base", replicas=2, serviceName="", pod=limits))
        await cluster.make("DaemonSet", workload("each"))
        job = workload("once", pod={"restartPolicy": "Never"}, completions=5, parallelism=5)
        del job["spec"]["selector"]
        await cluster.make("Job", job)
        await cluster.make("Pod", pod("alone"))
        old = workload("old", replicas=1)
        old["spec"]["selector"] = {"app": "old"}
        await cluster.make("ReplicationController", old)

        base = await view.until(
            lambda state: (
                has(shown(state, "base", "StatefulSet")["live"], ready=2, rollout="complete")
                and shown(state, "base", "StatefulSet")
            )
        )
        assert names(base["pods"]) == ["base-0", "base-1"]
        assert has(base, pod_max_cpu="250m", pod_max_ram="64Mi", max_pods=2)

        await view.until(
            lambda state: (
                has(shown(state, "each", "DaemonSet")["live"], desired=2, ready=2)
                and len(pods(state, "each", "DaemonSet", status="Running")) == 2
            )
        )
        # Of five pods that have succeeded, the last three stay.
        await view.until(lambda state: len(pods(state, "once", "Job", status="Succeeded")) == 3)
        assert len(await cluster.all("Pod", "app=once")) == 5
        await view.until(lambda state: pods(state, "alone", "Pod", status="Running"))
        unwatched = await view.until(
            lambda state: (
                pods(state, "old", "ReplicationController", status="Running")
                and shown(state, "old", "ReplicationController")
            )
        )
        assert unwatched["live"] is None
        await view.until(lambda state: source(state)["status"] == "ok")


async def test_autoscaler_sets_max_pods(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        await cluster.make("Deployment", workload("web"))
        await view.until(lambda state: shown(state, "web")["max_pods"] == 1)
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        spec = {"minReplicas": 1, "maxReplicas": 7, "scaleTargetRef": target}
        await cluster.make("HorizontalPodAutoscaler", {"metadata": {"name": "w"}, "spec": spec})
        await view.until(lambda state: shown(state, "web")["max_pods"] == 7)
        spec = {**spec, "maxReplicas": 30}
        await cluster.make("HorizontalPodAutoscaler", {"metadata": {"name": "x"}, "spec": spec})
        await view.until(lambda state: shown(state, "web")["max_pods"] == 30)
        await cluster.delete("HorizontalPodAutoscaler", "w")
        await cluster.patch("Deployment", "web", {"spec": {"replicas": 3}}, "scale")
        await view.until(lambda state: shown(state, "web")["live"]["desired"] == 3)
        assert shown(await view.state(), "web")["max_pods"] == 30
        await cluster.delete("HorizontalPodAutoscaler", "x")
        await view.until(lambda state: shown(state, "web")["max_pods"] == 3)
