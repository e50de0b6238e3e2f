"""Rules of replicas, each beside the healthy situation that looks most like it."""

from typing import Any

import pytest

from telemetron.document import LastExit, Owner
from tests.telemetron.diagnosis.system import System, found, rules


async def test_a_paused_rollout_is_no_finding() -> None:
    async with System() as system:
        system.workload("writer", system.pod("w-1"), rollout="paused")
        assert await found(system) == []


@pytest.mark.parametrize(("kind", "expected"), [("Deployment", ["RolloutStuck"]), ("Job", [])])
async def test_a_rollout_that_is_stuck_is_none_of_a_job(kind: str, expected: list[str]) -> None:
    async with System() as system:
        system.workload("writer", system.pod("w-1"), kind=kind, rollout="stuck")
        assert [one[0] for one in await found(system)] == expected


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


def job(system: System, name: str, ago: float, *, failed: bool, owner: str | None = None) -> None:
    """A Job that has ended so many seconds ago."""
    end = LastExit(reason="Error" if failed else "Completed", at=system.ago(ago))
    pod = system.pod(name, status="Failed" if failed else "Succeeded", ready=False, last_exit=end)
    live: dict[str, Any] = {"rollout": "stuck" if failed else "complete", "desired": 0}
    if failed:
        live["reason"] = "BackoffLimitExceeded"
    system.workload(name, pod, kind="Job", owner=Owner("CronJob", owner) if owner else None, **live)


async def test_a_job_that_has_just_failed_is_a_warning() -> None:
    async with System() as system:
        job(system, "import", 60, failed=True)
        assert await rules(system) == [("JobFailed", "warning")]


async def test_a_job_that_failed_days_ago_is_information() -> None:
    async with System() as system:
        job(system, "import", 100_000, failed=True)
        assert await rules(system) == [("JobFailed", "info")]


async def test_a_failed_job_whose_cron_job_has_succeeded_since_is_no_finding() -> None:
    async with System() as system:
        job(system, "nightly-1", 9_000, failed=True, owner="nightly")
        job(system, "nightly-2", 5_000, failed=False, owner="nightly")
        assert await rules(system) == []


async def test_a_job_that_fails_again_after_a_success_is_a_warning() -> None:
    async with System() as system:
        job(system, "nightly-1", 9_000, failed=False, owner="nightly")
        job(system, "nightly-2", 5_000, failed=True, owner="nightly")
        assert await rules(system) == [("JobFailed", "warning")]
