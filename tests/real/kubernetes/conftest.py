"""A namespace for each test, and a Telemetron that watches it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Serving
from tests.real.controlplane import ControlPlane
from tests.real.faultproxy import FaultProxy, fault_proxy
from tests.real.kubernetes.cluster import Cluster
from tests.real.kubernetes.view import View
from tests.real.process import wait_until

Watching = Callable[..., AbstractAsyncContextManager[View]]


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[Cluster]:
    """A namespace of its own, gone afterwards."""
    name = f"test-{uuid4().hex[:8]}"
    await asyncio.to_thread(_made, control_plane, name)
    yield Cluster(control_plane, name)
    await asyncio.to_thread(control_plane.call, "DELETE", f"/api/v1/namespaces/{name}")


def _made(control_plane: ControlPlane, name: str) -> None:
    """The namespace, once pods may be made in it."""
    control_plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
    wait_until(
        lambda: bool(control_plane.call("GET", accounts)["items"]), seconds=30, what="its account"
    )


@pytest.fixture
def watching(serving: Serving, cluster: Cluster) -> Watching:
    """`async with watching() as view`: a server whose source `kubernetes` watches the namespace.

    As administrator and straight, unless `server` or `token` say else; `source` is more of its
    configuration, `sources` are other sources.
    """

    @asynccontextmanager
    async def watch(
        server: str | None = None,
        token: str | None = None,
        sources: Any = None,
        **source: Any,
    ) -> AsyncIterator[View]:
        file = cluster.plane.kubeconfig(cluster.namespace, token, server)
        kubernetes = {**connection(file), "namespaces": [cluster.namespace], **source}
        config = {"sources": {"heartbeats": {}, "kubernetes": kubernetes, **(sources or {})}}
        async with serving(json.dumps(config)) as live:
            yield View(live)

    return watch


def connection(file: Path) -> dict[str, Any]:
    """The keys of a source that takes this kubeconfig."""
    return {"config": "kubeconfig", "kubeconfig": str(file)}


@pytest.fixture
async def proxy(control_plane: ControlPlane) -> AsyncIterator[FaultProxy]:
    """In front of the API server, for faults of HTTP."""
    async with fault_proxy(control_plane.server, str(control_plane.ca)) as proxy:
        yield proxy
