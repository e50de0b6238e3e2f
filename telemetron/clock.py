"""Time and timers: one seam, so that tests need not wait. `telemetron.testing` has the fake."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None: ...


class Clock:
    """The running loop's own time."""

    def now(self) -> datetime:
        """The wall clock in UTC, in whole milliseconds: for timestamps, never for durations."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def monotonic(self) -> float:
        """Seconds that only rise: for durations and deadlines."""
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call `callback` after `delay` seconds; 0: as soon as the loop comes round."""
        loop = asyncio.get_running_loop()
        return (
            loop.call_later(delay, callback, *args)
            if delay > 0
            else loop.call_soon(callback, *args)
        )

    async def sleep(self, delay: float) -> None:
        """Wait for `delay` seconds."""
        await asyncio.sleep(delay)
