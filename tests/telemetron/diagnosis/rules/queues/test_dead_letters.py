"""Dead letters and delays of RabbitMQ, beside queues of work that nobody reads."""

from telemetron.document import Problem
from tests.telemetron.diagnosis.system import System

RABBIT = {"group_state": "running", "unacknowledged": 0, "consumers": 0}


def rabbit(system: System, name: str, depth: int, **fields: object) -> None:
    system.queue(name, None, depth=depth, **{**RABBIT, **fields})


async def test_a_queue_of_work_without_consumers() -> None:
    async with System() as system:
        rabbit(system, "work", 3)
        (finding,) = await system.after(60)
        assert (finding.rule, finding.severity) == ("NoConsumers", "critical")
        assert finding.summary == "3 tasks wait in queue work, and it has no consumer"


async def test_dead_letters_that_lie_there_are_information() -> None:
    async with System() as system:
        rabbit(system, "work", 0, consumers=2)
        rabbit(system, "dead", 3, dead_letters_of=["work"])
        (finding,) = await system.after(60)
        assert (finding.rule, finding.severity) == ("NoConsumers", "info")


async def test_a_delay_is_information_and_its_target_is_work() -> None:
    async with System() as system:
        rabbit(system, "later", 3, message_ttl_seconds=600.0)
        rabbit(system, "work", 3, dead_letters_of=["later"])
        found = await system.after(60)
        assert [(one.root.key, one.severity) for one in found] == [
            ("kafka/work/-", "critical"),
            ("kafka/later/-", "info"),
        ]


async def test_dead_letters_that_become_more() -> None:
    async with System() as system:
        rabbit(system, "work", 0, consumers=2)
        for depth in range(1, 90, 2):
            rabbit(system, "dead", depth, dead_letters_of=["work"])
            await system.after(3)
        found = {one.rule: one for one in system.findings}
        assert found["DeadLetters"].severity == "warning"
        assert "dead letters of work" in found["DeadLetters"].summary


async def test_consumers_of_a_broker_without_groups_that_take_nothing() -> None:
    async with System() as system:
        rabbit(system, "work", 3, consumers=2)
        (finding,) = await system.after(200)
        assert finding.rule == "QueueStuck"
        assert "acknowledged nothing" in finding.summary


async def test_nothing_follows_from_movement_that_is_not_told() -> None:
    async with System() as system:
        problem = Problem("MetricsUnavailable", "not told", system.clock.now())
        rabbit(system, "work", 3, consumers=2, problems=[problem])
        assert await system.after(200) == []
