"""Rules of records, each beside the healthy situation that looks most like it."""

from telemetron.document import Problem
from tests.telemetron.diagnosis.system import System, alarms


async def test_a_transaction_that_stays_open() -> None:
    async with System() as system:
        since = system.ago(30)
        system.queue("q", depth=0, open_transaction_since=since, open_transaction_offsets=12)
        (finding,) = await system.after(90)
        assert (finding.rule, finding.since) == ("OpenTransaction", since)


async def test_transactions_that_come_and_go_are_no_finding() -> None:
    async with System() as system:
        for _ in range(20):
            system.queue("q", open_transaction_since=system.clock.now())
            assert await system.after(10) == []


async def test_records_that_were_deleted_unread() -> None:
    async with System() as system:
        problem = Problem(reason="RecordsLost", message="30 gone", since=system.ago(5))
        system.queue("q", depth=9, problems=[problem])
        assert alarms(await system.after(20)) == [("RecordsLost", "kafka/q/g")]
