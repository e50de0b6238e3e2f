"""The collector against a scripted API server."""

import pytest

from tests.collectors.kubernetes.conftest import kubeconfig
from tests.collectors.kubernetes.things import (
    agent,
    autoscaler,
    container,
    deployment,
    pod,
    replicaset,
    template,
)


def rolled_out(api, name="web", replicas=2, **meta):
    """A Deployment with its ReplicaSet and pods."""
    api.put("deployments", deployment(name, replicas, **meta))
    api.put("replicasets", replicaset(f"{name}-1", name))
    for number in range(replicas):
        api.put("pods", pod(f"{name}-1-{number}", ("ReplicaSet", f"{name}-1")))


async def test_a_deployment_with_its_pods(api, observing):
    rolled_out(api)
    api.put("horizontalpodautoscalers", autoscaler("h", "Deployment", "web", 7))
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert list(observed.workloads) == ["default/Deployment/web"]
        web = observed.workloads["default/Deployment/web"]
        assert (web.max_pods, web.pod_max_cpu, web.pod_max_ram) == (7, "500m", "256Mi")
        assert (web.live.desired, web.live.ready, web.live.active_pods) == (2, 2, 2)
        assert (web.live.rollout, web.live.image) == ("complete", "app:1")
        assert [one.pod_id for one in web.pods] == ["web-1-0", "web-1-1"]
        assert observed.problems == {}


async def test_changes_are_published(api, observing):
    rolled_out(api, replicas=1)
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        api.put("pods", pod("web-1-1", ("ReplicaSet", "web-1")))
        await observed.until(lambda: len(observed.workloads["default/Deployment/web"].pods) == 2)
        api.delete("pods", "web-1-0")
        await observed.until(lambda: len(observed.workloads["default/Deployment/web"].pods) == 1)
        api.delete("deployments", "web")
        await observed.until(lambda: observed.workloads["default/Deployment/web"].live is None)
        api.delete("replicasets", "web-1")
        api.delete("pods", "web-1-1")
        await observed.until(lambda: observed.workloads == {})


async def test_a_pod_without_owner_and_one_of_an_unwatched_kind(api, observing):
    api.put("pods", pod("alone"))
    api.put("pods", pod("r-1", ("Rollout", "r")))
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert list(observed.workloads) == ["default/Pod/alone", "default/Rollout/r"]
        assert observed.workloads["default/Rollout/r"].live is None
        assert observed.workloads["default/Rollout/r"].pod_max_cpu == "500m"


async def test_agents_are_declared(api, observing):
    rolled_out(
        api,
        annotations=agent(
            "planner", description="plans", max_parallel_invocations="4", models="b, a", queues="q"
        ),
    )
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        planner = observed.agents["default/planner"]
        assert (planner.status, planner.instance_count) == ("declared", 2)
        assert (planner.max_parallel_invocations, planner.models) == (4, ["a", "b"])
        assert planner.deployment_name == "web"
        assert planner.instances[0].pod_id == "web-1-0"
        assert planner.instances[0].workload == "kubernetes/default/Deployment/web"
        api.delete("pods", "web-1-0")
        await observed.until(lambda: observed.agents["default/planner"].instance_count == 1)
        api.put("deployments", deployment("web", 2))
        await observed.until(lambda: observed.agents == {})


async def test_stable_and_canary_are_one_agent(api, observing):
    for name in ("stable", "canary"):
        one = deployment(name)
        one["spec"]["template"] = template(container(), annotations=agent("planner"))
        api.put("deployments", one)
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert list(observed.agents) == ["default/planner"]
        api.delete("deployments", "canary")
        api.put("pods", pod("p", annotations=agent("other")))
        await observed.until(lambda: "default/other" in observed.agents)
        assert observed.agents["default/other"].instances[0].id == "p"


async def test_one_namespace(api, observing):
    api.put("pods", pod("here"))
    api.put("pods", pod("there", namespace="elsewhere"))
    async with observing(namespaces=[]) as observed:
        await observed.until(lambda: observed.status == "ok")
        assert list(observed.workloads) == ["default/Pod/here"]
        assert {path for path, _ in api.requests} >= {"/api/v1/namespaces/default/pods"}


async def test_objects_beyond_the_limit_are_left_out(api, observing):
    for name in ("a", "b", "c"):
        api.put("pods", pod(name))
        api.put("deployments", deployment(name))
    async with observing(bounds={"objects": 2}) as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.problems == {"pods": "LimitReached", "deployments": "LimitReached"}
        assert len(observed.workloads) == 4
        api.put("pods", pod("a", annotations=agent("known")))
        await observed.until(lambda: observed.agents)
        assert observed.agents["default/known"].instance_count is None
        web = observed.workloads["default/Deployment/a"]
        assert web.live.active_pods is None
        assert {one.reason for one in web.problems} == {"LimitReached"}
        api.delete("pods", "c")
        await observed.until(lambda: observed.problems == {"deployments": "LimitReached"})
        await observed.until(lambda: observed.agents["default/known"].instance_count == 1)
        api.delete("deployments", "b")
        api.close_watches()
        api.compact()  # all are listed again
        await observed.until(lambda: "default/Deployment/c" in observed.workloads)
        await observed.until(lambda: observed.problems == {})
        assert observed.workloads["default/Deployment/a"].problems == []


@pytest.mark.parametrize("content", ["", "current-context: x", "clusters: [", "users: {}"])
async def test_unusable_kubeconfig_is_loaded_again(api, observing, tmp_path, content):
    (tmp_path / "kubeconfig").write_text(content)
    async with observing() as observed:
        await observed.until(lambda: observed.problems.get("") == "InvalidConfig")
        (tmp_path / "kubeconfig").write_text(kubeconfig(api.url))
        await observed.until_ok()
