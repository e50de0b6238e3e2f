"""Rules of replicas, each beside the healthy situation that looks most like it."""

from typing import Any

from tests.telemetron.diagnosis.system import System, found


async def test_a_paused_rollout_is_no_finding() -> None:
    async with System() as system:
        system.workload("writer", system.pod("w-1"), rollout="paused")
        assert await found(system) == []


async def test_pods_that_are_refused() -> None:
    async with System() as system:
        live: dict[str, Any] = {"desired": 3, "active_pods": 1, "reason": "FailedCreate"}
        system.workload("writer", system.pod("w-1"), message="exceeded quota", **live)
        (finding,) = await system.after(60)
        assert finding.rule == "ReplicasMissing"
        assert "1 of 3 pods: exceeded quota" in finding.summary


async def test_none_ready_of_those_wanted() -> None:
    async with System() as system:
        system.workload("writer", system.pod("w-0", ready=False, reason="ReadinessProbeFailed"))
        assert await found(system, 50) == []
        assert await found(system, 30) == [("WorkloadUnavailable", None, "critical")]


async def test_none_wanted_is_no_finding() -> None:
    async with System() as system:
        system.workload("writer", desired=0, ready=0)
        assert await found(system) == []


async def test_a_failed_job_is_information() -> None:
    async with System() as system:
        pod = system.pod("j-0", status="Failed", ready=False, reason="Error")
        system.workload("nightly", pod, kind="Job", reason="BackoffLimitExceeded", desired=None)
        assert [one[::2] for one in await found(system)] == [("JobFailed", "info")]


async def test_a_job_that_completed_is_no_finding() -> None:
    async with System() as system:
        pod = system.pod("j-0", status="Succeeded", ready=False)
        system.workload("nightly", pod, kind="Job", desired=None)
        assert await found(system) == []
