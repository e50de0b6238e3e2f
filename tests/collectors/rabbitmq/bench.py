"""The collector before a server: started with a configuration, and what it shows."""

import asyncio
from collections.abc import Callable
from typing import Any

from telemetron.document import Queue
from telemetron.secret import Secret
from telemetron.testing import RecordingOutput
from telemetron_collectors.rabbitmq import RabbitmqConfig, run
from telemetron_collectors.rabbitmq.limits import LIMITS, RabbitmqLimits


class Bench:
    """Runs the collector, and reads its output."""

    def __init__(self, url: str, output: RecordingOutput, username: str, password: str) -> None:
        self.url = url
        self.output = output
        self._user = {"username": username, "password": Secret(password)}
        self._running: asyncio.Task[None] | None = None

    def start(self, limits: RabbitmqLimits = LIMITS, **keys: Any) -> None:
        """Run with these keys of the configuration."""
        config = RabbitmqConfig(**{"url": self.url, **self._user, **keys})
        self._running = asyncio.create_task(run(config, self.output, limits))

    async def stop(self) -> None:
        if self._running:
            self._running.cancel()
            await asyncio.wait([self._running])
            if not self._running.cancelled():
                self._running.result()

    @property
    def queues(self) -> dict[str, Queue]:
        """What it shows, by name."""
        return {part.name: part for part in self.output.parts.values()}

    def problems(self) -> dict[str, str]:
        """The reason of each scope whose last call told one."""
        last = {}
        for method, *said in self.output.calls:
            if method in ("confirm", "trouble"):
                last[said[0]] = said[1]
            elif method == "replace":
                last[said[1]] = None
        return {scope: reason for scope, reason in last.items() if reason}

    async def until(self, is_true: Callable[["Bench"], object]) -> None:
        """Wait until something is true of what it shows."""
        async with asyncio.timeout(60):
            await self.output.until(lambda: is_true(self))
