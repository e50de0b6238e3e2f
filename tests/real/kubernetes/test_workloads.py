"""What a real control plane does with workloads is what the state says of them."""

from typing import Any

from tests.real.kubernetes.cluster import Cluster, new_image, now, pod, workload
from tests.real.kubernetes.conftest import Watching
from tests.real.kubernetes.view import has, names, pods, source
from tests.real.kubernetes.view import workload as shown

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


async def test_a_pod_that_finds_no_node(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        await cluster.make(
            "Deployment", workload("far", pod={"nodeSelector": {"moon": "far-side"}})
        )
        (one,) = await view.until(lambda state: pods(state, "far", reason="Unschedulable"))
        assert has(one, status="Pending", node=None, ready=None)
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


async def test_the_other_kinds(cluster: Cluster, watching: Watching) -> None:
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


async def test_an_autoscaler_says_how_many_pods_there_may_be(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        await cluster.make("Deployment", workload("web"))
        await view.until(lambda state: shown(state, "web")["max_pods"] == 1)
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        spec = {"minReplicas": 1, "maxReplicas": 7, "scaleTargetRef": target}
        await cluster.make("HorizontalPodAutoscaler", {"metadata": {"name": "w"}, "spec": spec})
        await view.until(lambda state: shown(state, "web")["max_pods"] == 7)
        await cluster.delete("HorizontalPodAutoscaler", "w")
        await view.until(lambda state: shown(state, "web")["max_pods"] == 1)
