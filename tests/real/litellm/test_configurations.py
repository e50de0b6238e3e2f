"""Real proxies in other configurations, before a collector whose clock the tests move.

`rich` has a cache, budgets, aliases and wildcards, `workers` two workers, `chosen` some metrics.
"""

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from telemetron.secret import Secret
from telemetron_collectors.litellm.fault import is_callers
from telemetron_collectors.litellm.metrics import FAILURES, Series
from tests.collectors.litellm.scripted import Bench
from tests.real.litellm.balancer import balancer
from tests.real.litellm.proxy import MASTER_KEY, VENV, LiteLLM, build, litellm
from tests.real.litellm.upstream import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Mood,
    Upstream,
    upstream,
)

TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS
INTERVAL = 3
SECONDS = 90.0
"""Until a call is counted, on a loaded machine."""
ORACLE = """
import json
from litellm.router_utils.cooldown_handlers import _is_cooldown_required
print(json.dumps([s for s in range(400, 600) if not _is_cooldown_required(None, "a", s)]))
"""


def deployment(provider: Upstream, name: str, model: str = "openai/gpt-4o", **more: Any) -> Any:
    base = provider.base(name.replace("/*", ""))
    params = {"model": model, "api_key": "none", "api_base": base, "max_retries": 0, **more}
    return {"model_name": name, "litellm_params": params, "model_info": {"id": f"{name}-1"}}


def config(models: list[Any], router: dict[str, Any] | None = None, **settings: Any) -> Any:
    return {
        "model_list": models,
        "router_settings": {"num_retries": 0, "allowed_fails": 0, "cooldown_time": 2}
        | (router or {}),
        "litellm_settings": {"callbacks": ["prometheus"], **settings},
        "general_settings": {"master_key": MASTER_KEY},
    }


def rich_config(provider: Upstream) -> Any:
    names = ("cached", "dead", "fussy", "strange", "good")
    models = [deployment(provider, name) for name in names]
    price = {"input_cost_per_token": 0.1, "output_cost_per_token": 0.1}
    models += [deployment(provider, "poor", "mistral/mistral-small", **price)]
    models += [deployment(provider, "openai/*", "openai/*")]
    router = {
        "model_group_alias": {"nice": "good", "secret": {"model": "good", "hidden": True}},
        "provider_budget_config": {"mistral": {"budget_limit": 1, "time_period": "1d"}},
    }
    return config(models, router, cache=True, cache_params={"type": "local"})


def chosen_config(provider: Upstream) -> Any:
    metrics = [
        {
            "group": "some",
            "metrics": ["litellm_deployment_total_requests", "litellm_spend_metric"],
            "include_labels": ["model_id"],
        },
        {
            "group": "useless",
            "metrics": ["litellm_total_tokens_metric"],
            "include_labels": ["model"],
        },
    ]
    return config([deployment(provider, "good")], prometheus_metrics_config=metrics)


@pytest.fixture(scope="module")
def provider() -> Iterator[Upstream]:
    with upstream() as provider:
        provider.moods = {"dead": Mood(500), "fussy": Mood(400), "strange": Mood(404)}
        yield provider


@pytest.fixture(scope="module")
def rich(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLM]:
    with litellm(tmp_path_factory.mktemp("rich"), rich_config(provider)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def chosen(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLM]:
    with litellm(tmp_path_factory.mktemp("chosen"), chosen_config(provider)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def workers(provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLM]:
    folder, plain = tmp_path_factory.mktemp("workers"), config([deployment(provider, "good")])
    options = ("--num_workers", "2", "--timeout_worker_healthcheck", "60")
    with litellm(folder, plain, *options) as proxy:
        yield proxy


@asynccontextmanager
async def collecting(url: str, **more: Any) -> AsyncIterator[Bench]:
    bench = Bench(SimpleNamespace(url=url, date=0.0))
    try:
        await bench.start(key=Secret(MASTER_KEY), **more)
        async with asyncio.timeout(SECONDS):  # a loaded machine may need several attempts
            while not (bench.output.parts and "metrics" in bench.state()):
                await bench.second(1)
        yield bench
    finally:
        assert bench.running
        bench.running.cancel()
        await asyncio.wait([bench.running])


async def until(bench: Bench, true: Callable[[], bool], what: str) -> None:
    """Looks again until the proxy has counted it, 20 times within the collector's minute."""
    try:
        async with asyncio.timeout(SECONDS):
            while not true():
                await asyncio.sleep(0.5)
                await bench.after(INTERVAL)
    except TimeoutError:
        raise AssertionError(f"{what} was not seen; {bench.output.parts}") from None


async def minute(bench: Bench, seconds: float = 60) -> None:
    """Looks until a minute of them is there."""
    for _ in range(round(seconds / 10)):
        for _ in range(10):
            await bench.second(1)


async def call(proxy: LiteLLM, model: str, prompt: str = "well?") -> int:
    return await asyncio.to_thread(proxy.call, model, 20.0, prompt)


async def test_workers_that_share_their_metrics(workers: LiteLLM) -> None:
    async with collecting(workers.url, interval_seconds=INTERVAL) as bench:
        assert (bench.part("good-1").rpm, bench.part("good-1").spend) == (None, None)
        assert "not counted yet" in bench.state()["metrics"][1]
        for _ in range(4):
            assert await call(workers, "good") == 200
        await until(bench, lambda: bench.part("good-1").status == "healthy", "a success")
        await asyncio.sleep(1)
        await minute(bench)
        for _ in range(4):
            assert await call(workers, "good") == 200
        await until(bench, lambda: bench.part("good-1").rpm == 4, "all calls of the minute")
        one = bench.part("good-1")
        assert (one.tpm, one.failed_rpm, one.refused_rpm) == (4 * TOKENS, 0, 0)
        assert one.cooldowns.count is None
        assert "litellm_deployment_cooled_down" in bench.state()["metrics"][1]


async def test_metrics_and_labels_that_are_chosen(chosen: LiteLLM) -> None:
    async with collecting(chosen.url, interval_seconds=INTERVAL) as bench:
        await minute(bench)
        assert await call(chosen, "good") == 200
        await until(bench, lambda: bench.part("good-1").rpm == 1, "the call")
        one = bench.part("good-1")
        assert one.spend > 0
        assert (one.tpm, one.failed_rpm, one.latency_seconds) == (None, None, None)
        assert (one.status, one.cooldowns.count) == ("unknown", None)
        reason, message = bench.state()["metrics"]
        assert reason == "MetricsUnavailable"
        assert "litellm_total_tokens_metric" in message  # without its label model_id
        assert "litellm_deployment_failure_responses" in message
        assert "litellm_deployment_total_requests" not in message
        assert "litellm_cache_hits_metric" not in message  # the proxy says that it has no cache


async def test_names_of_wildcards_and_aliases(rich: LiteLLM) -> None:
    async with collecting(rich.url) as bench:
        one = bench.part("openai/*-1")
        assert (one.model, one.upstream_model, one.provider) == ("openai/*", "*", "openai")
        assert (one.input_context, one.input_cost_per_token) == (None, None)
        good = bench.part("good-1")
        assert (good.model, good.aliases, good.input_context) == (
            "good",
            ["nice", "secret"],
            128000,
        )
        assert len(bench.output.parts) == 7


async def test_calls_by_other_names_are_the_deployments(rich: LiteLLM) -> None:
    options = {"interval_seconds": INTERVAL, "callers": "requested_model"}
    async with collecting(rich.url, **options) as bench:
        await minute(bench)
        for number, name in enumerate(("good", "nice", "secret", "openai/gpt-4o-mini")):
            assert await call(rich, name, f"by name {number}") == 200
        await until(bench, lambda: bench.part("good-1").tpm == 3 * TOKENS, "the aliases' calls")
        await until(bench, lambda: bench.part("openai/*-1").rpm == 1, "the wildcard's call")
        named = {one.name: (one.rpm, one.tpm) for one in bench.part("good-1").callers}
        assert named == dict.fromkeys(("good", "nice", "secret"), (1, TOKENS))


async def test_the_proxys_cache_is_not_the_provider(provider: Upstream, rich: LiteLLM) -> None:
    async with collecting(rich.url, interval_seconds=INTERVAL) as bench:
        await minute(bench)
        sent = provider.calls.count("cached")
        for _ in range(3):
            assert await call(rich, "cached", "the same") == 200
        assert provider.calls.count("cached") == sent + 1
        await until(bench, lambda: bench.part("cached-1").rpm == 1, "the call")
        await asyncio.sleep(1)
        await bench.after(INTERVAL)
        assert (bench.part("cached-1").rpm, bench.part("cached-1").tpm) == (1, TOKENS)
        provider.moods["cached"] = Mood(500)
        assert await call(rich, "cached", "another") == 500
        await until(bench, lambda: bench.part("cached-1").status == "unhealthy", "the failure")
        await asyncio.sleep(2.5)  # the cooldown of the real proxy
        assert await call(rich, "cached", "the same") == 200
        await asyncio.sleep(1)
        for _ in range(3):
            await bench.after(INTERVAL)
        assert bench.part("cached-1").status == "unhealthy"


async def test_what_the_caller_did_is_not_the_models_fault(rich: LiteLLM) -> None:
    async with collecting(rich.url, interval_seconds=INTERVAL) as bench:
        await minute(bench)
        assert await call(rich, "fussy", "too long") == 400
        assert await call(rich, "strange") == 404
        assert await call(rich, "dead") == 500
        await until(bench, lambda: bench.part("dead-1").status == "unhealthy", "the failure")
        await until(bench, lambda: bench.part("strange-1").status == "unhealthy", "the 404")
        await until(bench, lambda: bench.part("fussy-1").failed_rpm == 1, "the 400")
        one = bench.part("fussy-1")
        assert (one.status, one.last_error) == ("unknown", None)


async def test_a_budget_that_is_spent(rich: LiteLLM) -> None:
    async with collecting(rich.url, interval_seconds=INTERVAL) as bench:
        await minute(bench)
        assert await call(rich, "poor", "the first") == 200
        await until(bench, lambda: bench.part("poor-1").credits == 0, "the end of the budget")
        assert bench.part("poor-1").status == "unhealthy"
        statuses = [await call(rich, "poor", f"more {n}") for n in range(3)]
        assert set(statuses) == {429}
        await until(bench, lambda: bench.part("poor-1").refused_rpm == 3, "the refusals")
        one = bench.part("poor-1")
        assert [problem.reason for problem in one.problems] == ["BudgetSpent", "CallsRefused"]
        assert [(refusal.error_class, refusal.rpm) for refusal in one.refusals] == [
            ("ValueError", 3)
        ]


async def test_a_model_that_nobody_serves(rich: LiteLLM) -> None:
    async with collecting(rich.url, interval_seconds=INTERVAL) as bench:
        assert "calls" not in bench.state()
        assert await call(rich, "nobody") == 400
        await until(bench, lambda: "calls" in bench.state(), "the call")
        reason, message = bench.state()["calls"]
        assert reason == "UnknownModel"
        assert message.endswith(": other")  # this version hides the name


async def test_replicas_behind_one_address(rich: LiteLLM, chosen: LiteLLM) -> None:
    with balancer(rich.url, chosen.url) as front:
        async with collecting(front.url, interval_seconds=INTERVAL) as bench:
            async with asyncio.timeout(SECONDS):
                while "several" not in (bench.state().get("metrics") or ("", ""))[1]:
                    await bench.second(1)
            assert bench.state()["metrics"][0] == "MetricsUnavailable"
            assert {part.rpm for part in bench.output.parts.values()} == {None}


async def test_a_proxy_that_stops_answering(rich: LiteLLM) -> None:
    async with collecting(rich.url, interval_seconds=INTERVAL) as bench:
        assert await call(rich, "good", "before it freezes") == 200
        await until(bench, lambda: bench.part("good-1").status == "healthy", "a success")
        rich.send(signal.SIGSTOP)
        try:
            bench.clock.advance(6 * INTERVAL + 30)
            assert bench.part("good-1").status == "unknown"
        finally:
            rich.send(signal.SIGCONT)


def test_whose_fault_a_failure_is_as_the_router_decides() -> None:
    build()
    python = VENV / "bin" / "python"
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": str(Path(python).parent)}
    said = subprocess.run(
        [python, "-c", ORACLE], env=env, capture_output=True, timeout=120, check=True
    )
    callers = [code for code in range(400, 600) if is_callers(Series(FAILURES, "a", "X", code))]
    assert callers == json.loads(said.stdout.splitlines()[-1])
