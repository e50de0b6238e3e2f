"""What the collector says of a proxy that works."""

import asyncio
import json
from pathlib import Path

import pytest

from telemetron.document import ModelError
from tests.collectors.litellm.scripted import KEY, METRICS, Bench, Reply, at, model

DATA = Path(__file__).parents[2] / "data" / "litellm"
HEALTH_CHECK = "litellm-internal-health-check"


def recorded(name: str, kind: str = "application/json") -> Reply:
    return Reply(body=(DATA / name).read_bytes(), kind=kind)


def from_recordings(bench: Bench, folder: str) -> None:
    names = ("model_info", "provider_budgets", "router_settings", "health_readiness")
    paths = ("/model/info", "/provider/budgets", "/router/settings", "/health/readiness")
    for path, name in zip(paths, names, strict=True):
        if (DATA / folder / f"{name}.json").exists():
            bench.proxy.replies[path] = recorded(f"{folder}/{name}.json")
    bench.proxy.replies["/metrics/"] = recorded(f"{folder}/metrics.txt", METRICS)


async def test_a_recorded_proxy_without_database(bench, key_file) -> None:
    from_recordings(bench, "no-db")
    await bench.start(key_file=key_file())
    assert {id for _, id in bench.output.parts} == {
        *("openai-gpt4o-a", "azure-gpt4o-eu", "anth-sonnet", "gem-flash", "embed-small"),
        *("dead-1", "rl-1", "badkey-1", "oll-1"),
    }
    one = bench.part("azure-gpt4o-eu")
    assert (one.model, one.upstream_model, one.provider) == ("gpt-4o", "gpt-4o-eu", "azure")
    assert (one.tpm_max, one.rpm_max, one.payment_type) == (10000, 50, "prepaid")
    assert (one.input_context, one.output_context) == (128000, 16384)
    assert one.input_types == ["image", "text"]
    assert one.output_types == ["text"]
    assert (one.input_cost_per_token, one.output_cost_per_token) == (2.5e-06, 1e-05)
    assert one.spend == 0.00135
    assert one.credits is None
    # What was counted before Telemetron looked says nothing of now.
    assert one.status == "unknown"
    assert (one.rpm, one.tpm, one.failed_rpm, one.refused_rpm) == (None, None, None, None)
    assert bench.part("openai-gpt4o-a").credits == 9.9922988
    assert bench.part("gem-flash").rpm_max == 30  # not the 100,000 of the cost map
    assert bench.part("gem-flash").tpm_max is None
    assert bench.part("embed-small").output_dim == 1536
    assert bench.part("embed-small").output_types == ["embedding"]
    assert bench.part("oll-1").payment_type == "free"
    assert set(bench.state().values()) == {None}
    assert bench.state().keys() == {"", "models", "metrics", "budgets"}


async def test_a_recorded_proxy_with_a_database(bench, key_file) -> None:
    from_recordings(bench, "with-db")
    paths = {"key_list": "/key/list", "v2_team_list": "/v2/team/list"}
    for name, path in {**paths, "user_daily_activity": "/user/daily/activity"}.items():
        bench.proxy.replies[path] = recorded(f"with-db/{name}.json")
    bench.proxy.settings["provider_budget_config"] = {"openai": {}}
    await bench.start(key_file=key_file())
    assert bench.part("openai-gpt4o-a").credits == 9.9952812  # the provider's own budget
    assert bench.part("azure-gpt4o-eu").credits == 9.996255  # the team's
    assert bench.part("gem-flash").credits is None
    assert bench.part("flip-1").model == "flip-provider"
    assert bench.state()["database"] is None


async def test_use_is_the_rise_of_the_last_minute(bench, key_file) -> None:
    bench.proxy.succeed("a", 100, tokens=10_000)
    await bench.start(key_file=key_file())
    bench.proxy.succeed("a", 3, tokens=70)
    bench.proxy.succeed("a", 1, tokens=5, api_key_alias=HEALTH_CHECK)
    bench.proxy.fail("a", 2)
    bench.proxy.count("litellm_llm_api_latency_metric_sum", 1.5, model_id="a")
    bench.proxy.count("litellm_llm_api_latency_metric_count", 3, model_id="a")
    for call in (4, 1):
        refused = {"model_id": "", "model_group": "gpt-4o", "exception_class": f"X{call}"}
        bench.proxy.count("litellm_deployment_failure_responses_total", call, **refused)
    await bench.polls(5)
    assert bench.part("a").rpm is None  # not yet a minute
    await bench.after()
    one = bench.part("a")
    assert (one.rpm, one.tpm, one.failed_rpm, one.refused_rpm) == (5, 70, 2, 5)
    assert one.latency_seconds == 0.5
    assert one.measured_at == at(60)
    other = bench.part("b")
    assert (other.rpm, other.tpm, other.failed_rpm, other.refused_rpm) == (0, 0, 0, 0)
    await bench.after()
    assert bench.part("a").rpm == 0  # a minute later they are over
    assert bench.part("a").latency_seconds is None


async def test_an_unchanged_proxy_changes_nothing(bench, key_file) -> None:
    bench.proxy.succeed("a", 5)
    await bench.start(key_file=key_file())
    await bench.polls(7)
    bench.output.calls.clear()
    await bench.polls(12)
    assert not [call for call in bench.output.calls if call[0] in ("put", "remove", "trouble")]
    assert bench.part("a").measured_at == at(60)


async def test_measures_are_null_for_a_minute_after_a_gap(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    await bench.polls(7)
    assert bench.part("a").rpm == 0
    bench.proxy.succeed("a", 50)
    await bench.after(180)
    assert bench.part("a").rpm is None
    await bench.polls(6)
    assert bench.part("a").rpm == 0


async def test_status_follows_the_results_of_calls(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    assert (bench.part("a").status, bench.part("a").status_since) == ("unknown", at(0))
    bench.proxy.succeed("a")
    await bench.after()
    assert (bench.part("a").status, bench.part("a").status_since) == ("healthy", at(10))
    bench.proxy.fail("a", cls="Openai.InternalServerError", status=500)
    await bench.after()
    assert bench.part("a").status == "unhealthy"
    assert bench.part("a").last_error == ModelError("Openai.InternalServerError", 500, at(20))
    await bench.polls(35)  # until one succeeds
    assert bench.part("a").status == "unhealthy"
    bench.proxy.succeed("a")
    await bench.after()
    assert bench.part("a").status == "healthy"
    await bench.polls(29)
    assert bench.part("a").status == "healthy"
    await bench.after()
    assert (bench.part("a").status, bench.part("b").status) == ("unknown", "unknown")
    assert bench.part("a").last_error.at == at(20)


async def test_numbers_that_mean_no_limit_are_null(bench, key_file) -> None:
    huge = 9223372036854775807
    params = {"tpm": huge, "rpm": "1e400", "cooldown_time": "long"}
    info = {"input_cost_per_token": huge, "max_input_tokens": -1, "mode": "mystery"}
    info |= {"output_cost_per_token": True}
    bench.proxy.models = [model("a", params=params, **info)]
    bench.proxy.settings["provider_budget_config"] = {"openai": {}}
    bench.proxy.budgets = {"openai": {"budget_limit": huge, "spend": 1.0}}
    bench.proxy.count("litellm_spend_metric_total", float("inf"), model_id="a")
    await bench.start(key_file=key_file())
    one = bench.part("a")
    assert (one.tpm_max, one.rpm_max, one.credits, one.spend) == (None, None, None, 0)
    assert (one.input_cost_per_token, one.input_context) == (None, None)
    assert (one.input_types, one.output_types) == (["text"], [])


async def test_each_endpoint_is_polled_at_its_interval(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    bench.asked()
    bench.proxy.settings["provider_budget_config"] = {"openai": {}}
    await bench.polls(60)
    assert bench.asked() == {
        "/metrics/": 60,
        "/model/info": 10,
        "/health/readiness": 10,
        "/router/settings": 2,
        "/provider/budgets": 11,  # every 30 s, from 300 s on
    }
    assert set(bench.proxy.authorizations) == {f"Bearer {KEY}"}
    names = next(query["name[]"] for query in bench.proxy.queries if "name[]" in query)
    assert len(names) == 12
    assert not [name for name in names if name.endswith(("_bucket", "_created"))]


async def test_without_metrics_limits_and_prices_are_shown(bench, key_file) -> None:
    bench.proxy.replies["/metrics/"] = Reply(404, b'{"detail":"Not Found"}')
    bench.proxy.models = [model("a", params={"rpm": 5})]
    await bench.start(key_file=key_file())
    await bench.polls(7)
    one = bench.part("a")
    assert (one.rpm_max, one.rpm, one.tpm, one.spend, one.measured_at) == (
        5,
        None,
        None,
        None,
        None,
    )
    reason, message = bench.state()["metrics"]
    assert reason == "MetricsUnavailable"
    assert 'litellm_settings.callbacks: ["prometheus"]' in message
    del bench.proxy.replies["/metrics/"]
    await bench.polls(8)
    assert bench.part("a").rpm == 0
    assert bench.state()["metrics"] is None


async def test_no_model_is_called_unless_configured(bench, key_file, logged) -> None:
    error = "litellm.RateLimitError: 429\nTraceback"
    ill = {"model_id": "b", "error": error, "exception_status": 429}
    found = {"healthy_endpoints": [{"model_id": "a"}], "unhealthy_endpoints": [ill]}
    bench.proxy.replies["/health"] = Reply(body=json.dumps(found).encode())
    await bench.start(key_file=key_file())
    await bench.polls(10)
    assert "/health" not in bench.asked()
    assert "costs money" not in "".join(logged)


async def test_health_checks_if_configured(bench, key_file, logged) -> None:
    error = "litellm.RateLimitError: 429\nTraceback"
    ill = {"model_id": "b", "error": error, "exception_status": 429}
    odd = {"model_id": None, "error": None}
    found = {"healthy_endpoints": [{"model_id": "a"}], "unhealthy_endpoints": [ill, odd]}
    bench.proxy.replies["/health"] = Reply(429, b"{}")
    await bench.start(key_file=key_file(), health_check_seconds=60)
    assert "each call costs money" in "".join(logged)
    await bench.clock.slept(2)  # the polls, and the checks
    for sleeps in (4, 5, 6, 7, 8, 9):  # the check is over at 10 s, with the next poll
        bench.clock.advance(10)
        await bench.clock.slept(sleeps)
    assert bench.state()["models"] == ("RateLimited", "/health: 429")
    bench.proxy.replies["/health"] = Reply(body=json.dumps(found).encode())
    bench.clock.advance(10)
    await bench.clock.slept(11)
    assert bench.part("a").status == "healthy"
    assert bench.part("b").status == "unhealthy"
    assert bench.part("b").last_error == ModelError("RateLimitError", 429, at(70))
    assert "Traceback" not in repr(bench.output.calls)


async def test_problems_without_a_scope_are_shown_with_the_models(bench, key_file) -> None:
    bench.proxy.replies["/router/settings"] = Reply(403, b"{}")
    await bench.start(key_file=key_file())
    assert bench.state()["models"] == ("Forbidden", "/router/settings: the key is not permitted")
    bench.proxy.cool("a")
    await bench.after()
    assert bench.part("a").cooldowns.count == 1
    assert bench.part("a").cooldown_until is None  # how long one lasts is not known
    del bench.proxy.replies["/router/settings"]
    await bench.polls(12)
    assert bench.state()["models"] is None


async def test_a_proxy_that_needs_no_key(bench) -> None:
    bench.proxy.key = None
    await bench.start()
    assert set(bench.proxy.authorizations) == {""}
    assert bench.part("a").model == "gpt-4o"


async def test_it_ends_at_once_and_leaves_no_timer(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    bench.proxy.cool("a")
    await bench.after()
    bench.running.cancel()
    await asyncio.wait_for(asyncio.wait([bench.running]), 30)
    before = list(bench.output.calls)
    bench.clock.advance(100)
    assert bench.output.calls == before


@pytest.mark.parametrize("budgets", [True, False])
async def test_a_version_without_router_settings_has_no_problem(bench, key_file, budgets) -> None:
    """1.76 has no such endpoint; the cooldown time is unknown, budgets are found by asking."""
    bench.proxy.replies["/router/settings"] = Reply(404, b'{"detail":"Not Found"}')
    if not budgets:
        bench.proxy.replies["/provider/budgets"] = Reply(500, b"{}")
    bench.proxy.budgets = {"openai": {"budget_limit": 2.0, "spend": 0.5}}
    await bench.start(key_file=key_file())
    bench.proxy.cool("a")
    await bench.polls(3)
    assert set(bench.state().values()) == {None}
    assert (bench.part("a").cooldowns.count, bench.part("a").cooldown_until) == (1, None)
    assert bench.part("a").credits == (1.5 if budgets else None)
    assert "/router/settings" in bench.proxy.calls


@pytest.mark.parametrize("path", ["/v2/team/list", "/key/list", "/user/daily/activity"])
async def test_a_version_without_an_endpoint_of_the_database(bench, key_file, path) -> None:
    key = {"models": ["gpt-4o"], "max_budget": 2.0, "spend": 0.5}
    bench.proxy.database = {
        "/user/daily/activity": {},
        "/key/list": {"keys": [key]},
        "/v2/team/list": {},
    }
    del bench.proxy.database[path]
    await bench.start(key_file=key_file())
    assert bench.state()["database"] is None
    assert bench.part("a").credits == (None if path == "/key/list" else 1.5)


async def test_a_recorded_proxy_with_two_workers(bench, key_file) -> None:
    """Its page has no start time, and names only metrics that counted something."""
    bench.proxy.models = [model("good-1", "good")]
    bench.proxy.replies["/metrics/"] = recorded("workers/metrics.txt", METRICS)
    await bench.start(key_file=key_file())
    await bench.polls(6)
    one = bench.part("good-1")
    assert (one.rpm, one.tpm, one.failed_rpm, one.refused_rpm) == (0, 0, 0, 0)
    assert one.spend == pytest.approx(6 * 0.000225)
    assert one.cooldowns.count is None
    message = bench.state()["metrics"][1]
    assert message == (
        "litellm_deployment_cooled_down: not counted yet, or omitted by the proxy's configuration"
    )
