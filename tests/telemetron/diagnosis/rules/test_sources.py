"""Rules of sources."""

import pytest

from telemetron.document import Member, Wait
from tests.telemetron.diagnosis.system import System, alarms


async def blind(system: System, name: str) -> None:
    """The source confirms nothing any more."""
    source = system.sources[name]
    source.start(5)
    source.confirm()
    await system.after(2)
    source.trouble("", "Unreachable", "connection refused")


async def test_a_source_that_is_out_of_sight() -> None:
    async with System() as system:
        await blind(system, "kafka")
        (finding,) = await system.after(30)
        assert (finding.rule, finding.root.key) == ("SourceStale", "kafka")
        assert finding.summary == "Source kafka is stale: connection refused"


async def test_a_proxy_that_does_not_answer_explains_what_waits_for_its_models() -> None:
    async with System() as system:
        system.model("a", "gpt")
        wait = Wait(kind="llm", name="gpt")
        system.agent("planner", system.task("t", wait, stalled=True))
        await blind(system, "litellm")
        (finding,) = await system.after(30)
        assert (finding.rule, finding.severity) == ("ProxyFailing", "critical")
        assert [one.rule for one in finding.effects] == ["TaskStalled"]


async def test_a_proxy_that_was_down_before_telemetron_explains_older_waits() -> None:
    async with System() as system:
        source = system.store.add("gateway", "litellm")
        source.start(5)
        source.trouble("", "Timeout", "no answer within 5 s")
        wait = Wait(kind="llm", name="gpt", since=system.ago(400))
        system.agent("planner", system.task("t", wait, stalled=True))
        (finding,) = await system.after(30)
        assert finding.rule == "ProxyFailing"
        assert finding.since is None
        assert [one.rule for one in finding.effects] == ["TaskStalled"]


@pytest.mark.parametrize(("scope", "severity"), [("pods", "warning"), ("metrics", "info")])
async def test_a_source_that_may_not_look(scope: str, severity: str) -> None:
    async with System() as system:
        source = system.sources["kubernetes"]
        source.expect(["pods", "metrics"])
        for one in ("pods", "metrics"):
            reason = "Forbidden" if one == scope else None
            source.confirm(one, reason=reason, message="no permission")
        found = await system.after(60)
        assert [(one.rule, one.severity) for one in found] == [("SourceForbidden", severity)]


async def test_sources_that_start_or_are_off_are_no_finding() -> None:
    async with System() as system:
        system.store.add("later", "kafka").start(60)
        system.store.add("never", "litellm")
        assert await system.after(30) == []


async def test_trouble_of_the_observer_comes_first() -> None:
    async with System() as system:
        system.workload("w", system.pod("w-0", ready=False, reason="CrashLoopBackOff"))
        await blind(system, "kafka")
        assert [rule for rule, _ in alarms(await system.after(30))] == [
            "SourceStale",
            "WorkloadCrashing",
        ]


async def test_a_proxy_that_only_telemetron_misses_is_a_warning() -> None:
    async with System() as system:
        system.model("a", "gpt")
        system.agent("planner", system.task("t", Wait(kind="llm", name="gpt")))
        await blind(system, "litellm")
        (finding,) = await system.after(30)
        assert (finding.rule, finding.severity) == ("ProxyFailing", "warning")


async def silent_agents(system: System, *, ready: bool, beating: int) -> list[tuple[str, str]]:
    """Of five agents all but so many are silent; their pods are ready, or not."""
    reason = None if ready else "CrashLoopBackOff"
    for number in range(5):
        pod = system.pod(f"{number}-0", ready=ready, reason=reason)
        key = system.workload(f"w{number}", pod)
        status = "silent" if number >= beating else None
        system.agent(f"a{number}", status=status, pod=f"{number}-0", workload=key)
    return alarms(await system.after(60))


async def test_agents_that_all_fell_silent_while_their_pods_are_ready() -> None:
    async with System() as system:
        assert await silent_agents(system, ready=True, beating=0) == [
            ("HeartbeatsLost", "heartbeats")
        ]
        assert system.findings[0].effect_count == 5
        assert system.findings[0].severity == "warning"


async def test_agents_that_work_in_silence_are_effects_of_lost_heartbeats() -> None:
    async with System() as system:
        for second in range(40):
            for number in range(4):
                address, name = f"10.0.0.{number}", f"{number}-0"
                key = system.workload(f"w{number}", system.pod(name, ip=address))
                own = {"silent_since": system.ago(second), "queues": [f"q{number}"]}
                system.agent(f"a{number}", status="silent", pod=name, workload=key, **own)
                member = Member(client_id="c", host=address, partitions=[0], partition_count=1)
                now = system.clock.now()
                system.queue(f"q{number}", members=[member], consumed_at=now)
            found = await system.after(1)
        assert [(one.rule, one.severity) for one in found] == [("HeartbeatsLost", "warning")]
        assert {one.rule for one in found[0].effects} == {"AgentSilent"}


async def test_agents_whose_pods_crash_are_no_lost_heartbeats() -> None:
    async with System() as system:
        found = await silent_agents(system, ready=False, beating=0)
        assert {rule for rule, _ in found} == {"WorkloadCrashing"}


async def test_one_agent_that_beats_shows_that_heartbeats_arrive() -> None:
    async with System() as system:
        found = await silent_agents(system, ready=True, beating=1)
        assert found == [("AgentGone", f"prod/a{number}") for number in range(1, 5)]


async def test_two_scopes_without_permission_are_one_finding() -> None:
    async with System() as system:
        for scope in ("pods/prod", "nodes", "deployments/prod"):
            source = system.sources["kubernetes"]
            source.confirm(scope, reason="Forbidden", message=f"may not list {scope}")
        (finding,) = await system.after(60)
        assert (finding.rule, finding.severity) == ("SourceForbidden", "warning")
        assert "may not look at deployments/prod, pods/prod:" in finding.summary
        assert len(finding.evidence) == 3
