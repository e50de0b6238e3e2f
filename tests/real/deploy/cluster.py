"""What `kubectl apply --server-side --validate=strict` does, with the warnings it would print."""

import json
import shutil
import ssl
import tempfile
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import yaml

from tests.real import gomodule
from tests.real.controlplane import ControlPlane
from tests.real.deploy.kustomize import Object
from tests.real.process import CACHE, locked, wait_until

OPERATOR = "github.com/prometheus-operator/prometheus-operator"
OPERATOR_VERSION = "v0.85.0"
CRDS = ("servicemonitors", "prometheusrules")
APPLY = {"fieldManager": "test", "fieldValidation": "Strict", "force": "true"}
RESTRICTED = "pod-security.kubernetes.io/"


class Answer(NamedTuple):
    """Of the API server."""

    status: int
    body: Any
    warnings: list[str]


def call(plane: ControlPlane, method: str, path: str, body: Any = None, token: str = "") -> Answer:
    """One request, as administrator or with this token."""
    url = urlsplit(plane.server)
    trust = ssl.create_default_context(cafile=str(plane.ca))
    connection = HTTPSConnection(url.hostname or "", url.port, timeout=30, context=trust)
    kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
    headers = {"Authorization": f"Bearer {token or plane.token}", "Content-Type": kind}
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    parsed = json.loads(text) if text.startswith("{") else text
    return Answer(answer.status, parsed, answer.headers.get_all("Warning") or [])


class Cluster:
    """A namespace of its own, that takes no pod but restricted ones; and what is applied there."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self._applied: list[str] = []
        labels = {f"{RESTRICTED}{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        self._must(
            "POST", "/api/v1/namespaces", {"metadata": {"name": namespace, "labels": labels}}
        )

    def apply(self, objects: list[Object]) -> None:
        """All of them; the test fails where the server refuses one, or warns."""
        for one in objects:
            path = self.path(one)
            answer = call(self.plane, "PATCH", f"{path}?{urlencode(APPLY)}", one)
            assert answer.status in (200, 201), (path, answer.body)
            assert answer.warnings == [], path
            self._applied.append(path)

    def path(self, one: Object) -> str:
        """Of the object; as kubectl asks the server for it."""
        version, kind, name = one["apiVersion"], one["kind"], one["metadata"]["name"]
        api = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resources = self._must("GET", api)["resources"]
        (found,) = [r for r in resources if r["kind"] == kind and "/" not in r["name"]]
        where = ""
        if found["namespaced"]:
            where = f"/namespaces/{one['metadata'].get('namespace', self.namespace)}"
        return f"{api}{where}/{found['name']}/{name}"

    def get(self, kind: str, name: str, api: str = "/api/v1") -> Any:
        """One object of the namespace."""
        return self._must("GET", f"{api}/namespaces/{self.namespace}/{kind}/{name}")

    def pods(self) -> list[Any]:
        """Those of the namespace."""
        listed = self._must("GET", f"/api/v1/namespaces/{self.namespace}/pods")
        return list(listed["items"])

    def secret(self, name: str, **values: str) -> None:
        """As a person makes it."""
        path = f"/api/v1/namespaces/{self.namespace}/secrets"
        self._must("POST", path, {"metadata": {"name": name}, "stringData": values})

    def delete(self) -> None:
        """The namespace, and what was applied outside of it."""
        for path in self._applied:
            if f"/namespaces/{self.namespace}/" not in path:
                call(self.plane, "DELETE", path)
        call(self.plane, "DELETE", f"/api/v1/namespaces/{self.namespace}")

    def _must(self, method: str, path: str, body: Any = None) -> Any:
        answer = call(self.plane, method, path, body)
        assert answer.status < 300, (path, answer.body)
        return answer.body


def install_operator_kinds(plane: ControlPlane) -> None:
    """ServiceMonitor and PrometheusRule, as the Prometheus Operator defines them."""
    for file in crds():
        crd = yaml.safe_load(file.read_text())
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        answer = call(plane, "PATCH", f"{path}?{urlencode(APPLY)}", crd)
        assert answer.status in (200, 201), answer.body
    wait_until(lambda: _serves_them(plane), seconds=30, what="the Operator's kinds")


def _serves_them(plane: ControlPlane) -> bool:
    answer = call(plane, "GET", "/apis/monitoring.coreos.com/v1")
    return answer.status == 200 and set(CRDS) <= {one["name"] for one in answer.body["resources"]}


def crds() -> list[Path]:
    """The definitions; fetched, as a Go module, where they are not there yet."""
    folder = CACHE / f"prometheus-operator-{OPERATOR_VERSION}"
    files = [f"monitoring.coreos.com_{name}.yaml" for name in CRDS]
    with locked("prometheus-operator"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                module = gomodule.fetch(OPERATOR, OPERATOR_VERSION, scratch)
                made = Path(scratch, "made")
                made.mkdir()
                for file in files:
                    shutil.copy(module / "example" / "prometheus-operator-crd" / file, made)
                shutil.move(made, folder)
    return [folder / file for file in files]
