"""Time and timers, behind one class, so that tests need not wait (see `telemetron.testing`)."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol


class Timer(Protocol):
    """A handle that `call_later` returns."""

    def cancel(self) -> None: ...


class Clock:
    """The real time, and the timers of the running event loop."""

    def now(self) -> datetime:
        """Return the wall clock in UTC, in whole milliseconds: for timestamps, not durations."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def monotonic(self) -> float:
        """Return seconds that never go back; for durations and deadlines."""
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call `callback` after `delay` seconds; 0: in the next iteration of the loop."""
        loop = asyncio.get_running_loop()
        return (
            loop.call_later(delay, callback, *args)
            if delay > 0
            else loop.call_soon(callback, *args)
        )

    async def sleep(self, delay: float) -> None:
        """Wait for `delay` seconds."""
        await asyncio.sleep(delay)
