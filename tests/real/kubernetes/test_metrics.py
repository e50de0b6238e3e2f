"""Usage figures, through the real API server's aggregation layer; what serves them is the test."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from tests.conftest import TLS
from tests.real.kubernetes.cluster import Cluster, workload
from tests.real.kubernetes.conftest import Watching
from tests.real.kubernetes.view import pods, problems, source

GROUP = "/apis/metrics.k8s.io/v1beta1"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
NAME = "v1beta1.metrics.k8s.io"
KIND = {"name": "pods", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}


class Metrics:
    """What a metrics server would say: the same of every container."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.cpu = "250500000n"
        self.memory = "51200Ki"
        self.times: set[str] = set()
        """Of the samples."""

    async def answer(self, request: web.Request) -> web.Response:
        """Any path of its group."""
        if request.path.endswith("/pods"):
            items = [self._of(item) for item in await self.cluster.all("Pod")]
            kind = {"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1"}
            return web.json_response({**kind, "metadata": {}, "items": items})
        if request.path == GROUP:
            kind = {"kind": "APIResourceList", "apiVersion": "v1"}
            resources = {"groupVersion": "metrics.k8s.io/v1beta1", "resources": [KIND]}
            return web.json_response({**kind, **resources})
        return web.json_response({}, status=404)

    def _of(self, item: Any) -> Any:
        at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        self.times.add(at)
        usage = {"cpu": self.cpu, "memory": self.memory}
        return {
            "metadata": {name: item["metadata"][name] for name in ("name", "namespace")},
            "timestamp": at,
            "window": "15s",
            "containers": [{"name": "main", "usage": usage}],
        }


@pytest.fixture
async def metrics(cluster: Cluster) -> AsyncIterator[Metrics]:
    """Registered with the API server, and gone afterwards."""
    metrics = Metrics(cluster)
    app = web.Application()
    app.router.add_get("/{path:.*}", metrics.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(TLS / "cert.pem", TLS / "key.pem", "hunter2")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust).start()
    port = runner.addresses[0][1]
    spec = {"type": "ExternalName", "externalName": "localhost"}
    path = f"/api/v1/namespaces/{cluster.namespace}/services"
    await cluster.call("POST", path, {"metadata": {"name": "metrics"}, "spec": spec})
    service = {"namespace": cluster.namespace, "name": "metrics", "port": port}
    about = {"group": "metrics.k8s.io", "version": "v1beta1", "insecureSkipTLSVerify": True}
    priority = {"groupPriorityMinimum": 100, "versionPriority": 100}
    body = {"metadata": {"name": NAME}, "spec": {**about, **priority, "service": service}}
    await cluster.call("POST", SERVICES, body)
    try:
        yield metrics
    finally:
        await cluster.call("DELETE", f"{SERVICES}/{NAME}")
        await runner.cleanup()


async def available(cluster: Cluster) -> None:
    """Until the API server passes requests on."""
    async with asyncio.timeout(30):
        while True:
            status = (await cluster.call("GET", f"{SERVICES}/{NAME}")).get("status", {})
            if [one["status"] for one in status.get("conditions", [])] == ["True"]:
                return
            await asyncio.sleep(0.1)


async def test_usage_is_null_without_metrics(cluster: Cluster, watching: Watching) -> None:
    async with watching() as view:
        await cluster.make("Deployment", workload("web"))
        (bare,) = await view.until(lambda state: pods(state, "web", status="Running"))
        assert bare["cpu"] is bare["memory"] is bare["measured_at"] is None
        await view.until(
            lambda state: "MetricsUnavailable" in {why for _, why in problems(source(state))}
        )
        await view.until(lambda state: source(state)["status"] == "ok")


async def test_usage_through_the_api_server(
    cluster: Cluster, watching: Watching, metrics: Metrics
) -> None:
    await available(cluster)
    async with watching(metrics_interval_seconds=5) as view:
        await cluster.make("Deployment", workload("web", replicas=2))
        measured = await view.until(
            lambda state: len(pods(state, "web", cpu=0.25, memory=50)) == 2 and pods(state, "web"),
            60,
        )
        assert {one["measured_at"] for one in measured} <= metrics.times
        assert "MetricsUnavailable" not in {why for _, why in problems(source(await view.state()))}
