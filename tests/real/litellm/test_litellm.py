"""A real proxy, real calls through it, and what `/system/state` says of them.

The tests go in this order, so that the minute that rates need passes while others look on.
"""

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from telemetron.secret import Secret
from tests.collectors.litellm.scripted import Bench
from tests.real.litellm.conftest import COOLDOWN, INTERVAL, System
from tests.real.litellm.proxy import MASTER_KEY
from tests.real.litellm.upstream import COMPLETION_TOKENS, PROMPT_TOKENS, Mood

TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS
PRICE = PROMPT_TOKENS * 0.001 + COMPLETION_TOKENS * 0.002
VISIBLE = INTERVAL + 14.0
"""Seconds until a call shows: a look, and what a loaded machine takes."""


@asynccontextmanager
async def collecting(url: str, **config: Any) -> AsyncIterator[Bench]:
    """A collector of its own in this process, with a clock that the test moves."""
    bench = Bench(SimpleNamespace(url=url, date=0.0))
    try:
        await bench.start(**config)
        yield bench
    finally:
        assert bench.running
        bench.running.cancel()
        await asyncio.wait([bench.running])


def counter(system: System, name: str, model_id: str) -> float:
    """The proxy's own word."""
    page = system.litellm.get(f"/metrics/?name[]={name}").decode()
    rows = [line for line in page.splitlines() if line.startswith(f"{name}{{")]
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows if f'model_id="{model_id}"' in row)


def since(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_the_deployments_as_configured(system: System) -> None:
    state = system.state()
    ids = {one["id"] for one in state["litellm"]}
    assert ids == {"counted-1", "paid-1", "slow-1", "limited-1", "broken-1", "dead-1"}
    one = system.model("paid-1")
    assert (one["model"], one["upstream_model"], one["provider"]) == ("paid", "gpt-4o", "openai")
    assert (one["rpm_max"], one["tpm_max"], one["payment_type"]) == (1000, 100000, "postpaid")
    assert (one["input_cost_per_token"], one["output_cost_per_token"]) == (0.001, 0.002)
    assert one["input_context"] == 128000
    assert one["status"] == "unknown"
    assert one["rpm"] is None
    assert system.source()["problems"] == []


def test_a_success_makes_healthy_and_spend_is_the_proxys_own(system: System) -> None:
    for _ in range(3):
        assert system.litellm.call("paid") == 200
    system.until(lambda: system.model("paid-1")["status"] == "healthy", VISIBLE, "a healthy model")
    name = "litellm_spend_metric_total"
    system.until(
        lambda: counter(system, name, "paid-1") == pytest.approx(3 * PRICE), 60, "the spend"
    )
    own = counter(system, name, "paid-1")
    system.until(lambda: system.model("paid-1")["spend"] == pytest.approx(own), 30, "as much here")


def test_what_is_left_of_the_providers_budget(system: System) -> None:
    def agrees() -> bool:
        said = json.loads(system.litellm.get("/provider/budgets"))["providers"]["openai"]
        left = said["budget_limit"] - said["spend"]
        return said["spend"] > 0 and system.model("paid-1")["credits"] == pytest.approx(left)

    system.until(agrees, 60, "the same budget here and there")
    assert system.model("dead-1")["credits"] is None


def test_a_cooldown_is_counted_shown_and_over_in_time(system: System) -> None:
    asked = time.time()
    assert system.litellm.call("limited") == 429
    told = time.time()
    system.until(
        lambda: system.model("limited-1")["cooldowns"]["count"] == 1, VISIBLE + 5, "a cooldown"
    )
    one = system.model("limited-1")
    assert one["cooldowns"]["status_code"] == 429
    assert one["last_error"]["status_code"] == 429
    assert "RateLimitError" in one["last_error"]["class"]
    assert one["status"] == "cooling_down"
    assert asked + COOLDOWN <= since(one["cooldown_until"]) <= told + COOLDOWN + VISIBLE
    system.until(
        lambda: system.model("limited-1")["status"] == "unhealthy", COOLDOWN + 2, "its end"
    )
    assert system.model("limited-1")["cooldown_until"] is None
    system.upstream.moods["limited"] = Mood()
    system.until(lambda: system.litellm.call("limited") == 200, COOLDOWN + 10, "a call that works")
    system.until(
        lambda: system.model("limited-1")["status"] == "healthy", VISIBLE + 5, "its recovery"
    )
    assert system.model("limited-1")["last_error"]["status_code"] == 429


def test_a_dead_provider_and_one_that_fails_are_unhealthy(system: System) -> None:
    system.litellm.call("dead")
    assert system.litellm.call("broken") == 500
    for id in ("dead-1", "broken-1"):
        system.until(
            lambda id=id: system.model(id)["status"] == "unhealthy", COOLDOWN + VISIBLE + 5, id
        )
        assert system.model(id)["last_error"]["status_code"] == 500
        assert system.model(id)["last_error"]["class"]
    text = json.dumps(system.state())
    assert not re.search(r"Traceback|site-packages|as it was told", text)


@pytest.mark.parametrize("key", ["sk-wrong", None])
async def test_a_key_that_is_wrong_or_missing(
    system: System, tmp_path: Path, key: str | None
) -> None:
    """Without a database they are a 400 and a 500."""
    file = str(tmp_path / "key")
    if key:
        Path(file).write_text(key)  # noqa: ASYNC240
    async with collecting(system.litellm.url, key_file=file if key else None) as bench:
        assert bench.state()[""][0] == "Unauthorized"
        if key:
            Path(file).write_text(MASTER_KEY)  # noqa: ASYNC240
            await bench.after(1)
            assert bench.state() == dict.fromkeys(("", "models", "metrics", "budgets"))
            assert bench.part("paid-1").rpm_max == 1000


async def test_health_checks_that_are_asked_for(system: System) -> None:
    """The one proxy that is asked has a model that works, and one of a dead provider."""
    async with collecting(
        system.litellm.url, key=Secret(MASTER_KEY), health_check_seconds=60
    ) as bench:
        await bench.clock.slept(2)
        bench.clock.advance(10)
        await asyncio.wait_for(bench.clock.slept(4), 60)
        assert bench.part("paid-1").status == "healthy"
        assert bench.part("dead-1").status == "unhealthy"
        assert bench.part("dead-1").last_error.status_code == 500


async def test_a_proxy_without_metrics_and_budgets(system: System) -> None:
    await asyncio.to_thread(system.plain.wait)
    async with collecting(system.plain.url, key=Secret(MASTER_KEY)) as bench:
        reason, message = bench.state()["metrics"]
        assert (reason, 'callbacks: ["prometheus"]' in message) == ("MetricsUnavailable", True)
        assert bench.state().keys() == {"", "models", "metrics"}
        one = bench.part("plain-1")
        assert (one.model, one.upstream_model, one.input_context) == ("m", "gpt-4o", 128000)
        assert (one.rpm, one.spend, one.credits, one.status) == (None, None, None, "unknown")


def test_rates_are_exact_for_calls_between_two_looks(system: System) -> None:
    """Once a minute of looks is there."""
    left = 62 - (time.monotonic() - system.started)
    system.until(
        lambda: system.model("counted-1")["rpm"] == 0, max(left, 0) + 10, "a minute of looks"
    )
    system.upstream.calls.clear()  # health checks came by, which are nobody's use
    system.upstream.moods["counted"] = Mood(500)
    assert system.litellm.call("counted") == 500
    refused = [system.litellm.call("counted") for _ in range(4)]
    assert set(refused) == {429}
    system.upstream.moods["counted"] = Mood()
    system.until(lambda: system.litellm.call("counted") == 200, COOLDOWN + 10, "its cooldown's end")
    for _ in range(6):
        assert system.litellm.call("counted") == 200
    for _ in range(2):
        assert system.litellm.call("slow") == 200

    def sent() -> int:
        return system.upstream.calls.count("counted")

    system.until(lambda: system.model("counted-1")["rpm"] == sent(), VISIBLE + 5, "all calls")
    one = system.model("counted-1")
    assert (one["rpm"], one["tpm"], one["failed_rpm"]) == (8, 7 * TOKENS, 1)
    refusals = counter(system, "litellm_deployment_failure_responses_total", "")
    assert refusals >= one["refused_rpm"] >= len(refused)
    assert one["status"] == "healthy"
    system.until(
        lambda: (system.model("slow-1")["latency_seconds"] or 0) >= 0.5, VISIBLE, "its latency"
    )
    assert system.model("slow-1")["latency_seconds"] < 2
    assert system.model("paid-1")["rpm"] == 0


def test_a_frozen_proxy(system: System) -> None:
    def known() -> dict[str, Any]:
        return {one["id"]: (one["status"], one["spend"]) for one in system.state()["litellm"]}

    before = known()
    system.litellm.send(signal.SIGSTOP)
    system.until(
        lambda: "Timeout" in {one["reason"] for one in system.source()["problems"]}, 60, "a trouble"
    )
    assert known() == before
    system.litellm.send(signal.SIGCONT)
    system.until(lambda: system.source()["problems"] == [], 60, "its recovery")


def test_a_proxy_that_is_killed_and_started_again(system: System) -> None:
    before = system.model("paid-1")
    system.litellm.kill()
    system.until(
        lambda: "Unreachable" in {one["reason"] for one in system.source()["problems"]},
        30,
        "a trouble",
    )
    assert system.model("paid-1")["spend"] == before["spend"] == pytest.approx(3 * PRICE)
    system.litellm.start()
    system.litellm.wait()
    system.until(lambda: system.source()["problems"] == [], 60, "its recovery")
    assert system.litellm.call("paid") == 200
    system.until(
        lambda: system.model("paid-1")["spend"] == pytest.approx(PRICE), 60, "its own new count"
    )
    rpm = system.model("paid-1")["rpm"]
    assert rpm is None or rpm >= 0
    assert system.source()["status"] == "ok"
