"""A node that is lost: what the node lifecycle controller does to its pods is what is shown."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.controlplane import ControlPlane, control_plane
from tests.real.kubernetes.cluster import Cluster, now, pod
from tests.real.kubernetes.conftest import Watching, connection
from tests.real.kubernetes.view import pods

NODES = "/api/v1/nodes"
# After so long without a heartbeat a node is lost; by default after 50 s.
GRACE = ("--node-monitor-grace-period=10s", "--node-monitor-period=1s")


@pytest.fixture(name="control_plane")
def a_control_plane_of_its_own() -> Iterator[ControlPlane]:
    """One whose kubelets may stop, and two nodes."""
    with control_plane(controller_flags=GRACE) as plane:
        for node in ("node-1", "node-2"):
            plane.call("POST", NODES, {"metadata": {"name": node}})
        yield plane


async def say(cluster: Cluster, node: str, ready: str, reason: str) -> None:
    """What the node's kubelet would say of it."""
    conditions = (await cluster.call("GET", f"{NODES}/{node}"))["status"]["conditions"]
    for one in conditions:
        if one["type"] == "Ready":
            one.update(status=ready, reason=reason, lastHeartbeatTime=now())
    await cluster.call("PATCH", f"{NODES}/{node}/status", {"status": {"conditions": conditions}})


async def test_pods_of_an_unready_node_are_marked(cluster: Cluster, watching: Watching) -> None:
    for number in (1, 2):
        await cluster.make("Pod", pod(f"p{number}", nodeName=f"node-{number}"))
    file = cluster.plane.kubeconfig(f"{cluster.namespace}-nodes")
    watched = {
        "collector": "kubernetes",
        **connection(file),
        "namespaces": [cluster.namespace],
        "nodes": True,
    }
    async with watching(sources={"watched": watched}) as view:

        def fact(state: Any, name: str, source: str) -> Any:
            one = pods(state, name, "Pod", source=source)[0]
            return [one[field] for field in ("status", "ready", "node_ready", "reason", "message")]

        def are(name: str, source: str, *values: Any) -> Any:
            return view.until(lambda state: fact(state, name, source) == ["Running", *values])

        for name in ("p1", "p2"):
            await are(name, "watched", True, True, None, None)
            await are(name, "kubernetes", True, None, None, None)
        await asyncio.to_thread(cluster.plane.stop, "kwok")

        # A kubelet that says that its node is not ready: its pods are not marked.
        await say(cluster, "node-1", "False", "KubeletNotReady")
        why = "node node-1 is not ready (KubeletNotReady)"
        await are("p1", "watched", True, False, "NodeNotReady", why)
        await are("p1", "kubernetes", True, None, None, None)

        # One that has fallen silent: they are, which needs no permission on nodes.
        why = "node node-2 is not ready"
        await are("p2", "kubernetes", False, False, "NodeNotReady", why)
        await are("p2", "watched", False, False, "NodeNotReady", f"{why} (NodeStatusUnknown)")
        rows = await asyncio.to_thread(cluster.plane.table, cluster.path("Pod"))
        assert {row["Status"] for row in rows} == {"Running"}  # kubectl does not say
