"""Work that goes on beside the rounds: nothing that hangs keeps a round waiting for long."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any


class Jobs:
    """Named tasks, each at most once at a time; what one raises is raised by `settle`."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[None]] = {}
        self._fresh: list[asyncio.Task[None]] = []

    def start(
        self, name: Hashable, work: Callable[[], Coroutine[Any, Any, None]], *, wait: bool = True
    ) -> None:
        """Start it unless it still runs; with `wait` the next `settle` waits for it."""
        running = self._running.get(name)
        if running is not None and not running.done():
            return
        if running is not None:
            running.result()
        self._running[name] = asyncio.create_task(work())
        if wait:
            self._fresh.append(self._running[name])

    async def settle(self, patience: float) -> None:
        """Wait for those started since the last call, but no longer than `patience` seconds."""
        fresh, self._fresh = self._fresh, []
        if fresh:
            await asyncio.wait(fresh, timeout=patience)
        for name, task in list(self._running.items()):
            if task.done():
                del self._running[name]
                task.result()

    async def close(self) -> None:
        """End all of them."""
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values())
