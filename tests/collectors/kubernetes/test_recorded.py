"""Recorded responses of a real API server (1.37), and the document made of them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from telemetron.document import LastExit
from telemetron.testing import RecordingOutput
from telemetron_collectors.kubernetes.api.objects import KINDS, ListPage
from telemetron_collectors.kubernetes.cluster import Cluster
from telemetron_collectors.kubernetes.presenter import Presenter

DATA = Path(__file__).parents[2] / "data" / "kubernetes"


@pytest.fixture
async def parts():
    """The parts by id, without the section."""
    cluster = Cluster()
    for kind in KINDS.values():
        page = msgspec.json.decode((DATA / f"{kind.resource}.json").read_bytes(), type=ListPage)
        for item in page.items:
            cluster.apply(kind.name, msgspec.json.decode(item, type=kind.type))
        cluster.set_synced(kind.name, None)
    output = RecordingOutput()
    await Presenter(cluster, output).publish_all()
    return output.parts


@pytest.fixture
def workload(parts):
    return lambda kind, name: parts["workload", f"default/{kind}/{name}"]


def test_nothing_is_left_out(parts):
    shown = sorted(id.partition("/")[2] for section, id in parts if section == "workload")
    pods = ("crashing", "creating", "ending", "evicted", "homeless", "oomkilled", "pulling")
    assert shown == sorted(
        [
            *(f"Pod/{name}" for name in pods),
            *(f"Deployment/{name}" for name in ("paused", "stuck", "web")),
            "StatefulSet/db",
            "DaemonSet/logs",
            "Job/batch",
        ]
    )


def test_a_deployment(workload):
    web = workload("Deployment", "web")
    assert (web.max_pods, web.pod_max_cpu, web.pod_max_ram) == (9, "500m", "256Mi")
    live = web.live
    assert (live.rollout, live.reason, live.message) == ("complete", None, None)
    assert (live.desired, live.ready, live.available, live.active_pods) == (2, 2, 2, 2)
    assert live.rolled_out_at == datetime(2026, 11, 28, 3, 22, 22, tzinfo=UTC)
    assert live.image == "registry.example/app:1"
    assert [(pod.status, pod.ready, pod.reason) for pod in web.pods] == [
        ("Running", True, None)
    ] * 2
    assert web.pods[0].pod_id.startswith("web-")
    assert web.pods[0].node == "node-1"


def test_stuck_deployment(workload):
    live = workload("Deployment", "stuck").live
    assert (live.rollout, live.reason) == ("stuck", "ProgressDeadlineExceeded")
    assert live.message.endswith("has timed out progressing.")
    assert (live.desired, live.available, live.active_pods) == (2, 0, 2)


def test_paused_deployment(workload):
    paused = workload("Deployment", "paused")
    assert (paused.live.rollout, paused.live.reason) == ("paused", "MinimumReplicasUnavailable")
    assert (paused.pods, paused.max_pods) == ([], 2)


@pytest.mark.parametrize(
    ("kind", "name", "pods"), [("StatefulSet", "db", 2), ("DaemonSet", "logs", 1)]
)
def test_the_other_controllers(workload, kind, name, pods):
    one = workload(kind, name)
    live = one.live
    assert (live.rollout, live.desired, live.ready, live.available) == (
        "complete",
        pods,
        pods,
        pods,
    )
    assert (one.max_pods, len(one.pods), live.rolled_out_at) == (pods, pods, None)


def test_a_finished_job(workload):
    job = workload("Job", "batch")
    assert (job.live.rollout, job.live.reason) == ("complete", "CompletionsReached")
    assert (job.live.desired, job.max_pods, job.live.available) == (0, 2, None)
    assert (len(job.pods), job.truncated) == (3, {"pods": 4})
    assert all(pod.reason is None for pod in job.pods)


@pytest.mark.parametrize(
    ("name", "status", "reason", "container", "message"),
    [
        ("crashing", "Running", "CrashLoopBackOff", "main", "back-off 40s"),
        ("oomkilled", "Failed", "OOMKilled", "main", None),
        ("pulling", "Pending", "ImagePullBackOff", "main", "Back-off pulling"),
        ("evicted", "Failed", "Evicted", None, "The node was low"),
        ("creating", "Pending", "ContainerCreating", "main", None),
        ("homeless", "Pending", "Unschedulable", None, "0/1 nodes are available"),
        ("ending", "Pending", "Terminating", None, "EvictionByEvictionAPI: Eviction API"),
    ],
)
def test_reasons_of_pods(workload, name, status, reason, container, message):
    (pod,) = workload("Pod", name).pods
    assert (pod.status, pod.reason, pod.container) == (status, reason, container)
    assert pod.message is None if message is None else pod.message.startswith(message)


def test_last_exits_of_pods(workload):
    (pod,) = workload("Pod", "crashing").pods
    at = datetime(2026, 11, 28, 3, 1, tzinfo=UTC)
    assert (pod.restarts, pod.last_exit) == (4, LastExit("OOMKilled", 137, at, "main"))


def test_each_running_pod_of_an_annotated_deployment_is_an_instance(parts):
    agents = [part for (section, _), part in parts.items() if section == "agents"]
    assert {part.deployment_name for part in agents} == {"web", "stuck", "paused"}
    assert sum(len(part.pods) for part in agents) == 4
    assert agents[0].models == ["claude", "gpt"]


def test_secrets_and_foreign_annotations_are_not_read(parts):
    shown = msgspec.json.encode([part for _, part in sorted(parts.items())]).decode()
    assert "hidden" not in shown
    assert "foreign" not in shown
    recorded = json.loads((DATA / "pods.json").read_text())
    assert "hidden-value" in str(recorded)
    assert "hidden-termination" in str(recorded)
