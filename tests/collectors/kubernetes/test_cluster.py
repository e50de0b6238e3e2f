"""The state: pods and their workloads, in any order of events."""

import itertools

import msgspec
import pytest

from telemetron_collectors.kubernetes.api.objects import KINDS
from telemetron_collectors.kubernetes.cluster import Cluster, WorkloadId
from tests.collectors.kubernetes.things import autoscaler, deployment, pod, replicaset

WEB = WorkloadId("default", "Deployment", "web")
RS = WorkloadId("default", "ReplicaSet", "web-1")


def put(cluster, kind, one):
    one["metadata"].setdefault("namespace", "default")
    raw = msgspec.json.encode(one)
    cluster.apply(kind, msgspec.json.decode(raw, type=KINDS[kind].type))


@pytest.fixture
def cluster():
    """A cluster that is in sync."""
    cluster = Cluster()
    for kind in KINDS:
        cluster.set_synced(kind, None)
    cluster.dirty.clear()
    return cluster


PARTS = {
    "Deployment": lambda: deployment("web"),
    "ReplicaSet": lambda: replicaset("web-1", "web"),
    "Pod": lambda: pod("web-1-0", ("ReplicaSet", "web-1")),
}


@pytest.mark.parametrize("synced", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)))
def test_pods_join_their_deployment_in_any_order(order, synced):
    cluster = Cluster()
    for kind in KINDS if synced else ():
        cluster.set_synced(kind, None)
    for kind in order:
        put(cluster, kind, PARTS[kind]())
    assert cluster.members == {WEB: ["web-1-0"]}
    assert WEB in cluster.dirty
    assert cluster.waiting == {}


def test_removed_pod_no_longer_waits(cluster):
    put(cluster, "Pod", pod("web-1-0", ("ReplicaSet", "web-1")))
    assert list(cluster.waiting.values()) == [RS]
    assert cluster.dirty == {}
    cluster.remove("Pod", "default", "web-1-0")
    assert cluster.waiting == {}
    cluster.stop_waiting(("default", "web-1-0"))
    cluster.remove("Pod", "default", "web-1-0")
    assert cluster.dirty == {}


def test_two_pods_wait_for_the_same_owner(cluster):
    for name in ("web-1-0", "web-1-1"):
        put(cluster, "Pod", pod(name, ("ReplicaSet", "web-1")))
    cluster.stop_waiting(("default", "web-1-0"))
    assert cluster.members == {RS: ["web-1-0"]}
    put(cluster, "ReplicaSet", replicaset("web-1", "web"))
    put(cluster, "Deployment", deployment("web"))
    assert cluster.members == {WEB: ["web-1-0", "web-1-1"]}


def test_pods_stay_with_their_workload_after_owners_are_deleted(cluster):
    for kind, part in PARTS.items():
        put(cluster, kind, part())
    cluster.remove("ReplicaSet", "default", "web-1")
    cluster.remove("Deployment", "default", "web")
    put(cluster, "Pod", pod("web-1-0", ("ReplicaSet", "web-1"), status={"phase": "Failed"}))
    assert cluster.members == {WEB: ["web-1-0"]}
    assert cluster.workloads == {}


def test_pods_follow_an_adopted_replicaset(cluster):
    put(cluster, "ReplicaSet", replicaset("web-1", None))
    put(cluster, "Pod", pod("web-1-0", ("ReplicaSet", "web-1")))
    put(cluster, "Pod", pod("other", ("ReplicaSet", "web-2")))
    assert cluster.members == {RS: ["web-1-0"]}
    put(cluster, "ReplicaSet", replicaset("web-1", "web"))
    assert cluster.members == {WEB: ["web-1-0"]}
    put(cluster, "ReplicaSet", replicaset("web-1", "web"))
    put(cluster, "Pod", pod("web-1-0", None))
    assert cluster.members == {("default", "Pod", "web-1-0"): ["web-1-0"]}


def test_adopted_pod_waits_for_its_replicaset(cluster):
    put(cluster, "Deployment", deployment("web"))
    put(cluster, "Pod", pod("web-1-0", None))
    put(cluster, "Pod", pod("web-1-0", ("ReplicaSet", "web-1")))
    assert list(cluster.waiting.values()) == [RS]
    put(cluster, "ReplicaSet", replicaset("web-1", "web"))
    assert (cluster.members, cluster.waiting) == ({WEB: ["web-1-0"]}, {})
    put(cluster, "Pod", pod("web-1-0", ("ReplicaSet", "gone-1")))
    cluster.stop_waiting(("default", "web-1-0"))
    assert cluster.members == {("default", "ReplicaSet", "gone-1"): ["web-1-0"]}


def test_unchanged_objects_mark_nothing_dirty(cluster):
    for kind, part in PARTS.items():
        put(cluster, kind, part())
    cluster.dirty.clear()
    for kind, part in PARTS.items():
        put(cluster, kind, part())
    cluster.remove("Deployment", "default", "unknown")
    cluster.remove("HorizontalPodAutoscaler", "default", "unknown")
    cluster.set_synced("Pod", None)
    assert cluster.dirty == {}


def test_autoscaler_sets_max_pods(cluster):
    put(cluster, "Deployment", deployment("web", 2))
    assert cluster.max_pods(WEB) == 2
    put(cluster, "HorizontalPodAutoscaler", autoscaler("a", "Deployment", "web", 5))
    assert cluster.max_pods(WEB) == 5
    put(cluster, "HorizontalPodAutoscaler", autoscaler("a", "Deployment", "other", 5))
    assert cluster.max_pods(WEB) == 2
    put(cluster, "HorizontalPodAutoscaler", autoscaler("a", "Deployment", "web", None))
    assert cluster.max_pods(WEB) == 2
    cluster.remove("HorizontalPodAutoscaler", "default", "a")
    assert cluster.keys("HorizontalPodAutoscaler", None) == []


HPA = "HorizontalPodAutoscaler"


@pytest.mark.parametrize("kind", ["DaemonSet", "Job"])
def test_unscaled_kinds_ignore_autoscalers(cluster, kind):
    put(cluster, HPA, autoscaler("a", kind, "web", 10))
    put(cluster, "Pod", pod("web-0", (kind, "web")))
    assert cluster.max_pods(WorkloadId("default", kind, "web")) is None
    put(cluster, kind, {"metadata": {"name": "web"}, "status": {"desiredNumberScheduled": 1}})
    assert cluster.max_pods(WorkloadId("default", kind, "web")) == 1


def test_larger_maximum_of_two_autoscalers_counts(cluster):
    put(cluster, "Deployment", deployment("web", 2))
    put(cluster, HPA, autoscaler("a", "Deployment", "web", 10))
    put(cluster, HPA, autoscaler("b", "Deployment", "web", 30))
    assert cluster.max_pods(WEB) == 30
    cluster.remove(HPA, "default", "a")
    assert cluster.max_pods(WEB) == 30
    put(cluster, HPA, autoscaler("a", "Deployment", "web", 10))
    cluster.remove(HPA, "default", "b")
    assert cluster.max_pods(WEB) == 10


def test_autoscaler_of_another_api_group_is_ignored(cluster):
    put(cluster, "Deployment", deployment("web", 2))
    put(cluster, HPA, autoscaler("a", "Deployment", "web", 10, "example.com/v1"))
    assert cluster.max_pods(WEB) == 2
    assert cluster.keys(HPA, None) == [("default", "a")]
    put(cluster, HPA, autoscaler("a", "Deployment", "web", 10, "apps/v1"))
    assert cluster.max_pods(WEB) == 10
    put(cluster, HPA, autoscaler("a", "Deployment", "web", 10, "v1"))
    assert cluster.max_pods(WEB) == 2


def test_kind_of_another_api_group_is_another_workload(cluster):
    kruise = WorkloadId("default", "StatefulSet.apps.kruise.io", "web")
    one = pod("web-0", ("StatefulSet", "web"))
    one["metadata"]["ownerReferences"][0]["apiVersion"] = "apps.kruise.io/v1beta1"
    put(cluster, "Pod", one)
    assert (cluster.members, cluster.waiting) == ({kruise: ["web-0"]}, {})
    put(cluster, HPA, autoscaler("a", "StatefulSet", "web", 10, "apps.kruise.io/v1beta1"))
    assert cluster.max_pods(kruise) == 10
    put(cluster, "Pod", pod("web-1", ("StatefulSet", "web")))
    assert list(cluster.waiting.values()) == [("default", "StatefulSet", "web")]


def test_status_of_an_autoscaler_marks_nothing_dirty(cluster):
    put(cluster, HPA, autoscaler("a", "Deployment", "web", 10))
    cluster.dirty.clear()
    put(cluster, HPA, autoscaler("a", "Deployment", "web", 10))
    assert cluster.dirty == {}


def test_keys_of_a_kind_in_a_namespace(cluster):
    put(cluster, "Deployment", deployment("web"))
    put(cluster, "Pod", pod("p", namespace="b"))
    assert cluster.keys("Deployment", None) == [("default", "web")]
    assert cluster.keys("StatefulSet", None) == []
    assert cluster.keys("Pod", "b") == [("b", "p")]
    assert cluster.keys("Pod", "c") == []


def test_sync_of_pods_and_autoscalers_marks_workloads_dirty():
    cluster = Cluster()
    put(cluster, "Deployment", deployment("web"))
    for kind in ("Pod", "HorizontalPodAutoscaler"):
        cluster.dirty.clear()
        cluster.set_synced(kind, "elsewhere")
        assert cluster.dirty == {}
        cluster.set_synced(kind, "default")
        assert list(cluster.dirty) == [WEB]
