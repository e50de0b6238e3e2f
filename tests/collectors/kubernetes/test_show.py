"""What is shown of a cluster."""

import msgspec
import pytest

from collectors.kubernetes.cluster import Cluster
from collectors.kubernetes.objects import KINDS
from collectors.kubernetes.show import Show
from telemetron.testing import RecordingOutput
from tests.collectors.kubernetes.test_cluster import put
from tests.collectors.kubernetes.things import agent, deployment, pod, replicaset


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
