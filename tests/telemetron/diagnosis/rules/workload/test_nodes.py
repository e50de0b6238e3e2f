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
