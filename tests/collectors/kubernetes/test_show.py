"""What is shown of a cluster."""

import msgspec
import pytest

from collectors.kubernetes.cluster import Cluster
from collectors.kubernetes.objects import KINDS
from collectors.kubernetes.show import Show
from telemetron.testing import RecordingOutput
from tests.collectors.kubernetes.test_cluster import put
from tests.collectors.kubernetes.things import (
    agent,
    autoscaler,
    container,
    deployment,
    pod,
    replicaset,
)


@pytest.fixture
def cluster():
    cluster = Cluster()
    for kind in KINDS:
        cluster.synced(kind, None)
    return cluster


async def shown(cluster):
    output = RecordingOutput()
    await Show(cluster, output).first()
    return output.parts


async def test_of_many_pods_those_that_are_not_well(cluster):
    put(cluster, "ReplicaSet", replicaset("web-1", "web"))
    put(cluster, "Deployment", deployment("web", 300))
    for number in range(300):
        status = {"phase": "Failed"} if number >= 290 else None
        put(cluster, "Pod", pod(f"web-{number:03}", ("ReplicaSet", "web-1"), status=status))
    web = (await shown(cluster))["workload", "default/Deployment/web"]
    listed = [one.pod_id for one in web.pods]
    assert web.truncated == {"pods": 300}
    assert (len(listed), listed) == (256, sorted(listed))
    assert listed[-10:] == [f"web-{number}" for number in range(290, 300)]
    assert web.live.active_pods == 290
    for number in range(290):
        status = {"phase": "Failed"}
        put(cluster, "Pod", pod(f"web-{number:03}", ("ReplicaSet", "web-1"), status=status))
    web = (await shown(cluster))["workload", "default/Deployment/web"]
    assert len(web.pods) == 256
    assert not msgspec.json.decode(msgspec.json.encode(web), type=type(web)).problems


def sized(name, owner, memory, **more):
    one = pod(name, owner, **more)
    one["spec"]["containers"] = [container(cpu="1", memory=memory)]
    return one


async def test_limits_of_pods_that_differ_are_null_above_them(cluster):
    put(cluster, "Pod", sized("head", ("RayCluster", "ray"), "4Gi"))
    put(cluster, "Pod", sized("worker", ("RayCluster", "ray"), "64Gi"))
    ray = (await shown(cluster))["workload", "default/RayCluster/ray"]
    assert (ray.pod_max_cpu, ray.pod_max_ram) == ("1", None)
    assert [one.limits.memory for one in ray.pods] == ["4Gi", "64Gi"]


async def test_limits_of_a_workload_are_those_of_its_active_pods(cluster):
    web = "workload", "default/Deployment/web"
    put(cluster, "ReplicaSet", replicaset("web-1", "web"))
    put(cluster, "Deployment", deployment("web", 2))
    assert (await shown(cluster))[web].pod_max_ram == "256Mi"
    put(cluster, "Pod", sized("web-1-a", ("ReplicaSet", "web-1"), "2Gi"))
    ended = sized("web-1-b", ("ReplicaSet", "web-1"), "1Gi", status={"phase": "Failed"})
    put(cluster, "Pod", ended)
    assert (await shown(cluster))[web].pod_max_ram == "2Gi"
    cluster.drop("Pod", "default", "web-1-a")
    assert (await shown(cluster))[web].pod_max_ram == "256Mi"


async def test_limits_of_an_unwatched_owner_are_those_of_pods_that_ended(cluster):
    put(cluster, "Pod", sized("alone", None, "1Gi", status={"phase": "Failed"}))
    assert (await shown(cluster))["workload", "default/Pod/alone"].pod_max_ram == "1Gi"


async def test_the_autoscaler_of_a_kind_that_is_not_watched(cluster):
    put(cluster, "HorizontalPodAutoscaler", autoscaler("a", "Rollout", "web", 8))
    put(cluster, "ReplicaSet", replicaset("web-1", "web", "Rollout"))
    put(cluster, "Pod", pod("web-1-0", ("ReplicaSet", "web-1")))
    rollout = (await shown(cluster))["workload", "default/Rollout/web"]
    assert (rollout.max_pods, rollout.live) == (8, None)


async def test_pods_that_cannot_be_read_are_not_counted():
    cluster = Cluster()
    put(cluster, "Deployment", deployment("web"))
    web = (await shown(cluster))["workload", "default/Deployment/web"]
    assert (web.live.active_pods, web.max_pods) == (None, None)


async def test_an_annotation_that_cannot_be_understood(cluster):
    annotations = agent("planner", max_parallel_invocations="many")
    put(cluster, "Deployment", deployment("web", annotations=annotations))
    output = RecordingOutput()
    show = Show(cluster, output)
    await show.first()
    (problem,) = output.parts["workload", "default/Deployment/web"].problems
    assert problem.reason == "InvalidAnnotation"
    assert "many" not in problem.message
    assert "max-parallel-invocations" in problem.message
    since = problem.since
    output.clock.advance(5)
    put(cluster, "Deployment", deployment("web", 2, annotations=annotations))
    await show.first()
    assert output.parts["workload", "default/Deployment/web"].problems[0].since == since
    put(cluster, "Deployment", deployment("web"))
    await show.first()
    assert output.parts["workload", "default/Deployment/web"].problems == []


async def test_pods_that_ended_are_no_instances(cluster):
    annotations = agent("worker")
    put(cluster, "Pod", pod("a", annotations=annotations))
    put(cluster, "Pod", pod("b", annotations=annotations, status={"phase": "Failed"}))
    put(cluster, "Pod", pod("c", ("Rollout", "r"), annotations=annotations))
    put(cluster, "Pod", pod("d", ("Rollout", "r")))
    instances = [
        part.instance.id
        for (_, _), part in (await shown(cluster)).items()
        if hasattr(part, "instance")
    ]
    assert sorted(instances) == ["a", "c"]
