"""The collector in a server, together with heartbeats."""

import asyncio

from tests.collectors.kubernetes.apiserver import apiserver
from tests.collectors.kubernetes.conftest import kubeconfig
from tests.collectors.kubernetes.things import agent, deployment, pod, replicaset


async def until(live, condition):
    news = asyncio.Event()
    live.app.service.store.watchers.append(lambda publication: news.set())
    async with asyncio.timeout(30):
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


async def test_declared_agent_and_its_heartbeats_are_merged(serving, tmp_path):
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
