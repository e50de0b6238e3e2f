"""The service as it is deployed: its image, its manifests and its token, on a real cluster."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.ports import free_port
from tests.real.controlplane import control_plane
from tests.real.deploy.cluster import Cluster, call
from tests.real.deploy.image import Image, container
from tests.real.deploy.kustomize import Object, kustomization, one, render
from tests.real.process import wait_until

READ, WRITE, METRICS = (f"{role}-token-0123456789" for role in ("read", "write", "metrics"))
OVERLAYS = {"overlays/namespaced": "Role", "overlays/cluster": "ClusterRole"}
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
IDENTITY = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture(params=OVERLAYS)
def deployed(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> list[Object]:
    """An overlay, applied, with its Secret; its objects."""
    kustomization(tmp_path, request.param, namespace=cluster.namespace)
    objects = render(tmp_path)
    cluster.secret("telemetron-tokens", read=READ, write=WRITE, metrics=METRICS)
    cluster.apply(objects)
    return objects


@contextmanager
def pod(
    image: Image, cluster: Cluster, objects: list[Object], folder: Path
) -> Iterator[tuple[httpx.Client, Any]]:
    """What a kubelet would run: the pod's container, its variables, its files, its identity.

    Only the port is another one. Yields a client that bears no token, and the container's spec.
    """
    spec = one(objects, "Deployment")["spec"]["template"]["spec"]
    (main,) = spec["containers"]
    port = free_port()
    env = {each["name"]: each.get("value", cluster.namespace) for each in main["env"]}
    assert env["SERVER_PORT"] == str(main["ports"][0]["containerPort"])
    api = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(cluster.plane.port),
    }
    env = {**env, **api, "SERVER_PORT": str(port)}
    files = volumes(cluster, spec, main, folder / "files")
    files |= identity(cluster, spec["serviceAccountName"], folder / "identity")
    inside = folder / "container"
    inside.mkdir()
    url = f"http://127.0.0.1:{port}"
    with (
        container(image, inside, command=main["args"], env=env, files=files) as process,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        wait_until(lambda: serves(client), seconds=60, what="the container")
        yield client, main
        process.terminate()
        assert process.wait(10) == 0


def serves(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def volumes(cluster: Cluster, spec: Any, main: Any, folder: Path) -> dict[str, Path]:
    """What the pod mounts: by path in the container, a folder with what the cluster has for it."""
    paths = {mount["name"]: mount["mountPath"] for mount in main["volumeMounts"]}
    found = {}
    for volume in spec["volumes"]:
        into = folder / volume["name"]
        into.mkdir(parents=True)
        if "configMap" in volume:
            data = cluster.get("configmaps", volume["configMap"]["name"])["data"]
        elif volume["secret"].get("optional"):
            data = {}
        else:
            encoded = cluster.get("secrets", volume["secret"]["secretName"])["data"]
            data = {name: base64.b64decode(value).decode() for name, value in encoded.items()}
        for name, text in data.items():
            (into / name).write_text(text)
        found[paths[volume["name"]]] = into
    return found


def identity(cluster: Cluster, account: str, folder: Path) -> dict[str, Path]:
    """As the kubelet projects it."""
    folder.mkdir()
    (folder / "token").write_text(token(cluster, account))
    (folder / "ca.crt").write_bytes(cluster.plane.ca.read_bytes())
    (folder / "namespace").write_text(cluster.namespace)
    return {IDENTITY: folder}


def token(cluster: Cluster, account: str) -> str:
    """Of a service account that is there."""
    path = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts/{account}/token"
    answer = call(cluster.plane, "POST", path, {"spec": {"expirationSeconds": 3600}})
    assert answer.status == 201, answer.body
    return str(answer.body["status"]["token"])


def test_a_deployed_service_observes_its_namespaces(
    image: Image, cluster: Cluster, deployed: list[Object], tmp_path: Path
) -> None:
    """Among others itself: the pod that the cluster made of its Deployment."""
    other = f"{cluster.namespace}-other"
    call(cluster.plane, "POST", "/api/v1/namespaces", {"metadata": {"name": other}})
    bare = {"metadata": {"name": "stray"}, "spec": {"containers": [{"name": "c", "image": "c"}]}}
    call(cluster.plane, "POST", f"/api/v1/namespaces/{other}/pods", bare)
    everywhere = any(each["kind"] == "ClusterRole" for each in deployed)
    with pod(image, cluster, deployed, tmp_path) as (client, main):
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = main[name]["httpGet"]
            assert probe["port"] in {port["name"] for port in main["ports"]}
            assert client.get(probe["path"]).status_code == 200
        client.headers["authorization"] = f"Bearer {READ}"
        wait_until(lambda: observes(client, cluster.namespace), seconds=30, what="the workload")
        wait_until(lambda: source(client)["status"] == "ok", seconds=30, what="the source")
        workload = client.get("/system/state/workload").text
        assert ("stray" in workload) is everywhere
        # There is no metrics server; nothing else is missing.
        assert {problem["reason"] for problem in source(client)["problems"]} <= {
            "MetricsUnavailable"
        }
        beat = {"instance": "i"}
        assert client.post("/agents/planner/heartbeat", json=beat).status_code == 403
        client.headers["authorization"] = f"Bearer {WRITE}"
        assert client.post("/agents/planner/heartbeat", json=beat).status_code == 204
    call(cluster.plane, "DELETE", f"/api/v1/namespaces/{other}")


def source(client: httpx.Client) -> Any:
    """The row of `kubernetes`."""
    rows = client.get("/system/state/sources").json()["sources"]
    return next(row for row in rows if row["key"] == "kubernetes")


def observes(client: httpx.Client, namespace: str) -> bool:
    path = f"/system/state/workload/kubernetes/{namespace}/Deployment/telemetron"
    answer = client.get(path)
    if answer.status_code != 200:
        return False
    (workload,) = answer.json()["workload"]
    return [pod["status"] for pod in workload["pods"]] == ["Running"]


def test_the_role_permits_only_reading(cluster: Cluster, deployed: list[Object]) -> None:
    account = one(deployed, "ServiceAccount")["metadata"]["name"]
    (role,) = [each for each in deployed if each["kind"] in OVERLAYS.values()]
    granted = permissions(role["rules"])
    assert {verb for _, _, verb in granted} == {"get", "list", "watch"}
    mine, anybody = token(cluster, account), token(cluster, "default")
    wait_until(lambda: allowed(cluster, mine) >= granted, seconds=60, what="the binding")
    assert allowed(cluster, mine) - allowed(cluster, anybody) == granted
    elsewhere = granted if role["kind"] == "ClusterRole" else set()
    assert allowed(cluster, mine, "default") - allowed(cluster, anybody, "default") == elsewhere


def permissions(rules: list[Any]) -> set[tuple[str, str, str]]:
    """(group, resource, verb)"""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def allowed(cluster: Cluster, token: str, namespace: str = "") -> set[tuple[str, str, str]]:
    """What the API server says that this identity may do."""
    spec = {"namespace": namespace or cluster.namespace}
    review = call(cluster.plane, "POST", REVIEW, {"spec": spec}, token)
    assert review.status == 201, review.body
    rules = review.body["status"]["resourceRules"]
    assert all(rule.get("resourceNames", []) == [] for rule in rules)
    return permissions(rules)


@pytest.fixture(scope="module")
def old_cluster() -> Iterator[Cluster]:
    """A server that does not stream lists: a newer one is only asked to watch."""
    flags = ["--feature-gates=WatchList=false"]
    with control_plane("etcd", "kube-apiserver", apiserver_flags=flags) as plane:
        yield Cluster(plane, "old")


async def test_each_permission_less_is_noticed(
    old_cluster: Cluster, serving: Any, tmp_path: Path
) -> None:
    """One source for each permission that the collector uses, which has all but that one."""
    cluster = old_cluster
    kustomization(tmp_path, "overlays/namespaced", namespace=cluster.namespace)
    objects = render(tmp_path)
    rules = one(objects, "Role")["rules"]
    used = sorted(each for each in permissions(rules) if each[2] != "get")  # lists and watches
    assert len(used) > 14
    sources = {}
    for number, missing in enumerate(used):
        name = f"less-{number}"
        less = [
            {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
            for group, resource, verb in permissions(rules) - {missing}
        ]
        config = cluster.plane.kubeconfig(name, account(cluster, name, less))
        sources[name] = {
            "collector": "kubernetes",
            "config": "kubeconfig",
            "kubeconfig": str(config),
            "namespaces": [cluster.namespace],
        }
    async with serving(yaml.safe_dump({"sources": sources})) as live:
        left = {f"less-{number}": missing for number, missing in enumerate(used)}
        query: dict[str, str] = {}
        while left:
            answer = await live.client.get("/system/state/sources", params=query, timeout=40)
            if answer.status_code == 304:
                raise AssertionError(left)
            query = {"since": answer.headers["etag"], "wait": "30s"}
            for row in answer.json()["sources"]:
                if row["key"] in left and forbidden(row, *left[row["key"]]):
                    del left[row["key"]]


def forbidden(row: Mapping[str, Any], group: str, resource: str, verb: str) -> bool:
    """Whether the source says that it may not do this; and it says nothing else of the kind."""
    said = {p["message"] for p in row["problems"] if p["reason"] == "Forbidden"}
    wanted = f"no permission to {verb} {resource}"
    assert all(message.startswith(wanted) for message in said), (row, wanted)
    return bool(said)


def account(cluster: Cluster, name: str, rules: list[Any]) -> str:
    """The token of a new service account with these rules."""
    group = "rbac.authorization.k8s.io"
    labels = {"name": name, "namespace": cluster.namespace}
    subject = {"kind": "ServiceAccount", **labels}
    cluster.apply(
        [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": labels},
            {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": labels, "rules": rules},
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": labels,
                "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                "subjects": [subject],
            },
        ]
    )
    return token(cluster, name)
