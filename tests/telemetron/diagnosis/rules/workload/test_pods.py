"""Rules of pods, each beside the healthy situation that looks most like it."""

import pytest

from telemetron.document import (
    LastExit,
)
from tests.telemetron.diagnosis.system import System, alarms, found


def ended(system: System, seconds: float, reason: str = "Error") -> LastExit:
    return LastExit(reason=reason, exit_code=1, at=system.ago(seconds), container="main")


async def test_a_crash_loop_of_one_pod_is_that_pods() -> None:
    async with System() as system:
        bad = system.pod("w-0", ready=False, reason="CrashLoopBackOff", restarts=9)
        system.workload("writer", bad, system.pod("w-1"))
        assert await found(system) == [("WorkloadCrashing", "pods/w-0", "warning")]


async def test_a_pod_that_runs_between_two_crashes_is_still_in_its_loop() -> None:
    async with System() as system:
        system.workload("writer", system.pod("w-0", restarts=9, last_exit=ended(system, 30)))
        assert await found(system) == [("WorkloadCrashing", None, "warning")]


@pytest.mark.parametrize(("restarts", "said"), [(None, "crashes"), (9, "crashes: 9 restarts")])
async def test_unknown_restarts_are_not_said_to_be_none(restarts: int | None, said: str) -> None:
    async with System() as system:
        bad = system.pod("w-0", ready=False, reason="CrashLoopBackOff", restarts=restarts)
        system.workload("writer", bad)
        (finding,) = await system.after(90)
        assert finding.summary == f"Pod w-0 of Deployment writer {said}"


@pytest.mark.parametrize(
    ("restarts", "seconds", "reason"),
    [(4, 86_400, "Error"), (1, 30, "OOMKilled"), (9, 30, "Completed")],
)
async def test_old_scars_and_one_crash_are_no_loop(
    restarts: int, seconds: float, reason: str
) -> None:
    async with System() as system:
        end = ended(system, seconds, reason)
        system.workload("writer", system.pod("w-0", restarts=restarts, last_exit=end))
        assert await found(system) == []


@pytest.mark.parametrize(
    ("reason", "rule"),
    [
        ("ImagePullBackOff", "ImagePull"),
        ("ErrImagePull", "ImagePull"),
        ("InvalidImageName", "ImagePull"),
        ("CreateContainerConfigError", "ContainerConfig"),
        ("Unschedulable", "Unschedulable"),
    ],
)
async def test_pods_that_cannot_start(reason: str, rule: str) -> None:
    async with System() as system:
        bad = system.pod("w-0", status="Pending", ready=False, reason=reason, message="why")
        system.workload("writer", bad, system.pod("w-1"))
        (finding,) = await system.after(90)
        assert (finding.rule, finding.severity) == (rule, "warning")
        assert finding.summary.endswith(": why")


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing", None])
async def test_a_pod_that_starts_is_no_finding(reason: str | None) -> None:
    async with System() as system:
        new = system.pod("w-0", status="Pending", ready=False, reason=reason)
        system.workload("writer", new, system.pod("w-1"), rollout="progressing")
        assert await found(system) == []


async def test_a_rolling_update_is_no_finding() -> None:
    async with System() as system:
        for number in range(10):
            old = system.pod(f"old-{number}", ready=False, reason="Terminating")
            new = system.pod(
                f"new-{number}", status="Pending", ready=False, reason="ContainerCreating"
            )
            system.workload("writer", old, new, system.pod("w-1"), rollout="progressing")
            assert await found(system, 8) == []


async def test_an_image_that_holds_up_the_rollout_is_the_root() -> None:
    async with System() as system:
        bad = system.pod("w-0", status="Pending", ready=False, reason="ImagePullBackOff")
        live = {"rollout": "stuck", "reason": "ProgressDeadlineExceeded"}
        system.workload("writer", bad, system.pod("w-1"), rolled_out_at=system.ago(900), **live)
        (finding,) = await system.after(60)
        assert finding.rule == "ImagePull"
        assert [one.rule for one in finding.effects] == ["RolloutStuck"]


async def test_a_container_that_ended_beside_a_sidecar() -> None:
    async with System() as system:
        end = ended(system, 30, "OOMKilled")
        gone = system.pod("w-0", ready=False, reason="OOMKilled", container="main", last_exit=end)
        key = system.workload("writer", gone, system.pod("w-1"))
        system.agent("writer", instance="w-0", status="silent", pod="w-0", workload=key)
        system.agent("writer", instance="w-1", pod="w-1", workload=key)
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.path) == ("ContainerGone", "pods/w-0")
        assert [one.rule for one in finding.effects] == ["AgentSilent"]


async def test_two_workloads_that_crash_are_two_findings() -> None:
    async with System() as system:
        for name in ("a", "b"):
            system.workload(name, system.pod(f"{name}-0", ready=False, reason="CrashLoopBackOff"))
        assert alarms(await system.after(60)) == [
            ("WorkloadCrashing", f"kubernetes/prod/Deployment/{name}") for name in ("a", "b")
        ]


async def test_a_crash_loop_that_returns_after_its_clear_time_is_a_new_finding() -> None:
    async with System() as system:
        raised = []
        for _ in range(2):
            system.workload("w", system.pod("w-0", ready=False, reason="CrashLoopBackOff"))
            raised += [one.raised_at for one in await system.after(10)]
            system.workload("w", system.pod("w-0"))
            assert len(await system.after(110)) == 1
            assert await system.after(20) == []
        first, second = raised
        assert second > first


async def test_a_pod_that_is_held_back_on_purpose_is_no_finding() -> None:
    async with System() as system:
        gated = system.pod("w-0", status="Pending", ready=False, reason="SchedulingGated")
        system.workload("w", gated, system.pod("w-1"))
        assert await found(system) == []
