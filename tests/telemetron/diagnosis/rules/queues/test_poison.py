"""The rule of poison tasks, beside the healthy situation that looks most like it."""

from telemetron.document import Failure, Member, PartitionLag, PendingTask
from tests.telemetron.diagnosis.system import System


def poisoned(system: System, id: str = "bad") -> None:
    task = PendingTask(id="bad", partition=1, offset=7)
    lag = PartitionLag(partition=1, lag=4, consumed_at=system.ago(300))
    member = Member(client_id="c", host="10.0.0.1", partitions=[1], partition_count=1)
    system.queue("q", depth=4, tasks=[task], lagging=[lag], members=[member])
    failure = Failure(task_id=id, error="JSONDecodeError", at=system.ago(5))
    system.agent("reader", system.task("bad", queue="q"), queues=["q"], last_failure=failure)


async def test_a_task_that_its_consumers_fail_on() -> None:
    async with System() as system:
        poisoned(system)
        (finding,) = await system.after(60)
        assert (finding.rule, finding.root.path) == ("PoisonTask", "tasks/bad")
        assert {one.value for one in finding.evidence} >= {"JSONDecodeError", 7}


async def test_a_failure_of_another_task_poisons_nothing() -> None:
    async with System() as system:
        poisoned(system, "other")
        assert await system.after(60) == []


async def died_on(system: System, still_seconds: float, waits_seconds: float = 300) -> list[str]:
    """The consumer of a partition has died once, and it has stood still for so long."""
    key = system.workload("reader", system.pod("r-0", ip="10.0.0.1"))
    member = Member(client_id="c", host="10.0.0.1", partitions=[1], partition_count=1)
    submitted_at = system.ago(waits_seconds)
    task = PendingTask(id="bad", partition=1, offset=7, submitted_at=submitted_at)
    own = {"pod": "r-0", "workload": key, "queues": ["q"], "lives": 2, "tasks_lost": 1}
    found = []
    for _ in range(4):
        lag = PartitionLag(partition=1, lag=4, consumed_at=system.ago(still_seconds))
        system.queue("q", depth=4, tasks=[task], lagging=[lag], members=[member])
        system.agent("reader", system.task("bad", queue="q"), **own)
        found = await system.after(5)
    return [one.rule for one in found]


async def test_a_partition_that_stands_still_while_its_consumer_dies() -> None:
    async with System() as system:
        assert await died_on(system, 50) == ["PoisonTask"]


async def test_a_consumer_that_died_once_and_commits_again_is_no_finding() -> None:
    async with System() as system:
        assert await died_on(system, 20) == []


async def test_a_task_that_has_just_come_to_an_empty_partition_is_no_poison() -> None:
    async with System() as system:
        assert await died_on(system, 600, waits_seconds=5) == []
