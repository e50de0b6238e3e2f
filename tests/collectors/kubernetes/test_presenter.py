"""The published workloads and agents of a cluster."""

import msgspec
import pytest

from telemetron.document import MAX_PODS, UNSTAMPED, Owner, Problem
from telemetron.store.agents import merge_agents
from telemetron.store.part import Part
from telemetron.testing import RecordingOutput
from telemetron_collectors.kubernetes.api.objects import KINDS, NODES
from telemetron_collectors.kubernetes.cluster import Cluster
from telemetron_collectors.kubernetes.presenter import Presenter
from tests.collectors.kubernetes.test_cluster import put
from tests.collectors.kubernetes.things import (
    AT,
    agent,
    autoscaler,
    container,
    deployment,
    metadata,
    pod,
    replicaset,
    template,
)


@pytest.fixture
def cluster():
    cluster = Cluster()
    for kind in KINDS:
        cluster.set_synced(kind, None)
    return cluster


async def shown(cluster):
    output = RecordingOutput()
    await Presenter(cluster, output).publish_all()
    return output.parts


def failed(reason, at="10:00:00"):
    return {"phase": "Failed", "reason": reason, "startTime": f"2026-11-28T{at}Z"}


def waiting(reason):
    state = {"waiting": {"reason": reason}}
    statuses = [{"name": "main", "restartCount": 3, "state": state}]
    ready = [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]
    return {"phase": "Running", "conditions": ready, "containerStatuses": statuses}


def put_pods(cluster, *pods, **meta):
    """The pods of Deployment `web`: name, status and seconds after noon at which it was made."""
    put(cluster, "ReplicaSet", replicaset("web-1", "web"))
    put(cluster, "Deployment", deployment("web", 3, **meta))
    for name, status, at in pods:
        made = f"2026-11-28T12:{at // 60:02}:{at % 60:02}Z"
        one = pod(name, ("ReplicaSet", "web-1"), status=status, creationTimestamp=made)
        put(cluster, "Pod", one)


async def web_of(cluster):
    return (await shown(cluster))["workload", "default/Deployment/web"]


async def test_pods_that_run_are_listed_before_many_that_were_evicted(cluster):
    evicted = [(f"a-{n:03}", failed("Evicted"), n) for n in range(300)]
    put_pods(cluster, *evicted, *[(f"z-{n}", None, 0) for n in range(3)])
    web = await web_of(cluster)
    listed = [one.pod_id for one in web.pods]
    assert (len(listed), web.truncated) == (256, {"pods": 303})
    assert listed[:3] == ["z-0", "z-1", "z-2"]
    assert listed[3:] == [f"a-{n:03}" for n in range(299, 46, -1)]  # the newest
    assert web.live.active_pods == 3


async def test_of_many_pods_the_worst_and_newest_are_listed_and_no_reason_is_hidden(cluster):
    put_pods(
        cluster,
        *[(f"good-{n:03}", None, n) for n in range(250)],
        *[(f"crash-{n}", waiting("CrashLoopBackOff"), n) for n in range(5)],
        ("pull", waiting("ImagePullBackOff"), 0),
        *[(f"evicted-{n:03}", failed("Evicted"), 100 + n) for n in range(100)],
        ("shutdown", failed("NodeShutdown"), 0),
        ("done", {"phase": "Succeeded"}, 500),
    )
    web = await web_of(cluster)
    listed = [one.pod_id for one in web.pods]
    assert listed[:6] == ["crash-4", "pull", "crash-3", "crash-2", "crash-1", "crash-0"]
    assert listed[6:] == [f"good-{n:03}" for n in range(249, -1, -1)]
    assert web.truncated == {"pods": 358}
    for number in range(1, 250):
        cluster.remove("Pod", "default", f"good-{number:03}")
    listed = [one.pod_id for one in (await web_of(cluster)).pods]
    assert (len(listed), listed) == (109, sorted(listed))  # by name, if none is cut


async def test_every_reason_of_failed_pods_is_listed(cluster):
    put_pods(
        cluster,
        *[(f"evicted-{n:03}", failed("Evicted"), 100 + n) for n in range(300)],
        ("shutdown", failed("NodeShutdown"), 0),
        *[(f"done-{n}", {"phase": "Succeeded"}, 500) for n in range(3)],
    )
    listed = [one.pod_id for one in (await web_of(cluster)).pods]
    assert listed[:3] == ["evicted-299", "shutdown", "evicted-298"]
    assert not any(name.startswith("done") for name in listed)


async def test_every_running_pod_is_counted_as_an_instance(cluster):
    put_pods(cluster, *[(f"p-{n:03}", None, n) for n in range(300)], annotations=agent("writer"))
    parts = await shown(cluster)
    (part,) = [part for (section, _), part in parts.items() if section == "agents"]
    (one,) = merge_agents([Part("kubernetes", "agents", "writer", "", "", part)])
    assert (one.instance_count, len(one.instances)) == (300, 256)
    assert one.truncated == {"instances": 300}
    web = parts["workload", "default/Deployment/web"]
    assert (web.live.active_pods, len(web.pods), web.truncated) == (300, 256, {"pods": 300})


async def test_failed_pods_of_a_failed_job_come_first_and_all_are_counted(cluster):
    conditions = [{"type": "Failed", "status": "True", "reason": "FailedIndexes"}]
    spec = {"completions": 6, "parallelism": 6, "template": template()}
    job = {"metadata": metadata("j"), "spec": spec, "status": {"conditions": conditions}}
    put(cluster, "Job", job)
    for index in range(6):
        status = failed("Error") if index == 0 else {"phase": "Succeeded"}
        made = f"2026-11-28T12:00:0{index}Z"
        put(cluster, "Pod", pod(f"j-{index}", ("Job", "j"), status=status, creationTimestamp=made))
    job = (await shown(cluster))["workload", "default/Job/j"]
    assert [one.pod_id for one in job.pods] == ["j-0", "j-5", "j-4"]
    assert job.truncated == {"pods": 6}


async def test_active_pods_are_counted_as_kubernetes_does(cluster):
    gone = pod("gone", ("ReplicaSet", "web-1"), deletionTimestamp=AT)
    put_pods(
        cluster,
        ("runs", None, 0),
        ("crashes", waiting("CrashLoopBackOff"), 0),
        ("pending", {"phase": "Pending"}, 0),
        ("failed", failed("Evicted"), 0),
        ("done", {"phase": "Succeeded"}, 0),
    )
    put(cluster, "Pod", gone)
    web = await web_of(cluster)
    assert web.live.active_pods == 3
    assert {one.pod_id for one in web.pods if one.reason == "CrashLoopBackOff"} == {"crashes"}


async def test_a_job_names_its_cronjob(cluster):
    job = {"spec": {"template": template()}, "status": {}}
    put(cluster, "Job", {**job, "metadata": metadata("nightly-1", ("CronJob", "nightly"))})
    put(cluster, "Job", {**job, "metadata": metadata("once")})
    put(cluster, "Pod", pod("r-1", ("RayCluster", "r")))
    parts = await shown(cluster)
    owners = {id: part.owner for (section, id), part in parts.items() if section == "workload"}
    assert owners == {
        "default/Job/nightly-1": Owner("CronJob", "nightly"),
        "default/Job/once": None,
        "default/RayCluster/r": None,
    }


SELECTED = [
    ("app=web", 1),
    ("team in (ml, web)", 1),
    ("tier=web", None),
    ("app!=web", None),
]


@pytest.mark.parametrize(("selector", "active"), SELECTED)
async def test_pods_outside_the_selector_are_not_counted(selector, active):
    cluster = Cluster(label_selector=selector)
    for kind in KINDS:
        cluster.set_synced(kind, None)
    one = deployment("web", 1, annotations=agent("writer"))
    one["spec"]["template"]["metadata"] = {"labels": {"app": "web", "team": "ml"}}
    put(cluster, "Deployment", one)
    if active:
        put(cluster, "ReplicaSet", replicaset("web-1", "web"))
        put(cluster, "Pod", pod("web-1-0", ("ReplicaSet", "web-1")))
    parts = await shown(cluster)
    web = parts["workload", "default/Deployment/web"]
    part = parts["agents", "default/Deployment/web/writer"]
    assert (web.live.ready, web.live.active_pods, part.has_all_pods) == (1, active, bool(active))
    reasons = [] if active else ["NotSelected"]
    assert [one.reason for one in web.problems] == reasons
    assert [one.reason for one in part.problems] == reasons


async def test_pods_are_not_counted_until_a_rollout_to_the_selected_labels_is_complete():
    cluster = Cluster(label_selector="app=web")
    for kind in KINDS:
        cluster.set_synced(kind, None)

    async def active(labels, **status):
        one = deployment("web", 1)
        one["spec"]["template"]["metadata"] = {"labels": labels}
        one["status"].update(status)
        put(cluster, "Deployment", one)
        web = (await shown(cluster))["workload", "default/Deployment/web"]
        assert bool(web.problems) == (web.live.active_pods is None)
        return web.live.active_pods

    put(cluster, "ReplicaSet", replicaset("web-2", "web"))
    assert await active({"app": "old"}) is None
    assert await active({"app": "web"}, observedGeneration=0) is None
    put(cluster, "Pod", pod("web-2-0", ("ReplicaSet", "web-2")))
    assert await active({"app": "web"}, replicas=2) is None
    assert await active({"app": "web"}) == 1
    assert await active({"app": "web"}, replicas=2) == 1
    assert await active({"app": "old"}, replicas=2) is None


async def test_workload_outside_the_selector_has_a_problem():
    cluster = Cluster(label_selector="app=web")
    for kind in KINDS:
        cluster.set_synced(kind, None)
    put(cluster, "Pod", pod("web-0", ("StatefulSet", "web")))
    put(cluster, "Pod", pod("ray-0", ("RayCluster", "ray")))
    parts = await shown(cluster)
    web = parts["workload", "default/StatefulSet/web"]
    assert (web.live, [one.reason for one in web.problems]) == (None, ["NotSelected"])
    assert parts["workload", "default/RayCluster/ray"].problems == []


@pytest.mark.parametrize("kind", ["Rollout", "ReplicationController", "StatefulSet"])
async def test_scalable_workloads_have_a_problem_without_permission_on_autoscalers(kind):
    cluster = Cluster()
    for known in KINDS.keys() - {"HorizontalPodAutoscaler"}:
        cluster.set_synced(known, None)
    why = Problem("Forbidden", "no permission", UNSTAMPED)
    cluster.set_problem("HorizontalPodAutoscaler", None, why)
    put(cluster, "Pod", pod("web-0", (kind, "web")))
    put(cluster, "Pod", pod("lone"))
    parts = await shown(cluster)
    web = parts["workload", f"default/{kind}/web"]
    assert (web.max_pods, web.problems) == (None, [why])
    assert parts["workload", "default/Pod/lone"].problems == []


LOST = [
    {"type": "Ready", "status": "False"},
    {"type": "ContainersReady", "status": "True"},
]


@pytest.mark.parametrize(
    ("conditions", "node_ready"),
    [
        (LOST, False),
        ([{"type": "Ready", "status": "True"}, LOST[1]], None),
        ([{**LOST[0], "reason": "ReadinessGatesNotReady"}, LOST[1]], None),
        ([{**LOST[0], "reason": "ContainersNotReady"}, {**LOST[1], "status": "False"}], None),
        ([{**LOST[0], "status": "Unknown"}, LOST[1]], None),
        ([{"type": "balanced", "status": "False"}, *LOST], False),
        ([], None),
    ],
)
async def test_pod_on_an_unreachable_node_is_not_ready(cluster, conditions, node_ready):
    put(cluster, "Pod", pod("p", status={"phase": "Running", "conditions": conditions}))
    (one,) = (await shown(cluster))["workload", "default/Pod/p"].pods
    assert one.node_ready is node_ready
    assert ("node node-1 is not ready" in (one.message or "")) == (node_ready is False)


@pytest.mark.parametrize(("ready", "node_ready"), [(True, False), (False, None)])
async def test_a_node_and_the_reason_are_judged_by_the_same_rule(cluster, ready, node_ready):
    main = {"name": "main", "ready": ready, "state": {"running": {}}}
    status = {"phase": "Running", "conditions": LOST[:1], "containerStatuses": [main]}
    put(cluster, "Pod", pod("p", status=status))
    (one,) = (await shown(cluster))["workload", "default/Pod/p"].pods
    assert (one.node_ready, one.reason == "NodeNotReady") == (node_ready, node_ready is False)


async def test_deleted_pod_on_a_lost_node_has_reason_node_lost(cluster):
    status = {"phase": "Running", "reason": "NodeLost", "message": "unresponsive"}
    put(cluster, "Pod", pod("p", status=status, deletionTimestamp=AT))
    (one,) = (await shown(cluster))["workload", "default/Pod/p"].pods
    assert (one.reason, one.node_ready) == ("NodeLost", False)


def node(ready, reason):
    conditions = [{"type": "Ready", "status": ready, "reason": reason}]
    return {"metadata": {"name": "node-1"}, "status": {"conditions": conditions}}


async def test_watched_nodes_set_node_ready(cluster):
    put(cluster, "Pod", pod("p"))
    put(cluster, "Pod", pod("done", status={"phase": "Succeeded"}))
    put(cluster, "Pod", pod("ending", deletionTimestamp=AT))
    put_node(cluster, node("True", "KubeletReady"))
    parts = await shown(cluster)
    (one,) = parts["workload", "default/Pod/p"].pods
    assert (one.node_ready, one.reason) == (True, None)
    put_node(cluster, node("Unknown", "NodeStatusUnknown"))
    parts = await shown(cluster)
    found = {
        id: (one.node_ready, one.reason, one.message)
        for (section, id), part in parts.items()
        for one in part.pods
    }
    why = "node node-1 is not ready (NodeStatusUnknown)"
    assert found == {
        "default/Pod/p": (False, "NodeNotReady", why),
        "default/Pod/ending": (False, "Terminating", why),
        "default/Pod/done": (False, None, None),
    }
    cluster.remove("Node", "", "node-1")
    (one,) = (await shown(cluster))["workload", "default/Pod/p"].pods
    assert (one.node_ready, one.reason) == (None, None)


async def test_of_too_many_pods_one_on_a_node_that_is_not_ready_is_listed(cluster):
    put(cluster, "Pod", pod("a", ("DaemonSet", "logs")))
    for number in range(MAX_PODS):
        one = pod(f"p{number}", ("DaemonSet", "logs"), creationTimestamp="2026-11-28T11:00:00Z")
        one["spec"]["nodeName"] = "node-2"
        put(cluster, "Pod", one)
    put_node(cluster, node("False", "KubeletNotReady"))
    logs = (await shown(cluster))["workload", "default/DaemonSet/logs"]
    assert logs.truncated == {"pods": MAX_PODS + 1}
    assert (logs.pods[0].pod_id, logs.pods[0].reason) == ("a", "NodeNotReady")


def put_node(cluster, one):
    cluster.apply("Node", msgspec.convert(one, NODES.type, strict=False))


async def test_a_job_that_is_labelled_before_it_starts_has_no_pods_of_an_old_template():
    cluster = Cluster(label_selector="queue=a")
    for kind in KINDS:
        cluster.set_synced(kind, None)
    for labels in ({}, {"queue": "a"}):
        spec = {"suspend": not labels, "template": {"metadata": {"labels": labels}}}
        put(cluster, "Job", {"metadata": {"name": "train"}, "spec": spec})
    put(cluster, "Pod", pod("train-0", ("Job", "train")))
    train = (await shown(cluster))["workload", "default/Job/train"]
    assert (train.live.active_pods, train.problems) == (1, [])


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
    cluster.remove("Pod", "default", "web-1-a")
    assert (await shown(cluster))[web].pod_max_ram == "256Mi"


async def test_limits_of_an_unwatched_owner_are_those_of_pods_that_ended(cluster):
    put(cluster, "Pod", sized("alone", None, "1Gi", status={"phase": "Failed"}))
    assert (await shown(cluster))["workload", "default/Pod/alone"].pod_max_ram == "1Gi"


async def test_autoscaler_of_an_unwatched_kind_sets_max_pods(cluster):
    put(cluster, "HorizontalPodAutoscaler", autoscaler("a", "Rollout", "web", 8))
    put(cluster, "ReplicaSet", replicaset("web-1", "web", "Rollout"))
    put(cluster, "Pod", pod("web-1-0", ("ReplicaSet", "web-1")))
    rollout = (await shown(cluster))["workload", "default/Rollout/web"]
    assert (rollout.max_pods, rollout.live) == (8, None)


async def test_unreadable_pods_are_not_counted():
    cluster = Cluster()
    put(cluster, "Deployment", deployment("web"))
    web = (await shown(cluster))["workload", "default/Deployment/web"]
    assert (web.live.active_pods, web.max_pods) == (None, None)


async def test_invalid_annotation_is_a_problem(cluster):
    annotations = agent("planner", max_parallel_invocations="many")
    put(cluster, "Deployment", deployment("web", annotations=annotations))
    output = RecordingOutput()
    presenter = Presenter(cluster, output)
    await presenter.publish_all()
    (problem,) = output.parts["workload", "default/Deployment/web"].problems
    assert problem.reason == "InvalidAnnotation"
    assert "many" not in problem.message
    assert "max-parallel-invocations" in problem.message
    since = problem.since
    output.clock.advance(5)
    put(cluster, "Deployment", deployment("web", 2, annotations=annotations))
    await presenter.publish_all()
    assert output.parts["workload", "default/Deployment/web"].problems[0].since == since
    put(cluster, "Deployment", deployment("web"))
    await presenter.publish_all()
    assert output.parts["workload", "default/Deployment/web"].problems == []


async def test_ended_pods_are_not_instances(cluster):
    annotations = agent("worker")
    put(cluster, "Pod", pod("a", annotations=annotations))
    put(cluster, "Pod", pod("b", annotations=annotations, status={"phase": "Failed"}))
    put(cluster, "Pod", pod("c", ("Rollout", "r"), annotations=annotations))
    put(cluster, "Pod", pod("d", ("Rollout", "r")))
    parts = await shown(cluster)
    found = {id: part.pods for (section, id), part in parts.items() if section == "agents"}
    assert found == {"default/Pod/a/worker": ["a"], "default/Rollout/r/worker": ["c"]}


async def test_pod_waits_for_its_owner(api, observing):
    async with observing(bounds={"owner_seconds": 0.6}) as observed:
        await observed.until_ok()
        api.put("pods", pod("web-1-0", ("ReplicaSet", "web-1")))
        api.put("pods", pod("lost-1-0", ("ReplicaSet", "lost-1")))
        api.put("replicasets", replicaset("web-1", "web"))
        api.put("deployments", deployment("web"))
        await observed.until(lambda: observed.workloads)
        assert list(observed.workloads) == ["default/Deployment/web"]
        await observed.until(lambda: "default/ReplicaSet/lost-1" in observed.workloads)
        api.put("replicasets", replicaset("lost-1", "found"))
        await observed.until(lambda: "default/Deployment/found" in observed.workloads)
        assert "default/ReplicaSet/lost-1" not in observed.workloads
