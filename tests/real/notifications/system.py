"""Telemetron as a process without HTTP: tests say how many consumers each topic has."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

START_SECONDS = 60.0

PROGRAM = """
import asyncio, json, sys
from telemetron.config.settings import load
from telemetron.document import Queue
from telemetron.notifications.pace import Pace
from telemetron.service.service import Service

PACE = Pace(**json.loads(sys.argv[2]))

async def main():
    service = Service(load(sys.argv[1], {}), pace=PACE)
    await service.start()
    source = service.store.add("kafka", "kafka")
    source.start(1e9)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        for topic, consumers in json.loads(line).items():
            queue = Queue(name=topic, consumer_group="readers", consumers=consumers, depth=3,
                          group_state="Empty" if not consumers else "Stable")
            service.store.put(source, "queues", topic, topic, queue)
        source.confirm()
        print("ready", flush=True)

asyncio.run(main())
"""


class System:
    """Telemetron as a process, and the consumers of each topic, which it is sent."""

    def __init__(
        self, folder: Path, topics: Iterable[str], pace: dict[str, Any], **receivers: Any
    ) -> None:
        """`receivers` are keys of the configuration, `pace` replaces the times of `Pace`."""
        self.consumers = dict.fromkeys(topics, 1)
        self._pace = json.dumps(pace)
        self._config = folder / "telemetron.json"
        self._log = folder / "log"
        rules = {"NoConsumers": {"hold_seconds": 0, "clear_seconds": 0}}
        whole = {
            "sources": {"heartbeats": "off"},
            "findings": {"rules": rules},
            "history": {"url": f"sqlite:///{folder}/history.db"},
            **receivers,
        }
        self._config.write_text(json.dumps(whole))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process; it goes on from its history."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                PROGRAM,
                str(self._config),
                self._pace,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self._send(self.consumers)

    async def ready(self) -> None:
        """Wait until it has seen the topics."""
        assert self._process
        assert self._process.stdout
        async with asyncio.timeout(START_SECONDS):
            await self._process.stdout.readline()

    def set(self, consumers: int, *topics: str) -> None:
        """Give topics so many consumers."""
        changed = dict.fromkeys(topics, consumers)
        self.consumers |= changed
        self._send(changed)

    def _send(self, consumers: dict[str, int]) -> None:
        if self._process and self._process.stdin:
            with suppress(ConnectionError):  # it was just killed; the next one gets everything
                self._process.stdin.write(json.dumps(consumers).encode() + b"\n")

    async def end(self, by: signal.Signals = signal.SIGKILL) -> None:
        """End the process by this signal."""
        assert self._process
        with suppress(ProcessLookupError):
            self._process.send_signal(by)
        await self._process.wait()
