"""Holds, roots, effects, rank and honesty of findings."""

from datetime import datetime
from typing import Any

import msgspec
import pytest

from telemetron.diagnosis.evidence import value_at
from telemetron.document import Finding, LastExit, Wait
from tests.telemetron.diagnosis.system import System, alarms


def crash(system: System, name: str = "writer", count: int = 2) -> str:
    """All pods of a workload crash."""
    end = LastExit(reason="OOMKilled", exit_code=137, at=system.ago(20), container="main")
    pods = [
        system.pod(
            f"{name}-{number}", ready=False, reason="CrashLoopBackOff", restarts=6, last_exit=end
        )
        for number in range(count)
    ]
    return system.workload(name, *pods)


def dead_consumer(system: System) -> None:
    """A crash loop, its queue, its agent, and a task of another agent that waits for the queue."""
    key = crash(system)
    for number in range(2):
        system.agent(
            "writer",
            instance=f"writer-{number}",
            status="silent",
            pod=f"writer-{number}",
            workload=key,
            queues=["sections"],
        )
    system.queue("sections", depth=7, consumers=0, group_state="Empty")
    wait = Wait(kind="queue", name="sections", since=system.ago(400))
    system.agent("planner", system.task("plan-7", wait, stalled=True))


async def test_a_healthy_system_has_no_findings() -> None:
    async with System() as system:
        key = system.workload("writer", system.pod("writer-0"))
        system.agent("writer", system.task("t"), pod="writer-0", workload=key, queues=["sections"])
        system.queue("sections", depth=3)
        system.model("a")
        assert await system.after(300) == []


async def test_what_one_cause_explains_is_its_effect_and_nothing_else() -> None:
    async with System() as system:
        dead_consumer(system)
        (finding,) = await system.after(60)
        assert (finding.rule, finding.severity, finding.rank) == ("WorkloadCrashing", "critical", 1)
        assert finding.root.key == "kubernetes/prod/Deployment/writer"
        assert {one.rule for one in finding.effects} == {"NoConsumers", "AgentGone", "TaskStalled"}
        assert finding.effect_count == 3
        assert finding.summary.startswith("All 2 pods of Deployment writer crash: 12 restarts")
        assert finding.since is None  # it crashed already at the first look
        times = {one.path: one.at for one in finding.evidence}
        assert times["pods/writer-0/last_exit/reason"] == system.ago(80)
        assert len(msgspec.json.encode(finding)) <= 1_500


async def test_two_incidents_are_two_findings() -> None:
    async with System() as system:
        dead_consumer(system)
        error = {"status": "unhealthy", "status_since": system.ago(30)}
        system.model("a", "gpt", **error)
        found = await system.after(60)
        assert alarms(found) == [
            ("WorkloadCrashing", "kubernetes/prod/Deployment/writer"),
            ("ModelDown", "litellm/a"),
        ]


async def test_nothing_is_told_before_its_hold_is_over_nor_after_it_is_gone() -> None:
    async with System(rules={"NoConsumers": {"hold_seconds": 30, "clear_seconds": 10}}) as system:
        system.queue("q", depth=5, consumers=0)
        assert await system.after(29) == []
        (finding,) = await system.after(2)
        assert finding.raised_at >= system.ago(1)
        system.queue("q", depth=5, consumers=1, consumed_at=system.clock.now())
        assert len(await system.after(9)) == 1
        assert await system.after(3) == []


async def test_what_comes_and_goes_within_its_clear_time_is_one_finding() -> None:
    async with System() as system:
        crash(system, count=1)
        (first,) = await system.after(20)
        for _ in range(5):
            system.workload("writer", system.pod("writer-0", restarts=1))
            await system.after(40)
            crash(system, count=1)
            await system.after(40)
        (last,) = system.findings
        assert (last.key, last.since, last.raised_at) == (first.key, first.since, first.raised_at)


async def test_every_piece_of_evidence_is_what_the_document_shows() -> None:
    async with System() as system:
        dead_consumer(system)
        await system.after(60)
        for depth in range(10, 20):
            system.queue("sections", depth=depth, consumers=0, group_state="Empty")
            await system.after(1)
            verify(system)


async def test_evidence_follows_a_field_that_the_summary_does_not_name() -> None:
    async with System() as system:
        at = system.ago(5)
        for code, seconds in ((1, 120), (137, 2)):
            end = LastExit(reason="Error", exit_code=code, at=at)
            pod = system.pod("w-0", ready=False, reason="CrashLoopBackOff", last_exit=end)
            system.workload("writer", pod)
            (finding,) = await system.after(seconds)
            assert finding.evidence[-1].value == code
            verify(system)


def verify(system: System) -> None:
    entities = {
        (section, entity.key): entity
        for section in ("agents", "litellm", "queues", "workload", "sources")
        for entity in getattr(system.state, section)
    }
    for finding in system.findings:
        for one in finding.evidence:
            entity = entities[one.section, one.key]
            assert value_at(entity, one.path) == one.value
            assert one.value is not None
            assert one.at is None or one.at in times_of(entity)


def times_of(value: Any) -> set[datetime]:
    """All times that the document shows of an entity."""
    if isinstance(value, datetime):
        return {value}
    if isinstance(value, list):
        return {at for one in value for at in times_of(one)}
    if isinstance(value, msgspec.Struct):
        return {at for name in value.__struct_fields__ for at in times_of(getattr(value, name))}
    return set()


async def test_nothing_is_concluded_from_a_source_that_sees_nothing() -> None:
    async with System() as system:
        system.queue("q", depth=5, consumers=0)
        system.sources["kafka"].fail("Crashed", "it crashed")
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.key) == ("SourceFailing", "kafka")


async def test_sources_that_might_have_shown_more_are_named() -> None:
    async with System() as system:
        system.agent("a", status="silent")
        system.sources["kubernetes"].fail("Crashed", "it crashed")
        found = await system.after(60)
        assert [one.rule for one in found] == ["SourceFailing", "AgentGone"]
        assert found[1].unchecked == ["kubernetes"]


async def test_a_source_that_comes_into_sight_is_named_no_longer() -> None:
    async with System(rules={"SourceFailing": "off"}) as system:
        system.agent("a", status="silent")
        system.sources["kubernetes"].fail("Crashed", "it crashed")
        (finding,) = await system.after(30)
        assert finding.unchecked == ["kubernetes"]
        system.sources["kubernetes"].start(1000)
        system.sources["kubernetes"].confirm()
        (finding,) = await system.after(10)
        assert finding.unchecked == []


async def test_after_a_restart_in_the_middle_the_root_and_its_times_are_the_same() -> None:
    async with System() as system:
        dead_consumer(system)
        before = await system.after(60)
        await system.after(100)
        crash(system)  # again
        await system.after(20)
        killed = system.again()
    async with killed as system:
        after = await system.after(60)
        assert [told(one) for one in after] == [told(one) for one in before]


async def seen_to_crash(system: System) -> Finding:
    """A dead consumer that Telemetron has seen work."""
    system.workload("writer", system.pod("writer-0"), system.pod("writer-1"))
    await system.after(30)
    dead_consumer(system)
    (finding,) = await system.after(60)
    return finding


async def test_a_crash_loop_that_was_seen_to_begin_began_with_its_first_crash() -> None:
    async with System() as system:
        finding = await seen_to_crash(system)
        assert finding.since == system.ago(80)
        crash(system)  # again
        (later,) = await system.after(60)
        assert later.since == finding.since
        assert later.evidence[0].at is not None
        assert later.evidence[0].at > finding.since


async def test_what_looks_back_is_seen_to_begin_only_after_a_look_as_long() -> None:
    async with System() as system:
        began = {}
        for name, quiet in (("new", 0), ("watched", 150)):
            system.queue(name)
            await system.after(quiet)
            start = system.clock.now()
            for number in range(30):
                system.queue(name, depth=10 * number)
                await system.after(3)
            for one in system.findings:
                began.setdefault(one.root.key, one.since and one.since >= start)
        assert began == {"kafka/new/g": None, "kafka/watched/g": True}


async def test_what_was_found_before_a_restart_goes_on_with_its_times() -> None:
    async with System() as system:
        before = await seen_to_crash(system)
        killed = system.again("kubernetes", [before])
    async with killed as system:
        assert await system.after(3) == []  # Kubernetes is not complete
        system.sources["kubernetes"].confirm()
        (after,) = await system.after(1)
        assert (after.key, after.since, after.raised_at) == (
            before.key,
            before.since,
            before.raised_at,
        )
        (after,) = await system.after(20)
        assert told(after) == told(before)


async def test_what_is_not_seen_again_after_a_restart_is_not_shown() -> None:
    async with System() as system:
        before = await seen_to_crash(system)
        now = system.clock.now()
    async with System(now, recalled=[before]) as system:
        system.workload("writer", system.pod("writer-0"), system.pod("writer-1"))
        assert await system.after(400) == []
        crash(system)
        (new,) = await system.after(60)
        assert new.since == system.ago(80)


async def test_without_a_memory_what_was_there_at_the_first_look_has_no_begin() -> None:
    async with System() as system:
        before = await seen_to_crash(system)
        killed = system.again()
    async with killed as system:
        (after,) = await system.after(60)
        assert (after.key, after.since) == (before.key, None)


def told(finding: Finding) -> Any:
    """What a restart must not change."""
    effects = {(one.rule, one.key, one.path, one.since) for one in finding.effects}
    return finding.key, finding.severity, finding.since, effects


async def test_nothing_is_raised_before_the_sources_concerned_are_complete() -> None:
    async with System(late="kubernetes") as system:
        system.agent("a", status="silent")
        system.queue("q", depth=5, consumers=0)
        system.model("m", status="unhealthy")
        assert alarms(await system.after(25)) == [("ModelDown", "litellm/m")]
        system.sources["kubernetes"].confirm()
        found = await system.after(2)
        assert {one.rule for one in found} == {"ModelDown", "AgentGone", "NoConsumers"}


async def test_a_source_that_never_gets_complete_holds_nothing_up_for_ever() -> None:
    async with System(late="kubernetes") as system:
        system.agent("a", status="silent")
        assert await system.after(25) == []
        found = await system.after(10)
        assert [one.rule for one in found] == ["SourceStale", "AgentGone"]
        assert found[1].unchecked == ["kubernetes"]


async def test_findings_are_bounded_and_the_worst_are_kept() -> None:
    async with System() as system:
        for number in range(250):
            system.agent(f"skewed-{number}", clock_offset_seconds=5.0)
        dead_consumer(system)
        found = await system.after(60)
        assert len(found) == 200
        assert found[0].rule == "WorkloadCrashing"
        (row,) = [one for one in system.state.sources if one.key == "findings"]
        assert [problem.message for problem in row.problems] == [
            "251 findings, the 200 worst are shown"
        ]


async def test_a_rule_that_is_off_finds_nothing() -> None:
    async with System(rules={"NoConsumers": "off"}) as system:
        system.queue("q", depth=5, consumers=0)
        assert await system.after(60) == []


async def test_a_severity_can_be_set() -> None:
    async with System(rules={"NoConsumers": {"severity": "info"}}) as system:
        system.queue("q", depth=5, consumers=0)
        assert [one.severity for one in await system.after(60)] == ["info"]


@pytest.mark.parametrize(
    ("ignored", "expected"),
    [
        ({"rule": "NoConsumers", "key": "kafka/batch-*"}, []),
        ({"rule": "*", "key": "kafka/batch-1/g"}, []),
        ({"rule": "NoConsumers", "key": "kafka/other-*"}, [("NoConsumers", "kafka/batch-1/g")]),
    ],
)
async def test_what_is_ignored_is_no_finding(ignored: Any, expected: list[Any]) -> None:
    async with System(ignore=[ignored]) as system:
        system.queue("batch-1", depth=5, consumers=0)
        assert alarms(await system.after(60)) == expected


async def test_a_finding_that_stays_is_the_same_bytes() -> None:
    async with System() as system:
        dead_consumer(system)
        await system.after(100)
        revision = system.store.snapshot.change.revision
        await system.after(60)
        assert system.store.snapshot.change.revision == revision
