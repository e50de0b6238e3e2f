"""A kind that may not be observed in a namespace: unknown is not zero."""

import pytest

from telemetron_collectors.kubernetes.api.objects import KINDS
from tests.collectors.kubernetes.apiserver import status
from tests.collectors.kubernetes.things import (
    agent,
    autoscaler,
    container,
    deployment,
    metadata,
    pod,
    replicaset,
    template,
)

SPACES = ("left", "right")
# The fields of the workload `web` and the agent `writer` that are null or empty without the
# permission; all other fields are as in the namespace in which nothing is forbidden.
LOST = {
    "pods": {"active_pods": None, "pods": [], "instances": [], "instance_count": None},
    "replicasets": {"active_pods": None, "pods": [], "instances": [], "instance_count": None},
    "horizontalpodautoscalers": {"max_pods": None},
    "statefulsets": {},
    "daemonsets": {},
    "jobs": {},
}
WHOLE = {
    "ready": 2,
    "active_pods": 2,
    "max_pods": 5,
    "pods": ["web-1-0", "web-1-1"],
    "instances": ["web-1-0", "web-1-1"],
    "instance_count": 2,
}


def filled(api):
    for space in SPACES:
        at = {"namespace": space}
        api.put("deployments", deployment("web", 2, annotations=agent("writer"), **at))
        api.put("replicasets", {**replicaset("web-1", "web"), **within(space, "web-1", "web")})
        for number in range(2):
            api.put("pods", pod(f"web-1-{number}", ("ReplicaSet", "web-1"), **at))
        one = autoscaler("h", "Deployment", "web", 5)
        one["metadata"]["namespace"] = space
        api.put("horizontalpodautoscalers", one)


def within(space, name, owner):
    return {"metadata": metadata(name, ("Deployment", owner), namespace=space)}


def forbid(api, resource, space):
    async def fault(request):
        is_there = f"/namespaces/{space}/" in request.path
        return status(403) if is_there and "metrics" not in request.path else None

    api.faults[resource] = fault


def found(observed, space):
    web = observed.workloads[f"{space}/Deployment/web"]
    writer = observed.agents[f"{space}/writer"]
    return {
        "ready": web.live.ready,
        "active_pods": web.live.active_pods,
        "max_pods": web.max_pods,
        "pods": [one.pod_id for one in web.pods],
        "instances": [one.id for one in writer.instances],
        "instance_count": writer.instance_count,
    }


@pytest.mark.parametrize(
    ("resource", "space"), [(one, SPACES[at % 2]) for at, one in enumerate(LOST)]
)
async def test_fields_without_permission_are_null_with_a_problem(api, observing, resource, space):
    filled(api)
    forbid(api, resource, space)
    (other,) = set(SPACES) - {space}
    async with observing(namespaces=list(SPACES)) as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.problems == {f"{space}/{resource}": "Forbidden"}
        assert found(observed, space) == {**WHOLE, **LOST[resource]}
        assert found(observed, other) == WHOLE

        web = observed.workloads[f"{space}/Deployment/web"]
        writer = observed.agents[f"{space}/writer"]
        said = [("Forbidden", f"no permission to watch {resource} in {space}")]
        assert problems(web) == (said if LOST[resource] else [])
        assert problems(writer) == (said if "instances" in LOST[resource] else [])
        assert problems(observed.workloads[f"{other}/Deployment/web"]) == []
        assert problems(observed.agents[f"{other}/writer"]) == []

        api.faults.clear()
        await observed.until(lambda: observed.problems == {})
        await observed.until(
            lambda: (
                found(observed, space) == WHOLE
                and problems(observed.workloads[f"{space}/Deployment/web"]) == []
            )
        )


def problems(entity):
    return [(one.reason, one.message) for one in entity.problems]


async def test_pods_are_shown_without_permission_on_their_controllers(api, observing):
    filled(api)
    one = deployment("web", 2, namespace="left")
    one["spec"]["template"] = template(container(), annotations=agent("writer"))
    for number in range(2):
        owner = ("ReplicaSet", "web-1")
        api.put(
            "pods", pod(f"web-1-{number}", owner, namespace="left", annotations=agent("writer"))
        )
    forbid(api, "deployments", "left")
    async with observing(namespaces=list(SPACES)) as observed:
        await observed.until(lambda: observed.status == "ok")
        web = observed.workloads["left/Deployment/web"]
        assert (web.live, web.max_pods, web.owner) == (None, 5, None)  # by its autoscaler
        assert [one.pod_id for one in web.pods] == WHOLE["pods"]
        assert problems(web) == [("Forbidden", "no permission to watch deployments in left")]
        # The pods themselves declare the agent, and all of them are known.
        assert observed.agents["left/writer"].instance_count == 2
        assert found(observed, "right") == WHOLE


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Job"])
async def test_pods_of_a_forbidden_controller_are_shown(api, observing, kind):
    resource = KINDS[kind].resource
    api.put("pods", pod("w-0", (kind, "w"), namespace="left", annotations=agent("a")))
    forbid(api, resource, "left")
    async with observing(namespaces=["left"]) as observed:
        await observed.until(lambda: observed.status == "ok")
        one = observed.workloads[f"left/{kind}/w"]
        assert ([pod.pod_id for pod in one.pods], one.live, one.max_pods) == (["w-0"], None, None)
        assert problems(one) == [("Forbidden", f"no permission to watch {resource} in left")]
        assert observed.agents["left/a"].instance_count == 1


async def test_pods_of_an_unknown_deployment_have_a_problem(api, observing):
    filled(api)
    forbid(api, "replicasets", "left")
    async with observing(namespaces=list(SPACES)) as observed:
        await observed.until(lambda: observed.status == "ok")
        one = observed.workloads["left/ReplicaSet/web-1"]
        assert [pod.pod_id for pod in one.pods] == WHOLE["pods"]
        assert problems(one) == [("Forbidden", "no permission to watch replicasets in left")]


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Job"])
async def test_other_controllers_need_no_replicasets(api, observing, kind):
    resource = KINDS[kind].resource
    at = {"namespace": "left"}
    body = {"spec": {"template": template()}, "status": {}}
    api.put(resource, {"metadata": metadata("w", **at, annotations=agent("a")), **body})
    api.put("pods", pod("w-0", (kind, "w"), **at))
    forbid(api, "replicasets", "left")
    async with observing(namespaces=["left"]) as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.workloads[f"left/{kind}/w"].live.active_pods == 1
        assert observed.agents["left/a"].instance_count == 1
    forbid(api, "pods", "left")
    async with observing(namespaces=["left"]) as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.workloads[f"left/{kind}/w"].live.active_pods is None
        assert observed.agents["left/a"].instance_count is None


async def test_lost_permission_keeps_the_last_state(api, observing):
    filled(api)
    async with observing(namespaces=list(SPACES)) as observed:
        await observed.until(lambda: observed.status == "ok")
        forbid(api, "pods", "left")
        api.close_watches()
        await observed.until(lambda: observed.problems == {"left/pods": "Forbidden"})
        assert observed.status == "degraded"
        assert found(observed, "left") == WHOLE


async def test_nodes_are_watched_if_the_configuration_asks(api, observing):
    api.put("pods", pod("p"))
    ready = {"conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}]}
    node = {"metadata": {"name": "node-1", "namespace": ""}, "status": ready}
    api.put("nodes", node)
    async with observing() as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.workloads["default/Pod/p"].pods[0].node_ready is None
        assert not [path for path, _ in api.requests if path.endswith("/nodes")]
    async with observing(nodes=True, label_selector="app") as observed:
        await observed.until(lambda: observed.status == "ok")
        (one,) = observed.workloads["default/Pod/p"].pods
        assert (one.node_ready, one.reason) == (False, "NodeNotReady")
        ready["conditions"][0]["status"] = "True"
        api.put("nodes", node)
        await observed.until(lambda: observed.workloads["default/Pod/p"].pods[0].node_ready)
        api.delete("nodes", "node-1", "")
        await observed.until(lambda: observed.workloads["default/Pod/p"].pods[0].node_ready is None)
    api.faults["nodes"] = forbidden
    async with observing(nodes=True) as observed:
        await observed.until(lambda: observed.status == "ok")
        assert observed.problems == {"nodes": "Forbidden"}
        assert observed.workloads["default/Pod/p"].pods[0].node_ready is None


async def forbidden(request):
    return status(403)
