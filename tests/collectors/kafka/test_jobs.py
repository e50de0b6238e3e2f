"""Jobs that overtake each other, and the schedule of repeated work."""

import asyncio

import pytest

from telemetron.testing import FakeClock
from telemetron_collectors.kafka.jobs import Jobs, Schedule


@pytest.fixture
def clock() -> FakeClock:
    clock = FakeClock()
    clock.advance(100)
    return clock


@pytest.fixture
def schedule(clock: FakeClock) -> Schedule:
    return Schedule(clock)


def test_work_is_due_at_once_and_then_after_its_interval(
    schedule: Schedule, clock: FakeClock
) -> None:
    assert [schedule.is_due("topics", 2) for _ in range(2)] == [True, False]
    clock.advance(1.9)
    assert not schedule.is_due("topics", 2)
    clock.advance(0.1)
    assert schedule.is_due("topics", 2)
    assert schedule.is_due("groups", 2)


def test_hastened_work_is_due_in_this_round(schedule: Schedule) -> None:
    schedule.is_due("topics", 2)
    assert not schedule.is_hastened("topics")
    schedule.hasten("topics")
    schedule.make_due("topics")
    assert schedule.is_hastened("topics")


def test_deferred_work_is_due_in_the_next_round(schedule: Schedule) -> None:
    schedule.is_due("topics", 2)
    schedule.hasten("topics")
    schedule.defer("topics")
    assert not schedule.is_hastened("topics")
    assert schedule.is_due("topics", 2)
    schedule.make_due("topics")
    assert not schedule.is_hastened("topics")
    assert schedule.is_due("topics", 2)


async def test_a_job_runs_once_at_a_time_and_delays_a_round_only_briefly() -> None:
    jobs, gate, runs = Jobs(), asyncio.Event(), []

    async def work() -> None:
        runs.append(1)
        await gate.wait()

    for _ in range(2):
        jobs.start("a", work)
        await jobs.settle(0.01)
    assert runs == [1]
    gate.set()
    await asyncio.sleep(0.01)
    jobs.start("a", work)
    await jobs.settle(1)
    assert runs == [1, 1]
    await jobs.close()


async def test_settle_raises_the_exception_of_a_job() -> None:
    async def work() -> None:
        raise ValueError("broken")

    jobs = Jobs()
    jobs.start("a", work)
    with pytest.raises(ValueError, match="broken"):
        await jobs.settle(1)
    await jobs.close()


async def test_close_cancels_all_jobs() -> None:
    jobs, cancelled = Jobs(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    jobs.start("a", work, wait=False)
    await asyncio.sleep(0)
    await jobs.close()
    assert cancelled.is_set()
