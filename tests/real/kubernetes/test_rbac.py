"""With exactly the documented role all is seen, and nothing can be changed."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.controlplane import ApiError
from tests.real.kubernetes.cluster import Cluster, pod, workload
from tests.real.kubernetes.conftest import Watching, connection
from tests.real.kubernetes.view import agent, has, pods, problems, source
from tests.real.kubernetes.view import workload as shown

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes.md"
GROUP = "rbac.authorization.k8s.io"
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
REVIEWS = "/apis/authorization.k8s.io/v1"
# Every identity may ask what it may do itself.
SELF = {"selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews"}


def documented() -> list[Any]:
    """The rules that the page has, for a ClusterRole as for a Role."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    found = [one["rules"] for one in map(yaml.safe_load, blocks) if "rules" in one]
    assert len(found) == 1
    return list(found[0])


async def identity(cluster: Cluster, rules: list[Any], everywhere: bool = False) -> str:
    """A token of an account that has these rules, and no more."""
    name = cluster.namespace
    token = await asyncio.to_thread(cluster.plane.account, name, "telemetron")
    kind = "ClusterRole" if everywhere else "Role"
    subject = {"kind": "ServiceAccount", "name": "telemetron", "namespace": name}
    role = {"metadata": {"name": name}, "rules": rules}
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name},
        "subjects": [subject],
    }
    where = f"/apis/{GROUP}/v1"
    roles = (
        (f"{where}/clusterroles", f"{where}/clusterrolebindings")
        if everywhere
        else (cluster.path("Role"), cluster.path("RoleBinding"))
    )
    for path, body in zip(roles, (role, binding), strict=True):
        await cluster.call("POST", path, body)
    return token


async def settled(cluster: Cluster, token: str, path: str) -> None:
    """Until the API server's authorizer knows the binding."""
    async with asyncio.timeout(10):
        while True:
            try:
                await cluster.call("GET", path, token=token)
            except ApiError:
                await asyncio.sleep(0.1)
            else:
                return


async def test_the_documented_role_suffices(cluster: Cluster, watching: Watching) -> None:
    token = await identity(cluster, documented())
    await settled(cluster, token, cluster.path("Pod"))
    async with watching(token=token) as view:
        await cluster.make("Deployment", workload("web"))
        await cluster.make("StatefulSet", workload("base", serviceName=""))
        await cluster.make("DaemonSet", workload("each"))
        await view.until(lambda state: pods(state, "web", status="Running"))
        await view.until(lambda state: has(shown(state, "base", "StatefulSet")["live"], ready=1))
        await view.until(lambda state: has(shown(state, "each", "DaemonSet")["live"], ready=2))
        row = await view.until(lambda state: source(state)["status"] == "ok" and source(state))
        assert "Forbidden" not in {reason for _, reason in problems(row)}


async def test_the_documented_cluster_role_suffices(cluster: Cluster, watching: Watching) -> None:
    token = await identity(cluster, documented(), everywhere=True)
    await settled(cluster, token, "/api/v1/pods")
    async with watching(token=token, namespaces=["*"]) as view:
        await cluster.make("Deployment", workload("web"))
        await view.until(lambda state: pods(state, "web", status="Running"))
        row = await view.until(lambda state: source(state)["status"] == "ok" and source(state))
        assert "Forbidden" not in {reason for _, reason in problems(row)}


@pytest.mark.parametrize("everywhere", [False, True])
async def test_the_identity_can_change_nothing(cluster: Cluster, everywhere: bool) -> None:
    token = await identity(cluster, documented(), everywhere)
    await settled(cluster, token, cluster.path("Pod"))
    review = {"spec": {"namespace": cluster.namespace}}
    answer = await cluster.call("POST", f"{REVIEWS}/selfsubjectrulesreviews", review, token=token)
    rules = answer["status"]["resourceRules"]
    assert any("pods" in rule["resources"] for rule in rules)
    assert not answer["status"]["incomplete"]
    for rule in rules:
        writes = WRITES.intersection(rule["verbs"])
        assert not writes or set(rule["resources"]) <= SELF, rule
        assert "*" not in rule["verbs"] + rule["resources"]
        assert "secrets" not in rule["resources"]

    await cluster.make("Deployment", workload("web"))
    await cluster.make("Pod", pod("alone"))
    for method, path, body in (
        ("DELETE", f"{cluster.path('Pod')}/alone", None),
        ("PATCH", f"{cluster.path('Pod')}/alone", {"metadata": {"labels": {"a": "b"}}}),
        ("POST", cluster.path("Pod"), pod("another")),
        ("PATCH", f"{cluster.path('Deployment')}/web/scale", {"spec": {"replicas": 0}}),
        ("POST", f"{cluster.path('Pod')}/alone/eviction", {}),
        ("POST", f"{cluster.path('Pod')}/alone/exec?command=id", None),
        ("GET", f"/api/v1/namespaces/{cluster.namespace}/secrets", None),
        ("GET", f"/api/v1/namespaces/{cluster.namespace}/configmaps", None),
    ):
        with pytest.raises(ApiError) as refused:
            await cluster.call(method, path, body, token=token)
        assert refused.value.status == 403, path


async def test_denied_scope_is_named_and_the_others_continue(
    cluster: Cluster, watching: Watching
) -> None:
    rules = documented()
    without = [
        {**rule, "resources": [one for one in rule["resources"] if one != "statefulsets"]}
        for rule in rules
    ]
    token = await identity(cluster, without)
    await settled(cluster, token, cluster.path("Pod"))
    async with watching(token=token) as view:
        await cluster.make("Deployment", workload("web"))
        await view.until(lambda state: pods(state, "web", status="Running"))
        row = await view.until(
            lambda state: (
                "Forbidden" in {reason for _, reason in problems(source(state))} and source(state)
            )
        )
        (denied,) = [one for one in row["problems"] if one["reason"] == "Forbidden"]
        assert "statefulsets" in denied["message"]
        assert re.search(r"\b(list|watch)\b", denied["message"])

        # Once it is permitted, it is seen.
        role = {"metadata": {"name": cluster.namespace}, "rules": rules}
        await cluster.call("PUT", f"{cluster.path('Role')}/{cluster.namespace}", role)
        await view.until(
            lambda state: (
                source(state)["status"] == "ok"
                and "Forbidden" not in {reason for _, reason in problems(source(state))}
            ),
            60,
        )


KINDS = {
    "pods": {"active_pods": None, "pods": 0},
    "replicasets": {"active_pods": None, "pods": 0},
    "horizontalpodautoscalers": {"max_pods": None},
    "statefulsets": {},
    "jobs": {},
}
"""What a Deployment of three pods, scaled to five at most, lacks without each permission."""


async def account_without(cluster: Cluster, resource: str) -> str:
    """A token of an account that may observe everything but this kind."""
    name = f"without-{resource}"
    token = await asyncio.to_thread(cluster.plane.account, cluster.namespace, name)
    rules = [
        {**rule, "resources": [one for one in rule["resources"] if one != resource]}
        for rule in documented()
        if rule["resources"] != [resource]
    ]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": name},
        "subjects": [subject],
    }
    await cluster.call("POST", cluster.path("Role"), {"metadata": {"name": name}, "rules": rules})
    await cluster.call("POST", cluster.path("RoleBinding"), binding)
    await settled(cluster, token, cluster.path("Deployment"))
    return token


async def three_pods(cluster: Cluster) -> None:
    """A Deployment that declares an agent, and what scales it."""
    annotations = {"telemetron.dev/agent": "planner"}
    await cluster.make("Deployment", workload("web", replicas=3, annotations=annotations))
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 5}
    await cluster.make("HorizontalPodAutoscaler", {"metadata": {"name": "web"}, "spec": spec})


async def test_missing_permission_is_null_and_never_zero(
    cluster: Cluster, watching: Watching
) -> None:
    tokens = {one: await account_without(cluster, one) for one in KINDS}
    sources = {
        one: {
            "collector": "kubernetes",
            **connection(cluster.plane.kubeconfig(f"{cluster.namespace}-{one}", token)),
            "namespaces": [cluster.namespace],
        }
        for one, token in tokens.items()
    }
    await three_pods(cluster)
    whole = {"ready": 3, "active_pods": 3, "max_pods": 5, "pods": 3}

    def values(state: Any, name: str) -> Any:
        web = shown(state, "web", source=name)
        live = web["live"]
        return {
            "ready": live["ready"],
            "active_pods": live["active_pods"],
            "max_pods": web["max_pods"],
            "pods": len(web["pods"]),
        }

    async with watching(sources=sources) as view:
        await view.until(lambda state: values(state, "kubernetes") == whole)
        for resource, lacks in KINDS.items():
            await view.until(
                lambda state, name=resource, lacks=lacks: values(state, name) == {**whole, **lacks}
            )
            state = await view.until(
                lambda state, name=resource: source(state, name)["status"] == "ok" and state
            )
            assert (f"{cluster.namespace}/{resource}", "Forbidden") in problems(
                source(state, resource)
            )
            said = [one["reason"] for one in shown(state, "web", source=resource)["problems"]]
            assert said == (["Forbidden"] if lacks else [])


@pytest.mark.parametrize("resource", ["pods", "replicasets"])
async def test_instances_that_may_not_be_observed_are_not_counted(
    cluster: Cluster, watching: Watching, resource: str
) -> None:
    token = await account_without(cluster, resource)
    await three_pods(cluster)
    async with watching(token=token) as view:
        planner = await view.until(lambda state: agent(state, "planner"))
        assert (planner["instance_count"], planner["instances"]) == (None, [])
        (problem,) = planner["problems"]
        assert problem["reason"] == "Forbidden"
        assert resource in problem["message"]
        beat = {
            "instance": "i",
            "namespace": cluster.namespace,
            "interval_seconds": 5,
        }
        answer = await view.live.client.post("/agents/planner/heartbeat", json=beat)
        assert answer.status_code == 204
        await view.until(lambda state: has(agent(state, "planner"), instance_count=1))
