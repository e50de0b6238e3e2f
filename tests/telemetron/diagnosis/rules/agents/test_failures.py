"""Rules of failures, each beside the healthy situation that looks most like it."""

import pytest

from telemetron.document import (
    Ended,
    Failure,
    Outcomes,
)
from tests.telemetron.diagnosis.system import System, rules


async def run(system: System, *, completed: int, failed: int, **fields: object) -> None:
    """A minute in which so many tasks end each 5 s."""
    error = fields.pop("error", "TimeoutError")
    for number in range(1, 13):
        outcomes = Outcomes(completed * number, failed * number)
        last = Failure(task_id=f"t{number}", error=str(error), at=system.clock.now())
        system.agent("a", outcomes=outcomes, last_failure=last if failed else None, **fields)
        await system.after(5)


async def test_tasks_that_all_fail() -> None:
    async with System() as system:
        await run(system, completed=0, failed=1)
        assert [(one.rule, one.severity) for one in system.findings] == [
            ("AgentFailing", "critical")
        ]


async def test_five_failures_in_a_row_are_critical_though_tasks_completed_before() -> None:
    async with System() as system:
        severities = []
        for failed in range(9):
            last = Failure(task_id="t", error="TimeoutError", at=system.clock.now())
            outcomes = Outcomes(completed=3 * (failed > 1), failed=failed)
            system.agent("a", outcomes=outcomes, last_failure=last)
            severities += [one.severity for one in await system.after(5)]
        assert (severities[0], severities[-1]) == ("warning", "critical")


@pytest.mark.parametrize("failed", [0, 1])
async def test_a_task_that_fails_now_and_then_is_no_finding(failed: int) -> None:
    async with System() as system:
        await run(system, completed=9, failed=failed)
        assert system.findings == []


async def test_a_model_that_nobody_serves() -> None:
    async with System() as system:
        system.model("x", "gpt")
        await run(system, completed=0, failed=1, error="NotFoundError", models=["gpt-99"])
        (finding,) = system.findings
        assert (finding.rule, finding.root.name) == ("ModelUnknown", "gpt-99")
        assert [one.rule for one in finding.effects] == ["AgentFailing"]


async def test_a_model_beside_the_proxy_that_works_is_no_finding() -> None:
    async with System() as system:
        system.model("x", "gpt")
        system.agent("a", system.task("t"), models=["my-own-model"])
        assert await rules(system) == []


async def test_a_model_that_a_pattern_serves_is_known() -> None:
    async with System() as system:
        system.model("x", "openai/*")
        await run(system, completed=9, failed=1, error="NotFoundError", models=["openai/gpt"])
        assert system.findings == []


async def test_failures_by_a_model_that_is_down_are_its_effects() -> None:
    async with System() as system:
        system.model("x", "gpt", status="unhealthy")
        await run(system, completed=0, failed=1, models=["gpt"])
        (finding,) = system.findings
        assert finding.rule == "ModelDown"
        assert [one.rule for one in finding.effects] == ["AgentFailing"]


async def ended(system: System, *, good: int, bad: int, error: str = "SSLError") -> None:
    """So far instance 0 has completed so many tasks; instance 1 has failed so many."""
    last = Failure("t", error, system.clock.now())
    done = Outcomes(completed=good)
    system.agent("a", instance="a-0", outcomes=done)
    system.agent("a", instance="a-1", outcomes=Outcomes(failed=bad), last_failure=last)
    await system.after(5)


async def test_one_instance_all_of_whose_tasks_fail() -> None:
    async with System() as system:
        for number in range(12):
            await ended(system, good=3 * number, bad=number)
        (finding,) = system.findings
        assert (finding.rule, finding.root.path) == ("AgentFailing", "instances/a-1")


async def test_one_instance_some_of_whose_tasks_fail_is_no_finding() -> None:
    async with System() as system:
        for number in range(12):
            last = Failure("t", "SSLError", system.clock.now())
            done = Outcomes(completed=2 * number, failed=number)
            system.agent("a", instance="a-0", outcomes=Outcomes(completed=3 * number))
            system.agent("a", instance="a-1", outcomes=done, last_failure=last)
            assert await system.after(5) == []


async def test_the_evidence_of_failures_lies_in_their_window() -> None:
    async with System() as system:
        old = Failure("old", "OldError", system.ago(6 * 24 * 3600))
        for number in range(1, 13):
            ends = [Ended(f"t{number}", None, "failed", "SSLError", None, system.ago(1))]
            outcomes = Outcomes(failed=number)
            system.agent("a", outcomes=outcomes, ended=ends, last_failure=old)
            await system.after(5)
        (finding,) = system.findings
        assert finding.summary.endswith("0 completed: SSLError")
        assert all(one.at and one.at > system.ago(120) for one in finding.evidence)
        assert {one.value for one in finding.evidence} >= {"SSLError"}


async def test_counts_are_the_evidence_if_no_failure_in_the_window_is_named() -> None:
    async with System() as system:
        old = Failure("old", "OldError", system.ago(6 * 24 * 3600))
        for number in range(1, 13):
            system.agent("a", outcomes=Outcomes(failed=number), last_failure=old)
            await system.after(5)
        (finding,) = system.findings
        assert finding.evidence[0].path == "instances/a-0/outcomes/failed"
        assert "OldError" not in finding.summary
