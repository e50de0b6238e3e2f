"""An incident, end to end, through real processes: what changed says exactly what happened.

An agent hangs, its queue grows, its consumer's pod restarts. The agents are processes with the SDK,
the queue is in a Kafka broker, the pod in a Kubernetes control plane; Telemetron observes all.
"""

import json
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.ports import free_port
from tests.real.controlplane import UNTENDED, ControlPlane
from tests.real.history.conftest import Server, Serving
from tests.real.process import running, wait_until

MAX_CHARACTERS = 2_000

AGENT = """
import sys, time
from pathlib import Path
from telemetron_agent import Agent

name, url, pod, hang = sys.argv[1:]
agent = Agent(name, url=url, namespace="prod", pod_id=pod, interval=1)
with agent.task("t-17", step="ranks the drafts") as task:
    while not Path(hang).exists():
        task.progress()
        time.sleep(0.2)
    time.sleep(3600)
"""


@contextmanager
def agent(server: Server, name: str, pod: str, hang: Path) -> Iterator[None]:
    """An agent that gets on until that file is there."""
    with running([sys.executable, "-c", AGENT, name, server.url, pod, str(hang)]):
        yield


class Tasks:
    """A topic that one consumer group takes tasks from."""

    def __init__(self, address: str) -> None:
        self.address = address
        admin = AdminClient({"bootstrap.servers": address})
        admin.create_topics([NewTopic("tasks", 1, 1)])["tasks"].result(10)
        self.submit(5)
        consumer = Consumer({"bootstrap.servers": address, "group.id": "workers"})
        consumer.commit(offsets=[TopicPartition("tasks", 0, 5)], asynchronous=False)
        consumer.close()

    def submit(self, count: int) -> None:
        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 0})
        for _ in range(count):
            producer.produce("tasks", json.dumps({"id": uuid.uuid4().hex}).encode())
        assert producer.flush(10) == 0


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Tasks]:
    port = free_port()
    program = str(resources.files("noida_db") / "noida-db")
    command = [program, "start", "--only", "kafka", "--host", "127.0.0.1"]
    with running([*command, "--kafka-port", str(port), "--data-dir", str(tmp_path / "broker")]):
        address = f"127.0.0.1:{port}"
        admin = AdminClient({"bootstrap.servers": address})
        wait_until(lambda: bool(admin.list_topics(timeout=5).brokers), seconds=60, what="broker")
        yield Tasks(address)


class Worker:
    """A Deployment of one pod, whose kubelet is the test."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        labels = {"app": "worker", **UNTENDED}
        spec = {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "worker", "image": "example.invalid/worker:1"}]},
            },
        }
        deployment = {"metadata": {"name": "worker"}, "spec": spec}
        plane.call("POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment)
        wait_until(lambda: bool(self._items()), seconds=30, what="the pod")
        self.pod = self._items()[0]["metadata"]["name"]
        self.run(0)

    def _items(self) -> Any:
        return self.plane.call("GET", self.pods)["items"]

    def run(self, restarts: int) -> None:
        """What the kubelet says of a container that runs, after so many restarts."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        container = {
            "name": "worker",
            "image": "example.invalid/worker:1",
            "imageID": "",
            "ready": True,
            "restartCount": restarts,
            "state": {"running": {"startedAt": now}},
        }
        if restarts:
            died = {"exitCode": 137, "reason": "OOMKilled", "startedAt": now, "finishedAt": now}
            container["lastState"] = {"terminated": died}
        status = {
            "phase": "Running",
            "podIP": "10.0.0.7",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [container],
        }
        if not restarts:
            status["startTime"] = now
        self.plane.call("PATCH", f"{self.pods}/{self.pod}/status", {"status": status})


@pytest.fixture
def worker(control_plane: ControlPlane) -> Iterator[Worker]:
    namespace = f"incident-{uuid.uuid4().hex[:6]}"
    yield Worker(control_plane, namespace)
    control_plane.call("DELETE", f"/api/v1/namespaces/{namespace}")


def test_what_changed_names_exactly_what_happened(
    serving: Serving, tasks: Tasks, worker: Worker, tmp_path: Path
) -> None:
    namespace = worker.pods.split("/")[4]
    config = {
        "sources": {
            "heartbeats": {"stall_after_seconds": 2},
            "kafka": {
                "bootstrap_servers": [tasks.address],
                "queues": [{"topic": "tasks", "groups": ["workers"]}],
                "interval_seconds": 1,
            },
            "kubernetes": {
                "config": "kubeconfig",
                "kubeconfig": str(worker.plane.kubeconfig("incident")),
                "namespaces": [namespace],
            },
        },
    }
    hang = tmp_path / "hang"
    with (
        serving(config) as server,
        agent(server, "ranker", worker.pod, hang),
        agent(server, "planner", "planner-0", tmp_path / "never"),
    ):
        wait_until(lambda: is_steady(server), seconds=60, what="the system")
        before = settled(server)

        hang.touch()
        tasks.submit(40)
        worker.run(restarts=1)

        happened = {
            ("agents", "prod/ranker"),
            ("queues", "kafka/tasks/workers"),
            ("workload", f"kubernetes/{namespace}/Deployment/worker"),
        }
        wait_until(lambda: named(server, before) == happened, seconds=45, what="the incident")
        told = server.get("/system/changes", since=before)
        assert len(json.dumps(told, separators=(",", ":"))) < MAX_CHARACTERS
        assert told["complete"]
        fields = {change["section"]: change["fields"] for change in told["changes"]}
        assert fields["agents"] == {
            "activity/active_task_ids/t-17/stalled": {"old": False, "new": True}
        }
        assert fields["queues"]["depth"] == {"old": 0, "new": 40}
        restarts = fields["workload"][f"pods/{worker.pod}/restarts"]
        assert restarts == {"old": 0, "new": 1}
        # What it was then, and what it is now.
        past = server.get(f"/system/state/queues?at={before}")
        assert [queue["depth"] for queue in past["queues"]] == [0]
        life = server.get("/system/history/agents/prod/ranker", limit=1)
        assert "activity/active_task_ids/t-17/stalled" in life["changes"][0]["fields"]


def is_steady(server: Server) -> bool:
    """All is observed, and well."""
    state = server.get("/system/state")
    on = [row for row in state["sources"] if row["status"] != "off"]
    queues = [queue["depth"] for queue in state["queues"]]
    agents = [agent["status"] for agent in state["agents"]]
    pods = [pod["restarts"] for workload in state["workload"] for pod in workload["pods"]]
    return (
        all(row["status"] == "ok" for row in on)
        and (queues, agents, pods) == ([0], ["active"] * 2, [0])
        and all(
            task["stalled"] is False
            for agent in state["agents"]
            for task in agent["activity"]["active_task_ids"]
        )
    )


def settled(server: Server) -> str:
    """A place after which nothing changes by itself for a while, late levels neither."""
    place = server.place()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(11)
        newest = server.get("/system/changes", since=place)
        if not newest["changes"]:
            return str(newest["to"])
        place = newest["to"]
    raise TimeoutError(f"it does not settle: {newest['changes']}")


def named(server: Server, since: str) -> set[tuple[str, str]]:
    told = server.get("/system/changes", since=since)
    changes = {(change["section"], change["key"]): change for change in told["changes"]}
    depth = changes.get(("queues", "kafka/tasks/workers"), {}).get("fields", {}).get("depth", {})
    return set(changes) if depth.get("new") == 40 else set()
