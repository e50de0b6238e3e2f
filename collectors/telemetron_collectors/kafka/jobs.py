"""Work beside the rounds: a request that hangs delays a round only briefly."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from telemetron.clock import Clock


class Schedule:
    """When to repeat each kind of work: topics, groups, members, compaction."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}

    def is_due(self, work: str, seconds: float) -> bool:
        """Return whether it is time for some work; if so, schedule it again in `seconds`."""
        now = self._clock.monotonic()
        if now < self._due.get(work, 0.0):
            return False
        self._due[work] = now + seconds
        return True

    def is_hastened(self, work: str) -> bool:
        return not self._due.get(work, 0.0)

    def hasten(self, work: str) -> None:
        """Repeat the work in this round."""
        self._due[work] = 0.0

    def make_due(self, work: str) -> None:
        """Repeat the work in the next round, or in this one if it is hastened."""
        self._due[work] = min(self._due.get(work, 0.0), self._clock.monotonic())

    def defer(self, work: str) -> None:
        """Repeat the work in the next round, even if it was hastened."""
        self._due[work] = self._clock.monotonic()


class Jobs:
    """Named tasks, each at most once at a time; `settle` raises the exceptions of tasks."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[None]] = {}
        self._fresh: list[asyncio.Task[None]] = []

    def start(
        self, name: Hashable, work: Callable[[], Coroutine[Any, Any, None]], *, wait: bool = True
    ) -> None:
        """Start the work unless it still runs; with `wait`, the next `settle` waits for it."""
        running = self._running.get(name)
        if running is not None and not running.done():
            return
        if running is not None:
            running.result()
        self._running[name] = asyncio.create_task(work())
        if wait:
            self._fresh.append(self._running[name])

    async def settle(self, seconds: float) -> None:
        """Wait for the tasks that were started since the last call, at most so many seconds."""
        fresh, self._fresh = self._fresh, []
        if fresh:
            await asyncio.wait(fresh, timeout=seconds)
        for name, task in list(self._running.items()):
            if task.done():
                del self._running[name]
                task.result()

    async def close(self) -> None:
        """Cancel all tasks and wait for their end."""
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values())
