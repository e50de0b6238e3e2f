"""Rules of instances, each beside the healthy situation that looks most like it."""

from telemetron.document import Member, PartitionLag
from tests.telemetron.diagnosis.system import System, rules


async def test_all_instances_silent() -> None:
    async with System() as system:
        system.agent("a", status="silent")
        assert await rules(system) == [("AgentGone", "critical")]


async def test_one_instance_silent() -> None:
    async with System() as system:
        system.agent("a", instance="a-0", status="silent")
        system.agent("a", instance="a-1")
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.path) == ("AgentSilent", "instances/a-0")
        assert finding.since == system.state.agents[0].instances[0].silent_since


async def test_a_beat_that_is_late_is_no_finding() -> None:
    async with System() as system:
        for number in range(10):
            system.agent("a", status="silent" if number % 2 else None)
            assert await system.after(5) == []


async def test_an_instance_that_said_goodbye_is_no_finding() -> None:
    async with System() as system:
        system.agent("a")
        await system.after(5)
        system.goodbye("a-0")
        assert await rules(system) == []


async def test_a_pod_that_was_scaled_away_without_tasks_is_information() -> None:
    async with System() as system:
        key = system.workload("a", system.pod("a-1"))
        system.agent("a", instance="a-0", status="silent", pod="a-0", workload=key)
        system.agent("a", instance="a-1", pod="a-1", workload=key)
        assert await rules(system) == [("AgentSilent", "info")]


async def test_a_pod_that_is_gone_belonged_to_the_workload_of_the_other_instances() -> None:
    async with System() as system:
        key = system.workload("a", system.pod("a-1"))
        system.agent("a", instance="a-0", status="silent", pod="a-0")
        system.agent("a", instance="a-1", pod="a-1", workload=key)
        assert await rules(system) == [("AgentSilent", "info")]


async def test_a_pod_that_is_gone_of_a_workload_of_another_name_is_not_known_to_be_removed() -> (
    None
):
    async with System() as system:
        key = system.workload("a", system.pod("a-1"))
        system.agent("a", instance="b-0", status="silent", pod="b-0")
        system.agent("a", instance="a-1", pod="a-1", workload=key)
        assert await rules(system) == [("AgentSilent", "warning")]


async def test_an_instance_whose_pod_was_evicted_is_an_effect_if_no_node_takes_the_next() -> None:
    async with System() as system:
        old = system.pod("a-0", status="Failed", ready=False, reason="Evicted")
        new = system.pod("a-1", status="Pending", ready=False, reason="Unschedulable")
        key = system.workload("a", old, new, desired=1)
        task = system.task("t", last_known=True)
        system.agent("a", task, status="silent", pod="a-0", deployment_name="a")
        system.agent("a", instance="a-1", status="declared", pod="a-1", workload=key)
        (finding,) = await system.after(60)
        assert finding.rule == "Unschedulable"
        assert [one.rule for one in finding.effects] == ["AgentSilent"]


async def test_a_silent_instance_whose_partitions_move_is_alive() -> None:
    async with System() as system:
        key = system.workload("a", system.pod("a-0", ip="10.0.0.1"), system.pod("a-1"))
        system.agent("a", instance="a-0", status="silent", pod="a-0", workload=key, queues=["q"])
        system.agent("a", instance="a-1", pod="a-1", workload=key, queues=["q"])
        member = Member(client_id="c", host="10.0.0.1", partitions=[0], partition_count=1)
        for _ in range(10):
            system.queue("q", members=[member], consumed_at=system.clock.now())
            await system.after(5)
        (finding,) = system.findings
        assert (finding.rule, finding.severity) == ("AgentSilent", "info")
        assert finding.basis == "contradiction"
        assert {one.section for one in finding.evidence} == {"agents", "queues"}


async def test_a_member_whose_partition_stands_still_is_no_sign_of_life() -> None:
    async with System() as system:
        key = system.workload("a", system.pod("a-0", ip="10.0.0.1"), system.pod("a-1"))
        system.agent("a", instance="a-0", status="silent", pod="a-0", workload=key, queues=["q"])
        system.agent("a", instance="a-1", pod="a-1", workload=key, queues=["q"])
        member = Member(client_id="c", host="10.0.0.1", partitions=[0], partition_count=1)
        lag = PartitionLag(partition=0, lag=3, consumed_at=system.ago(100))
        for _ in range(10):
            now = system.clock.now()
            system.queue("q", members=[member], lagging=[lag], consumed_at=now)
            await system.after(5)
        assert ("AgentSilent", "warning") in [(one.rule, one.severity) for one in system.findings]


async def test_a_declared_agent_that_never_beat_is_no_finding() -> None:
    async with System() as system:
        system.agent("a", status="declared")
        assert await rules(system) == []


async def test_a_clock_that_differs_is_information() -> None:
    async with System() as system:
        system.agent("a", clock_offset_seconds=-3600.0)
        assert await rules(system) == [("ClockSkew", "info")]


async def test_a_pod_that_was_evicted_and_replaced_is_information() -> None:
    async with System() as system:
        old = system.pod("a-0", status="Failed", ready=False, reason="Evicted")
        key = system.workload("a", old, system.pod("a-1"), desired=1)
        system.agent("a", instance="a-0", status="silent", pod="a-0", workload=key)
        system.agent("a", instance="a-1", pod="a-1", workload=key)
        assert await rules(system) == [("AgentSilent", "info")]


async def test_a_pod_of_the_same_name_in_another_namespace_explains_nothing() -> None:
    async with System() as system:
        bad = system.pod("a-0", ready=False, reason="CrashLoopBackOff", node="node-2")
        system.workload("a", bad, kind="StatefulSet", namespace="staging")
        key = system.workload("a", system.pod("a-0"), kind="StatefulSet")
        system.agent("a", status="silent", pod="a-0", workload=key)
        assert [rule for rule, _ in await rules(system)] == ["AgentGone", "WorkloadCrashing"]
