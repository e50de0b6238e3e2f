"""Telemetron in a process of its own, asked over HTTP only."""

import asyncio
import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp

from tests.ports import free_port
from tests.real.process import running

START_SECONDS = 30.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 10.0
Object = dict[str, Any]


class Service:
    """`telemetron serve`, which may be ended and started again on the same configuration."""

    def __init__(
        self,
        folder: Path,
        sources: Object,
        webhook: Object,
        port: int | None = None,
        has_history: bool = False,
    ) -> None:
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "telemetron.log"
        self._config = folder / "telemetron.json"
        whole: Object = {"id": "atlas", "server": {"port": port}, "sources": sources}
        whole["webhooks"] = [webhook]
        if has_history:
            whole["history"] = {"url": f"sqlite:///{folder / 'history.db'}"}
        self._config.write_text(json.dumps(whole))
        self._exit = ExitStack()
        self._client: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "telemetron", "serve", f"--config={self._config}"]
        self._process = self._exit.enter_context(running(command, log=self._log))
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        self._client = self._client or aiohttp.ClientSession(self.url, timeout=timeout)
        async with asyncio.timeout(START_SECONDS):
            while await self.send("GET", "/livez") != 200:
                assert self._process.poll() is None, self._log.read_text()[-2000:]
                await asyncio.sleep(0.1)

    async def end(self, by: signal.Signals) -> None:
        """End the process by this signal."""
        self._process.send_signal(by)
        await asyncio.to_thread(self._process.wait, STOP_SECONDS)

    async def stop(self) -> None:
        """End the process and the connections to it."""
        if self._client:
            await self._client.close()
        await asyncio.to_thread(self._exit.close)

    async def send(self, method: str, path: str, body: Any = None) -> int | None:
        """Send one request; return the status, or None if there is no answer."""
        assert self._client
        try:
            async with self._client.request(method, path, json=body) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def get(self, path: str) -> bytes:
        """Return the body of an answer; raise ClientError if it is none."""
        assert self._client
        async with self._client.get(path, raise_for_status=True) as answer:
            return await answer.read()

    async def state(self, query: str = "") -> Object:
        """Return the document."""
        state: Object = json.loads(await self.get(f"/system/state{query}"))
        return state
