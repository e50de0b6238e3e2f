"""The LiteLLM collector: the costs of a poll for our event loop, and our costs for a real proxy.

The loop's rows are measured with a fake proxy that serves pages of a given size, the proxy's rows
with a real LiteLLM and mocked models, which is installed once (see tests/real/litellm).
"""

import asyncio
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from bench import process
from bench.report import Row, at_most, note
from telemetron.service.outputs import BoundOutput, Mounts
from telemetron.store.store import Store
from telemetron_collectors.litellm import LitellmConfig, collector
from tests.real.litellm.proxy import MASTER_KEY, LiteLLM, litellm

DEPLOYMENTS, PAGE_BYTES, LARGE_BYTES = 100, 500_000, 5_000_000
LOOP_MS, CALLBACK_MS = 3.0, 20.0
PROXIED = 20
PROXY_PERCENT = 0.5
INTERVAL = 10.0
SAMPLE = (
    'litellm_deployment_total_requests_total{{api_base="",api_key_alias="key-{n}",'
    'api_provider="openai",client_ip="127.0.0.1",hashed_api_key="{n:064}",'
    'litellm_model_name="gpt-4o",model_group="gpt-4o",model_id="m{of}",requested_model="gpt-4o",'
    'team="None",team_alias="None",user_agent="python-httpx/0.28.1"}} {value}\n'
)


def run(quick: bool) -> Iterator[Row]:
    """Measure our side, then the proxy's."""
    note("litellm: polls of a fake proxy")
    for moving in (False, True):
        yield uvloop.run(_looks(8 if quick else 12, moving))
    yield _longest_callback(5 if quick else 10)
    yield from _at_the_proxy(15.0 if quick else 20.0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "StandIn"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        body, kind = self.server.said(path), "application/json"
        if path == "/metrics/":
            kind = "text/plain"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class StandIn(ThreadingHTTPServer):
    """A fake proxy with a number of deployments; on every second page all counters have changed."""

    daemon_threads = True

    def __init__(self, page_bytes: int, moving: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.looks = 0
        self._pages = [_page(page_bytes, value) for value in range(1, 2 + 60 * moving)]
        self._answers = {
            "/model/info": json.dumps({"data": [_row(n) for n in range(DEPLOYMENTS)]}),
            "/router/settings": json.dumps({"current_values": {"cooldown_time": 5}}),
            "/health/readiness": json.dumps({"db": "Not connected"}),
        }

    def said(self, path: str) -> bytes:
        if path == "/metrics/":
            self.looks += 1
            return self._pages[min(self.looks, len(self._pages)) - 1]
        return self._answers.get(path, '"I\'m alive!"').encode()


@contextmanager
def _standing_in(page_bytes: int, moving: bool) -> Iterator[StandIn]:
    with StandIn(page_bytes, moving) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


async def _looks(count: int, moving: bool) -> Row:
    """Measure processor time of the loop's thread, including all other requests at their pace."""
    with _standing_in(PAGE_BYTES, moving) as server:
        store = Store("bench")
        source = store.add("litellm", "litellm")
        config = LitellmConfig(url=server.url, interval_seconds=1.0)
        source.start(60)
        output = BoundOutput(store, source, collector, Mounts())
        running = asyncio.create_task(collector.run(config, output))
        await asyncio.sleep(2.5)
        looks, worked = server.looks, time.thread_time()
        await asyncio.sleep(count)
        looks, worked = server.looks - looks, time.thread_time() - worked
        running.cancel()
        await asyncio.wait([running])
        output.close()
        source.stop()
    what = "all use moved" if moving else "nothing moved"
    title = f"{DEPLOYMENTS} deployments, a page of {PAGE_BYTES // 1000} KB, {what}: loop per look"
    detail = f"{looks} looks at the metrics, with their share of all other looks"
    return at_most(title, worked / looks * 1000, LOOP_MS, "ms", detail)


def _longest_callback(seconds: float) -> Row:
    """Measure with a timer in the real server's loop; see bench/loop.py."""
    with _standing_in(LARGE_BYTES, moving=True) as server:
        options = {"url": server.url, "interval_seconds": 1.0}
        with process.telemetron({"litellm": options, "synthetic": {}}) as telemetron:
            telemetron.load(changes=0, relists=0, watch=1)
            time.sleep(2)
            telemetron.loop_times()
            looks = server.looks
            time.sleep(seconds)
            times, looks = telemetron.loop_times(), server.looks - looks
    detail = f"{looks} looks; a timer was late by {max(times.wall) * 1000:.1f} ms at most"
    title = f"a page of {LARGE_BYTES // 1_000_000} MB: longest work between two timers"
    return at_most(title, max(times.cpu) * 1000, CALLBACK_MS, "ms", detail)


def _at_the_proxy(seconds: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "key").write_text(MASTER_KEY)
        note("litellm: the real proxy starts")
        with litellm(folder, _config()) as proxy:
            for n in range(PROXIED):  # so that its page has content
                proxy.call(f"model-{n}")
            time.sleep(5)
            note(f"litellm: {seconds:g} s without us, {seconds:g} s with us")
            without = _percent(proxy, seconds)
            options = {"url": proxy.url, "key_file": str(folder / "key")}
            with process.telemetron({"litellm": options}) as telemetron:
                time.sleep(5)
                with_us = _percent(proxy, seconds)
                yield at_most(
                    f"CPU of a proxy with {PROXIED} deployments, with us less without us",
                    with_us - without,
                    PROXY_PERCENT,
                    "% of a core",
                    f"{with_us:.2f} and {without:.2f} %",
                )
                yield _visible(proxy, telemetron)


def _visible(proxy: LiteLLM, telemetron: process.Server) -> Row:
    """Call models without earlier calls, at any time between two polls."""
    times = []
    for n in range(5):
        proxy.call(f"model-{n}")
        called = time.monotonic()
        before = _spend(telemetron, n)
        while _spend(telemetron, n) == before and time.monotonic() < called + 30:
            time.sleep(0.05)
        times.append(time.monotonic() - called)
        time.sleep(1.7 * n)  # not in step with the polls
    detail = f"median {median(times):.1f} s of {len(times)} calls"
    return at_most("a call → visible, longest", max(times), INTERVAL, "s", detail)


def _spend(telemetron: process.Server, n: int) -> float:
    models = telemetron.state()["litellm"]
    return next(float(one["spend"]) for one in models if one["id"] == f"m{n}")


def _percent(proxy: LiteLLM, seconds: float) -> float:
    """Return the percentage of a core over a number of seconds."""
    before = _worked(proxy)
    time.sleep(seconds)
    return (_worked(proxy) - before) / seconds * 100


def _worked(proxy: LiteLLM) -> float:
    assert proxy.process
    stat = Path(f"/proc/{proxy.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def _config() -> dict[str, Any]:
    models = [
        {
            "model_name": f"model-{n}",
            "litellm_params": {"model": "openai/gpt-4o", "api_key": "x", "mock_response": "hi"},
            "model_info": {"id": f"m{n}"},
        }
        for n in range(PROXIED)
    ]
    return {
        "model_list": models,
        "router_settings": {
            "provider_budget_config": {"openai": {"budget_limit": 10, "time_period": "1d"}}
        },
        "litellm_settings": {"callbacks": ["prometheus"]},
        "general_settings": {"master_key": MASTER_KEY},
    }


def _row(n: int) -> Mapping[str, Any]:
    """Return model information as large as a real one: 8 KB."""
    info = {"id": f"m{n}", "mode": "chat", "max_input_tokens": 128000, "padding": "x" * 8000}
    return {
        "model_name": "gpt-4o",
        "litellm_params": {"model": "openai/gpt-4o"},
        "model_info": info,
    }


def _page(size: int, value: int) -> bytes:
    count = size // len(SAMPLE.format(n=0, of=0, value=0))
    lines = (SAMPLE.format(n=n, of=n % DEPLOYMENTS, value=value) for n in range(count))
    return "".join(lines).encode()
