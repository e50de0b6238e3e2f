"""Kubernetes in the whole: configured, served, and joined with heartbeats."""

import asyncio

import pytest

from telemetron.config.settings import ConfigError, SourceSpec, configure, load
from telemetron_collectors.kubernetes import KubernetesConfig, collector
from tests.collectors.kubernetes.apiserver import apiserver
from tests.collectors.kubernetes.conftest import kubeconfig
from tests.collectors.kubernetes.things import agent, deployment, pod, replicaset


async def until(live, condition):
    news = asyncio.Event()
    live.app.store.watchers.append(lambda publication: news.set())
    async with asyncio.timeout(20):
        while True:
            news.clear()
            state = (await live.client.get("/system/state")).json()
            if condition(state):
                return state
            await news.wait()


def beat(pod_name):
    return {
        "instance": pod_name,
        "namespace": "default",
        "pod_id": pod_name,
        "interval_seconds": 60,
    }


async def test_an_agent_that_is_declared_and_one_that_beats_are_one(serving, tmp_path):
    async with apiserver() as api:
        api.put("deployments", deployment("web", 2, annotations=agent("planner")))
        api.put("replicasets", replicaset("web-1", "web"))
        for name in ("web-1-a", "web-1-b"):
            api.put("pods", pod(name, ("ReplicaSet", "web-1")))
        file = tmp_path / "kubeconfig"
        file.write_text(kubeconfig(api.url))
        keys = f"{{config: kubeconfig, kubeconfig: {file}}}"
        async with serving(f"sources: {{kubernetes: {keys}}}") as live:
            state = await until(live, lambda state: state["agents"])
            assert [one["status"] for one in state["agents"]] == ["declared"]
            for name in ("web-1-a", "gone"):
                await live.client.post("/agents/planner/heartbeat", json=beat(name))
            state = await until(live, lambda state: state["agents"][0]["instance_count"] == 3)
            (planner,) = state["agents"]
            assert planner["sources"] == ["heartbeats", "kubernetes"]
            key = "kubernetes/default/Deployment/web"
            assert [
                (one["id"], one["status"], one["workload"]) for one in planner["instances"]
            ] == [
                ("gone", "idle", None),
                ("web-1-a", "idle", key),
                ("web-1-b", "declared", key),
            ]
            assert [one["key"] for one in state["workload"]] == [key]


def test_the_environment_switches_it_on():
    spec = load(None, {"TELEMETRON_KUBERNETES": "kubeconfig"}).sources["kubernetes"]
    assert configure(spec, collector) == KubernetesConfig(config="kubeconfig")
    assert "kubernetes" in load(None, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).off


@pytest.mark.parametrize(
    "options",
    [
        {"namespaces": ["Not a name"]},
        {"namespaces": [""]},
        {"config": "cluster"},
        {"metrics_interval_seconds": 1},
        {"namespace": "x"},
    ],
)
def test_what_may_not_be_configured(options):
    origin = load(None, {}).sources["heartbeats"].origin
    with pytest.raises(ConfigError):
        configure(SourceSpec("kubernetes", "kubernetes", options, origin), collector)


def test_all_namespaces_are_written_out():
    origin = load(None, {}).sources["heartbeats"].origin
    options = {"namespaces": ["*"]}
    config = configure(SourceSpec("kubernetes", "kubernetes", options, origin), collector)
    assert config.namespaces == ["*"]
    assert collector.max_age_seconds(config) == 75
