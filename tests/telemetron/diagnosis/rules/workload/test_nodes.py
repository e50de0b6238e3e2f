"""The rule of nodes, beside the healthy situation that looks most like it."""

from tests.telemetron.diagnosis.system import System


async def test_a_node_that_several_workloads_lost_is_the_root() -> None:
    async with System() as system:
        for name in ("a", "b", "c"):
            lost = system.pod(f"{name}-0", ready=False, node_ready=False, reason="NodeNotReady")
            key = system.workload(name, lost, system.pod(f"{name}-1", node="node-2"))
            system.agent(name, instance=f"{name}-0", status="silent", pod=f"{name}-0", workload=key)
            system.agent(name, instance=f"{name}-1", pod=f"{name}-1", workload=key)
        (finding,) = await system.after(60)
        assert (finding.rule, finding.severity) == ("NodeLost", "critical")
        assert (finding.root.kind, finding.root.name) == ("node", "node-1")
        assert finding.root.key == "kubernetes/prod/Deployment/a"
        assert finding.effect_count == 3


async def unready_on_node_1(system: System, *, elsewhere: bool) -> list[tuple[str, str]]:
    """Two workloads have an unready pod on node 1, and one on node 2."""
    old = system.ago(3600)
    for name in ("a", "b"):
        here = system.pod(f"{name}-0", ready=False, reason="NotReady", started_at=old)
        other = system.pod(f"{name}-1", node="node-2", ready=elsewhere, started_at=old)
        system.workload(name, here, other)
    return [(one.rule, one.root.name or one.root.key) for one in await system.after(30)]


async def test_a_node_on_which_no_pod_is_ready_is_the_root() -> None:
    async with System() as system:
        assert await unready_on_node_1(system, elsewhere=True) == [("NodeLost", "node-1")]


async def test_pods_that_are_unready_on_all_nodes_are_no_lost_node() -> None:
    async with System() as system:
        assert await unready_on_node_1(system, elsewhere=False) == []


async def test_pods_that_start_on_a_node_are_no_lost_node() -> None:
    async with System() as system:
        for name in ("a", "b"):
            here = system.pod(f"{name}-0", ready=False, started_at=system.ago(20))
            system.workload(name, here, system.pod(f"{name}-1", node="node-2"))
        assert await system.after(60) == []
