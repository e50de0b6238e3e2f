"""Rules of scaling, each beside the healthy situation that looks most like it."""

from telemetron.document import Member
from tests.telemetron.diagnosis.system import System, alarms, found

WRITER = "kubernetes/prod/Deployment/writer"


async def test_none_wanted_while_work_waits() -> None:
    async with System() as system:
        key = system.workload("writer", desired=0, ready=0)
        system.agent("writer", workload=key, queues=["sections"])
        system.queue("sections", depth=4, consumers=0, consumed_at=system.ago(100))
        (finding,) = await system.after(90)
        assert (finding.rule, finding.root.key) == ("ScaledToZero", WRITER)
        assert {one.rule for one in finding.effects} >= {"NoConsumers"}


async def test_a_workload_that_wakes_from_zero_within_the_autoscalers_interval_is_no_alarm() -> (
    None
):
    async with System() as system:
        key = system.workload("writer", desired=0, ready=0)
        system.agent("writer", workload=key, queues=["sections"], status="declared")
        system.queue("sections", depth=4, consumers=0, consumed_at=system.ago(100))
        for _ in range(20):
            assert alarms(await system.after(2)) == []
        created = system.clock.now()
        for _ in range(10):
            pod = system.pod("w-0", ready=False, reason="ContainersNotReady", created_at=created)
            system.workload("writer", pod)
            assert alarms(await system.after(4)) == []
        system.workload("writer", system.pod("w-0", created_at=created))
        system.queue("sections", depth=3, consumed_at=system.clock.now())
        assert await system.after(60) == []


async def grown(system: System, most: int) -> list[str]:
    """A queue grows, whose reader's workload may have so many pods and has two."""
    key = "kubernetes/prod/Deployment/w"
    system.agent("a", system.task("t", queue="q"), workload=key, queues=["q"])
    system.workload("w", system.pod("w-0"), desired=1, max_pods=2)
    await system.after(10)
    system.workload("w", system.pod("w-0"), system.pod("w-1"), max_pods=most)
    for depth in range(5, 90, 2):
        system.queue("q", depth=depth, consumed_at=system.clock.now())
        found = await system.after(3)
    return [one.rule for one in found]


async def test_an_autoscaler_at_its_maximum_while_the_backlog_grows() -> None:
    async with System() as system:
        assert await grown(system, 2) == ["AtMaximum"]
        (finding,) = system.findings
        assert [one.rule for one in finding.effects] == ["QueueGrowing"]


async def test_an_autoscaler_that_may_add_pods_is_no_finding() -> None:
    async with System() as system:
        assert await grown(system, 5) == ["QueueGrowing"]


async def test_an_autoscaler_at_its_maximum_alone_is_no_finding() -> None:
    async with System() as system:
        system.workload("w", system.pod("w-0"), desired=1, max_pods=2)
        await system.after(10)
        system.workload("w", system.pod("w-0"), system.pod("w-1"), max_pods=2)
        assert await found(system) == []


async def test_the_members_that_a_group_had_last_were_its_pods() -> None:
    async with System() as system:
        system.workload("writer", system.pod("w-0", ip="10.0.0.1"))
        member = Member(client_id="c", host="10.0.0.1", partitions=[0], partition_count=1)
        system.queue("sections", members=[member])
        await system.after(5)
        system.workload("writer", desired=0, ready=0)
        system.queue("sections", depth=4, consumers=0, consumed_at=system.clock.now())
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.key) == ("ScaledToZero", WRITER)


async def test_a_workload_at_zero_whose_queue_is_empty_is_no_finding() -> None:
    async with System() as system:
        key = system.workload("writer", desired=0, ready=0)
        system.agent("writer", workload=key, queues=["sections"])
        system.queue("sections", depth=0, consumers=0, consumed_at=system.ago(100))
        assert await found(system) == []


async def test_a_workload_at_zero_whose_queue_another_client_reads_is_no_finding() -> None:
    async with System() as system:
        key = system.workload("writer", desired=0, ready=0)
        system.agent("writer", status="declared", workload=key, queues=["sections"])
        for _ in range(20):
            now = system.clock.now()
            system.queue("sections", depth=4, consumers=0, consumed_at=now)
            assert await system.after(5) == []
