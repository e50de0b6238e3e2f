"""A scripted proxy: a real HTTP server that says what the test wants, faults included."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from telemetron.testing import FakeClock, RecordingOutput
from telemetron_collectors.litellm import LitellmConfig, run
from telemetron_collectors.litellm.proxy import LIMITS, ProxyLimits

KEY = "sk-good"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
FAMILIES = {
    "litellm_deployment_total_requests": "counter",
    "litellm_deployment_success_responses": "counter",
    "litellm_deployment_failure_responses": "counter",
    "litellm_deployment_cooled_down": "counter",
    "litellm_deployment_state": "gauge",
    "litellm_total_tokens_metric": "counter",
    "litellm_spend_metric": "counter",
    "litellm_llm_api_latency_metric": "histogram",
    "litellm_cache_hits_metric": "counter",
    "litellm_cached_tokens_metric": "counter",
}
"""The metrics that the collector reads, as the proxy names them if nobody configured which."""


class Reply(NamedTuple):
    """One HTTP answer, or something that is none."""

    status: int = 200
    body: bytes = b""
    kind: str = "application/json"
    headers: tuple[str, ...] = ()
    cut: int = 0
    """Bytes that are promised and not sent."""
    raw: bytes | None = None
    frozen: bool = False


NO_DATABASE = Reply(400, b'{"error":{"message":"No connected db.","type":"no_db_connection"}}')
PLAIN_500 = Reply(500, b"Internal Server Error", "text/plain; charset=utf-8")
HTML = Reply(200, b"<html>welcome</html>", "text/html; charset=utf-8")


def model(id: str, name: str = "gpt-4o", upstream: str = "openai/gpt-4o", **info: Any) -> Any:
    """A row of /model/info."""
    params = {"model": upstream, **info.pop("params", {})}
    return {"model_name": name, "litellm_params": params, "model_info": {"id": id, **info}}


class ScriptedProxy:
    """What it would say is in its attributes; `replies` by path come first."""

    def __init__(self) -> None:
        self.url = ""
        self.key: str | None = KEY
        self.models = [model("a"), model("b", "claude", "anthropic/claude")]
        self.samples: dict[tuple[str, str], float] = {}
        self.families = dict(FAMILIES)
        self.cache: dict[str, Any] = {"cache": None}
        self.process: float | None = 1000.0
        self.date = 2000.0
        self.date_header: str | None = None
        self.settings: dict[str, Any] = {"cooldown_time": 45, "provider_budget_config": None}
        self.budgets: dict[str, Any] = {}
        self.database: dict[str, Any] | None = None
        self.one: dict[str, Reply] = {}
        """What it says of one deployment, by id."""
        self.replies: dict[str, Reply] = {}
        self.everything: Reply | None = None
        self.next: list[Reply] = []
        """What comes before all else, once each."""
        self.calls: list[str] = []
        self.queries: list[dict[str, list[str]]] = []
        self.authorizations: list[str] = []
        self.garbage = False
        """What it says is not even HTTP."""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    def count(self, name: str, value: float = 1.0, **labels: Any) -> None:
        """Add to a counter."""
        text = ",".join(f'{label}="{said}"' for label, said in labels.items())
        self.samples[name, text] = self.samples.get((name, text), 0.0) + value

    def succeed(self, id: str, calls: int = 1, tokens: int = 0, **labels: Any) -> None:
        """Calls that succeeded."""
        labels = {"model_group": "any", **labels}
        self.count("litellm_deployment_total_requests_total", calls, model_id=id, **labels)
        self.count("litellm_deployment_success_responses_total", calls, model_id=id, **labels)
        self.count("litellm_total_tokens_metric_total", tokens, model_id=id, **labels)

    def fail(self, id: str, calls: int = 1, cls: str = "Openai.RateLimitError", status: Any = 429):
        """Calls that failed."""
        group = {"model_group": "any"}
        error = {"exception_class": cls, "exception_status": status, **group}
        self.count("litellm_deployment_total_requests_total", calls, model_id=id, **group)
        self.count("litellm_deployment_failure_responses_total", calls, model_id=id, **error)

    def cool(self, id: str, status: Any = 429, times: int = 1) -> None:
        """It was taken out of the rotation."""
        self.count(
            "litellm_deployment_cooled_down_total", times, model_id=id, exception_status=status
        )

    def restart(self, process: float) -> None:
        """All counters begin anew."""
        self.samples, self.process = {}, process

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Nobody listens any more."""
        if self._server:
            self._server.close()
            for writer in list(self._connections):
                writer.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        if self.garbage:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not self.garbage:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if not await self._answer(head, writer):
                    break
        self._connections.discard(writer)
        writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> bool:
        """False: the connection is closed after it."""
        target = urlsplit(head.split()[1])
        fields = dict(_field(line) for line in head.split("\r\n")[1:-2])
        self.calls.append(target.path)
        self.queries.append(parse_qs(target.query))
        self.authorizations.append(fields.get("authorization", ""))
        reply = self._reply(target.path, fields.get("authorization", ""))
        if reply.frozen:
            await asyncio.Event().wait()
        writer.write(reply.raw if reply.raw is not None else self._bytes(reply))
        await writer.drain()
        return reply.raw is None and not reply.cut

    def _bytes(self, reply: Reply) -> bytes:
        lines = (
            f"HTTP/1.1 {reply.status} x",
            self.date_header or f"date: {formatdate(self.date, usegmt=True)}",
            f"content-type: {reply.kind}",
            f"content-length: {len(reply.body) + reply.cut}",
            *reply.headers,
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body

    def _reply(self, path: str, authorization: str) -> Reply:
        if self.next:
            return self.next.pop(0)
        if self.everything:
            return self.everything
        if path in self.replies:
            return self.replies[path]
        if path == "/health/liveliness":
            return Reply(body=b'"I\'m alive!"')
        if path in ("/health/readiness", "/health/readiness/details"):
            more = self.cache if path.endswith("details") else {}
            db = "Not connected" if self.database is None else "connected"
            return _json({"db": db, **more})
        if self.key and authorization != f"Bearer {self.key}":
            return Reply(401, b"{}")
        if path == "/model/info" and "litellm_model_id" in self.queries[-1]:
            return self.one.get(self.queries[-1]["litellm_model_id"][0], Reply(404, b"{}"))
        if path == "/metrics/":
            return Reply(200, self._page(self.queries[-1].get("name[]")), METRICS)
        said: dict[str, Any] = {
            "/v1/models": {"data": []},
            "/model/info": {"data": self.models},
            "/router/settings": {"current_values": self.settings},
            "/provider/budgets": {"providers": self.budgets},
            **(self.database or {}),
        }
        return _json(said[path]) if path in said else Reply(404, b"{}")

    def _page(self, wanted: list[str] | None) -> bytes:
        """As prometheus_client writes it, which names a metric without samples if asked for all.

        Workers that share a page (no `process`) answer nothing to whoever names metrics, and name
        no metric without samples.
        """
        lines = []
        for family, kind in self.families.items():
            samples = {
                key: value for key, value in self.samples.items() if key[0].startswith(family)
            }
            kept = [
                f"{name}{{{labels}}} {value}"
                for (name, labels), value in samples.items()
                if wanted is None or (name in wanted and self.process is not None)
            ]
            if kept or (wanted is None and self.process is not None):
                suffix = "_total" if kind == "counter" else ""
                lines += [f"# HELP {family}{suffix} help", f"# TYPE {family}{suffix} {kind}", *kept]
        if self.process is not None:
            lines += ["# TYPE process_start_time_seconds gauge"]
            lines += [f"process_start_time_seconds {self.process}"]
        return "".join(f"{line}\n" for line in lines).encode()


def _json(said: Any) -> Reply:
    return Reply(body=json.dumps(said).encode())


class Clock(FakeClock):
    """A fake clock that knows the sleepers."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps = 0
        self._news = asyncio.Event()
        self._dues: list[float] = []

    async def sleep(self, delay: float) -> None:
        due = self.monotonic() + delay
        self._dues.append(due)
        self.sleeps += 1
        self._news.set()
        try:
            await super().sleep(delay)
        finally:
            self._dues.remove(due)

    def is_due(self, seconds: float) -> bool:
        """Return whether a sleeper wakes up within so many seconds."""
        return any(due <= self.monotonic() + seconds for due in self._dues)

    async def slept(self, times: int) -> None:
        while self.sleeps < times:
            self._news.clear()
            await self._news.wait()


class Bench:
    """The collector before a scripted proxy, with a clock that the test moves."""

    def __init__(self, proxy: ScriptedProxy) -> None:
        self.proxy = proxy
        self.clock = Clock()
        self.output = RecordingOutput(self.clock)
        self.running: asyncio.Task[None] | None = None

    async def start(self, limits: ProxyLimits = LIMITS, **config: Any) -> None:
        """Start the collector and wait for the first round of polls."""
        config = {"url": self.proxy.url, "key_file": None, "interval_seconds": 10, **config}
        self.running = asyncio.create_task(run(LitellmConfig(**config), self.output, limits))
        await self.clock.slept(1)

    async def after(self, seconds: float = 10.0) -> None:
        """Advance the clock and wait for the polls that are due; fail if none is."""
        times = self.clock.sleeps
        self.proxy.date += seconds
        self.clock.advance(seconds)
        await asyncio.wait_for(self.clock.slept(times + 1), 30)

    async def second(self, seconds: float = 1.0) -> None:
        """Advance the clock and wait for polls if any is due."""
        if self.clock.is_due(seconds):
            await self.after(seconds)
        else:
            self.proxy.date += seconds
            self.clock.advance(seconds)

    async def polls(self, times: int) -> None:
        for _ in range(times):
            await self.after()

    def part(self, id: str) -> Any:
        return self.output.parts["litellm", id]

    def state(self) -> dict[str, Any]:
        """Return the last state of each scope: None, or (reason, message)."""
        said: dict[str, Any] = {}
        for call in self.output.calls:
            if call[0] == "confirm":
                said[call[1]] = call[2:] if call[2] else None
            elif call[0] == "trouble":
                said[call[1]] = call[2:]
        return said

    def asked(self) -> Counter[str]:
        """Return the requested paths since the last call."""
        calls, self.proxy.calls = self.proxy.calls, []
        return Counter(calls)


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name.lower(), value


def trouble(bench: Bench) -> list[tuple[str, str]]:
    """Scopes and reasons of the troubles so far."""
    return [call[1:3] for call in bench.output.calls if call[0] == "trouble"]


def lines(logged: list[str]) -> list[str]:
    """Return what the collector logged."""
    return [line for line in logged if " telemetron_collectors." in line]


async def recovers(bench: Bench, within: float = 30.0) -> None:
    """Everything is confirmed again, within so many seconds of the collector's clock."""
    end = bench.clock.monotonic() + within
    while set(bench.state().values()) != {None} and bench.clock.monotonic() < end:
        await bench.second()
    assert set(bench.state().values()) == {None}, bench.state()


def at(seconds: float) -> datetime:
    """Return the time of the bench's clock so many seconds after its start."""
    return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
