"""The Kubernetes cluster: what its API server shows of workloads, pods, nodes and usage."""

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.collectors.kubernetes.apiserver import RESOURCES, ApiServer
from tests.collectors.kubernetes.conftest import kubeconfig
from tests.real.incidents.times import second_ago

if TYPE_CHECKING:
    from tests.real.incidents.pod import Pod
    from tests.real.incidents.workload import Workload

NAMESPACE = "prod"
NODES = ("node-a1", "node-a2", "node-b1", "node-b2")
METRICS = "/apis/metrics.k8s.io/v1beta1/pods"
DAY = 86_400.0
WATCHED = (*RESOURCES, "nodes")


class Cluster:
    """Workloads by name, and the API server that shows them."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.workloads: dict[str, Workload] = {}
        self._api = ApiServer()
        self._api.extra[METRICS] = self._usage
        self._runner: web.AppRunner | None = None
        self._addresses = 10
        self._sampled: list[dict[str, Any]] = []

    async def start(self) -> None:
        """Serve what there is."""
        for node in NODES:
            self.set_node(node, status="True")
        for workload in self.workloads.values():
            workload.sync()
        self.sample()
        self._runner = await self._api.start()

    async def stop(self) -> None:
        """End the server and its watches."""
        self._api.close_watches()
        if self._runner:
            await self._runner.cleanup()

    def source(self, folder: Path) -> dict[str, Any]:
        """Return the configuration of the source that watches it."""
        file = folder / "kubeconfig"
        file.write_text(kubeconfig(self._api.url))
        watched = {"namespaces": ["*"], "metrics_interval_seconds": 5}
        return {"config": "kubeconfig", "kubeconfig": str(file), **watched}

    def put(self, resource: str, name: str, metadata: Any = None, **body: Any) -> None:
        """Add or change an object."""
        made = {"creationTimestamp": second_ago(DAY), "uid": f"{resource}-{name}"}
        whole = {"name": name, "namespace": NAMESPACE, **made, **(metadata or {})}
        self._api.put(resource, {"metadata": whole, **body})

    def delete(self, resource: str, name: str) -> None:
        """Remove an object."""
        self._api.delete(resource, name, NAMESPACE)

    def set_node(self, name: str, **ready: str) -> None:
        """Set the condition Ready of a node."""
        self.put("nodes", name, status={"conditions": [{"type": "Ready", **ready}]})

    def address(self) -> str:
        """Return the address of a new pod, of loopback, so that its clients can connect from it."""
        self._addresses += 1
        return f"127.10.{self._addresses // 250}.{self._addresses % 250 + 1}"

    def token(self, length: int) -> str:
        """Return a random part of a name, as controllers append it."""
        return "".join(self.chance.choices("bcdfghjklmnpqrstvwxz2456789", k=length))

    def bookmark(self) -> None:
        """Keep the watches awake."""
        for resource in WATCHED:
            self._api.bookmark(resource)

    def sample(self) -> None:
        """Let the metrics server take new samples."""
        pods = [pod for workload in self.workloads.values() for pod in workload.pods]
        self._sampled = [self._sample(pod) for pod in pods if pod.is_measured]

    def _sample(self, pod: "Pod") -> dict[str, Any]:
        cpu = int(pod.cpu * self.chance.uniform(0.9, 1.1) * 1e9)
        usage = {"cpu": f"{cpu}n", "memory": f"{pod.memory * 1024}Ki"}
        return {
            "metadata": {"name": pod.name, "namespace": NAMESPACE},
            "timestamp": second_ago(),
            "window": "15s",
            "containers": [{"name": pod.workload.name, "usage": usage}],
        }

    async def _usage(self, request: web.Request) -> web.Response:
        return web.json_response({"metadata": {}, "items": self._sampled})
