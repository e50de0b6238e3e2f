"""The clock, the loop's own."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from telemetron.clock import Clock


def test_now_is_utc_in_whole_milliseconds() -> None:
    now = Clock().now()
    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


def test_monotonic_is_the_loops_own_time() -> None:
    assert abs(Clock().monotonic() - time.monotonic()) < 5


async def test_timers_are_called_in_their_order() -> None:
    clock, called, done = Clock(), list[str](), asyncio.Event()
    clock.call_later(0.02, done.set)
    clock.call_later(0.01, called.append, "later")
    clock.call_later(0, called.append, "soon")
    clock.call_later(0.005, called.append, "never").cancel()
    clock.call_later(0, called.append, "not at all").cancel()
    await asyncio.wait_for(done.wait(), 30)
    assert called == ["soon", "later"]


async def test_no_delay_is_the_next_iteration_of_the_loop() -> None:
    called: list[int] = []
    Clock().call_later(0, called.append, 1)
    assert called == []
    await asyncio.sleep(0)
    assert called == [1]


async def test_sleep() -> None:
    clock = Clock()
    start = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - start >= 0.009
