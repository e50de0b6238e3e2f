"""One namespace of a real cluster, as its administrator and its kubelets see it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from tests.real.controlplane import UNTENDED, ControlPlane

Object = dict[str, Any]

PATHS = {
    "Pod": "/api/v1/namespaces/{}/pods",
    "LimitRange": "/api/v1/namespaces/{}/limitranges",
    "ReplicationController": "/api/v1/namespaces/{}/replicationcontrollers",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}


class Cluster:
    """Makes, changes and reads objects of its namespace without holding up the event loop."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace

    async def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """Any request; ApiError where it is refused."""
        return await asyncio.to_thread(self.plane.call, method, path, body, token)

    async def make(self, kind: str, body: Object) -> Object:
        """Create it."""
        made: Object = await self.call("POST", self.path(kind), body)
        return made

    async def get(self, kind: str, name: str) -> Object:
        """As it is now."""
        found: Object = await self.call("GET", f"{self.path(kind)}/{name}")
        return found

    async def all(self, kind: str, labels: str = "") -> list[Object]:
        """Those whose labels fit."""
        query = f"?labelSelector={labels.replace('=', '%3D')}" if labels else ""
        items: list[Object] = (await self.call("GET", self.path(kind) + query))["items"]
        return items

    async def patch(self, kind: str, name: str, change: Object, part: str = "") -> Object:
        """Merge the change in; `part`: `status` or `scale`."""
        path = f"{self.path(kind)}/{name}{'/' * bool(part)}{part}"
        changed: Object = await self.call("PATCH", path, change)
        return changed

    async def delete(self, kind: str, name: str, **options: Any) -> None:
        """Without grace, unless the options say else; what it owns goes too."""
        body = {"gracePeriodSeconds": 0, "propagationPolicy": "Background", **options}
        await self.call("DELETE", f"{self.path(kind)}/{name}", body)

    async def container(self, pod: str, restarts: int = 0, **status: Any) -> Object:
        """Say of the pod's container what a kubelet would say."""
        image = (await self.get("Pod", pod))["spec"]["containers"][0]["image"]
        said = {"name": "main", "image": image, "imageID": "", "restartCount": restarts, **status}
        said.setdefault("ready", "running" in said["state"])
        ready = {
            "type": "Ready",
            "status": "True" if said["ready"] else "False",
            "lastTransitionTime": now(),
        }
        whole = {"phase": "Running", "containerStatuses": [said], "conditions": [ready]}
        return await self.patch("Pod", pod, {"status": whole}, "status")

    def path(self, kind: str) -> str:
        """Of its collection."""
        return PATHS[kind].format(self.namespace)


def now() -> str:
    """As Kubernetes writes times."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def pod_spec(image: str = "example.invalid/app:1", **spec: Any) -> Object:
    """One container, `main`, that no kubelet runs."""
    container = {"name": "main", "image": image}
    return {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}


def pod(
    name: str, *, tended: bool = True, annotations: Object | None = None, **spec: Any
) -> Object:
    """A pod; kwok runs it unless it is not `tended`."""
    labels = {"app": name, **({} if tended else UNTENDED)}
    metadata = {"name": name, "labels": labels, "annotations": annotations or {}}
    return {"metadata": metadata, "spec": pod_spec(**spec)}


def workload(
    name: str,
    *,
    tended: bool = True,
    annotations: Object | None = None,
    pod_annotations: Object | None = None,
    image: str = "example.invalid/app:1",
    pod: Object | None = None,
    **spec: Any,
) -> Object:
    """What selects the pods it makes: a Deployment, StatefulSet, DaemonSet; with `spec` more."""
    labels = {"app": name, **({} if tended else UNTENDED)}
    template = {
        "metadata": {"labels": labels, "annotations": pod_annotations or {}},
        "spec": pod_spec(image, **(pod or {})),
    }
    selector = {"matchLabels": {"app": name}}
    return {
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"selector": selector, "template": template, **spec},
    }


def new_image(image: str) -> Object:
    """A change that rolls out another image."""
    return {"spec": {"template": {"spec": pod_spec(image)}}}
