"""Agents that workloads declare, and the heartbeats of those that run in their pods."""

from typing import Any

from tests.real.kubernetes.cluster import Cluster, pod, workload
from tests.real.kubernetes.conftest import Watching
from tests.real.kubernetes.view import View, agent, has, pods, source
from tests.real.kubernetes.view import workload as shown

PLANNER = {
    "telemetron.dev/agent": "planner",
    "telemetron.dev/description": "plans what the others do",
    "telemetron.dev/max-parallel-invocations": "3",
    "telemetron.dev/models": "large,small",
    "telemetron.dev/queues": "plans",
}


async def beat(view: View, namespace: str, pod_id: str, **more: Any) -> None:
    """The agent reports from this pod."""
    instance = {"instance": pod_id, "namespace": namespace, "pod_id": pod_id}
    answer = await view.live.client.post(
        "/agents/planner/heartbeat", json={**instance, "interval_seconds": 5, **more}
    )
    assert answer.status_code == 204, answer.text


async def test_a_workload_declares_an_agent_which_its_heartbeats_join(
    cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        await cluster.make("Deployment", workload("planner", replicas=2, annotations=PLANNER))
        declared = await view.until(
            lambda state: has(agent(state, "planner"), instance_count=2) and agent(state, "planner")
        )
        assert has(
            declared,
            key=f"{cluster.namespace}/planner",
            status="declared",
            description="plans what the others do",
            deployment_name="planner",
            models=["large", "small"],
            queues=["plans"],
            sources=["kubernetes"],
        )
        found = await view.until(
            lambda state: (
                len(pods(state, "planner", status="Running")) == 2 and shown(state, "planner")
            )
        )
        assert {one["workload"] for one in declared["instances"]} == {found["key"]}

        name = found["pods"][0]["pod_id"]
        await beat(view, cluster.namespace, name)
        joined = await view.until(
            lambda state: has(agent(state, "planner"), status="idle") and agent(state, "planner")
        )
        assert joined["instance_count"] == 2
        assert joined["sources"] == ["heartbeats", "kubernetes"]
        statuses = {one["pod_id"]: one["status"] for one in joined["instances"]}
        assert statuses == {
            one["pod_id"]: "idle" if one["pod_id"] == name else "declared" for one in found["pods"]
        }
        assert len((await view.state())["agents"]) == 1

        # One that reports from a pod that is gone is seen too.
        await cluster.delete("Deployment", "planner")
        await view.until(lambda state: not shown(state, "planner"))
        left = await view.until(
            lambda state: has(agent(state, "planner"), instance_count=1) and agent(state, "planner")
        )
        assert left["instances"][0]["pod_id"] == name


async def test_stable_and_canary_are_one_agent(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        name = {"telemetron.dev/agent": "planner"}
        await cluster.make("Deployment", workload("planner", annotations=name))
        await cluster.make("Deployment", workload("planner-canary", pod_annotations=name))
        one = await view.until(
            lambda state: has(agent(state, "planner"), instance_count=2) and agent(state, "planner")
        )
        assert len({instance["workload"] for instance in one["instances"]}) == 2
        await cluster.delete("Deployment", "planner-canary")
        await view.until(lambda state: has(agent(state, "planner"), instance_count=1))


async def test_a_lone_pod_declares_an_agent(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        await cluster.make("Pod", pod("solo", annotations={"telemetron.dev/agent": "planner"}))
        await view.until(lambda state: has(agent(state, "planner"), instance_count=1))
        await cluster.delete("Pod", "solo")
        await view.until(lambda state: not agent(state, "planner"))


async def test_invalid_annotations_break_nothing(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        odd = {**PLANNER, "telemetron.dev/max-parallel-invocations": "many"}
        await cluster.make("Deployment", workload("planner", annotations=odd))
        await view.until(lambda state: has(agent(state, "planner"), status="declared"))
        await view.until(lambda state: source(state)["status"] == "ok")
