"""What the metrics leave out is null, and a problem names it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.document import ModelCaller, ModelDeployment, Refusal
from telemetron_collectors.litellm import metrics
from telemetron_collectors.litellm.measures import Measures
from telemetron_collectors.litellm.models import Names
from telemetron_collectors.litellm.usage import UsageTracker
from tests.collectors.litellm.scripted import FAMILIES, METRICS, Bench, Reply

REQUESTS = "litellm_deployment_total_requests"
SUCCESSES = "litellm_deployment_success_responses"
FAILURES = "litellm_deployment_failure_responses"
LATENCY = "litellm_llm_api_latency_metric"
HITS = "litellm_cache_hits_metric"
CACHED_TOKENS = "litellm_cached_tokens_metric"
TOKENS = "litellm_total_tokens_metric"
SPEND = "litellm_spend_metric"
COOLDOWNS = "litellm_deployment_cooled_down"


def only(bench: Bench, *families: str) -> None:
    """The proxy is configured to have these metrics alone."""
    bench.proxy.families = {family: FAMILIES[family] for family in families}


def count_everything(bench: Bench) -> None:
    """Two calls that succeeded and one that failed, as every metric counts them."""
    bench.proxy.succeed("a", 2, tokens=60)
    bench.proxy.fail("a")
    bench.proxy.count(f"{SPEND}_total", 0.5, model_id="a")
    bench.proxy.count(f"{LATENCY}_sum", 1.0, model_id="a")
    bench.proxy.count(f"{LATENCY}_count", 2, model_id="a")


def rates(bench: Bench, id: str = "a") -> tuple[float | None, ...]:
    one = bench.part(id)
    return one.rpm, one.tpm, one.failed_rpm, one.refused_rpm, one.spend, one.latency_seconds


async def test_measures_are_null_if_only_spend_is_configured(bench, key_file) -> None:
    only(bench, SPEND)
    await bench.start(key_file=key_file())
    count_everything(bench)
    await bench.polls(6)
    assert rates(bench) == (None, None, None, None, 0.5, None)
    assert bench.part("a").status == "unknown"
    assert bench.part("a").cooldowns.count is None
    assert bench.part("a").refusals is None
    reason, message = bench.state()["metrics"]
    assert reason == "MetricsUnavailable"
    for name in (REQUESTS, SUCCESSES, FAILURES, TOKENS, LATENCY, COOLDOWNS):
        assert name in message
    assert SPEND not in message


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ((REQUESTS,), (None, 60, 1, 0, 0.5, 0.5)),
        ((TOKENS,), (3, None, 1, 0, 0.5, 0.5)),
        ((SPEND,), (3, 60, 1, 0, None, 0.5)),
        ((LATENCY,), (3, 60, 1, 0, 0.5, None)),
        ((FAILURES,), (3, 60, 1, 0, 0.5, 0.5)),  # requests less successes
        ((FAILURES, SUCCESSES), (3, 60, None, 0, 0.5, 0.5)),
        ((FAILURES, REQUESTS), (None, 60, None, None, 0.5, 0.5)),
        ((HITS, CACHED_TOKENS), (3, 60, 1, 0, 0.5, 0.5)),  # the proxy says that it has no cache
    ],
)
async def test_a_missing_metric_makes_its_measures_null(
    bench, key_file, left_out, expected
) -> None:
    only(bench, *(family for family in FAMILIES if family not in left_out))
    await bench.start(key_file=key_file())
    count_everything(bench)
    await bench.polls(6)
    assert rates(bench) == expected
    assert rates(bench, "b") == tuple(
        None if value is None or at == 5 else 0 for at, value in enumerate(expected)
    )


async def test_a_metric_without_the_label_model_id_is_missing(bench, key_file) -> None:
    for family, kind in FAMILIES.items():
        suffix = "_count" if kind == "histogram" else "_total" if kind == "counter" else ""
        bench.proxy.count(family + suffix, 5, model_group="gpt-4o")
    await bench.start(key_file=key_file())
    await bench.polls(6)
    assert rates(bench) == (None,) * 6
    assert bench.part("a").status == "unknown"
    assert "label model_id" in bench.state()["metrics"][1]


async def test_refusals_without_the_requested_model_are_null(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    bench.proxy.count(f"{FAILURES}_total", 5, model_id="", exception_class="X")
    bench.proxy.count(f"{REQUESTS}_total", 5, model_id="")
    await bench.polls(6)
    assert bench.part("a").refused_rpm is None
    assert bench.part("a").failed_rpm == 0


async def test_a_page_shared_by_workers_is_requested_whole(bench, key_file) -> None:
    """PROMETHEUS_MULTIPROC_DIR: whoever names metrics gets an empty 200."""
    bench.proxy.process = None
    bench.proxy.succeed("a", 10, tokens=1)
    await bench.start(key_file=key_file())
    bench.proxy.succeed("a", 3, tokens=70)
    await bench.polls(6)
    assert rates(bench)[:4] == (3, 70, 0, 0)
    assert bench.part("a").status == "healthy"
    queries = zip(bench.proxy.calls, bench.proxy.queries, strict=True)
    assert all(not query for path, query in queries if path == "/metrics/")
    message = bench.state()["metrics"][1]
    assert SPEND in message  # nothing was counted yet
    assert "not counted yet" in message


async def test_an_empty_page_makes_measures_null(bench, key_file) -> None:
    bench.proxy.replies["/metrics/"] = Reply(200, b"", METRICS)
    await bench.start(key_file=key_file())
    await bench.polls(7)
    assert rates(bench) == (None,) * 6
    assert bench.state()["metrics"][0] == "MetricsUnavailable"


async def test_a_new_process_may_have_other_metrics(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    await bench.polls(6)
    assert bench.part("a").tpm == 0
    only(bench, REQUESTS, SUCCESSES)
    bench.proxy.restart(process=bench.proxy.date + 3)
    await bench.polls(6)
    assert (bench.part("a").rpm, bench.part("a").tpm) == (0, None)


async def test_a_version_without_licence_says_so(bench, key_file) -> None:
    page = b"# TYPE litellm_not_a_premium_user_metric_total counter\n"
    bench.proxy.replies["/metrics/"] = Reply(200, page, METRICS)
    await bench.start(key_file=key_file())
    await bench.polls(6)
    assert rates(bench) == (None,) * 6
    assert "licence" in bench.state()["metrics"][1]


async def test_series_beyond_the_proxys_limit_make_measures_null(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    bench.proxy.succeed("a", 2, tokens=60)
    other = {"model_id": "other", "model_group": "other", "api_key_alias": "other"}
    bench.proxy.count(f"{TOKENS}_total", 500, **other)
    await bench.polls(6)
    assert (bench.part("a").rpm, bench.part("a").tpm) == (2, None)
    assert "prometheus_metrics_max_series_per_metric" in bench.state()["metrics"][1]


async def test_expired_series_are_no_restart(bench, key_file) -> None:
    """`prometheus_metrics_ttl_seconds` drops idle series; others go on, and it may come back."""
    bench.proxy.succeed("a", 100, tokens=1000, api_key_alias="idle")
    bench.proxy.succeed("a", 50, tokens=500, api_key_alias="busy")
    bench.proxy.count(f"{SPEND}_total", 4.0, model_id="a", api_key_alias="idle")
    bench.proxy.count(f"{SPEND}_total", 1.0, model_id="a", api_key_alias="busy")
    await bench.start(key_file=key_file())
    await bench.polls(6)
    for name, labels in list(bench.proxy.samples):
        if "idle" in labels:
            del bench.proxy.samples[name, labels]
    bench.proxy.succeed("a", 1, tokens=10, api_key_alias="busy")
    await bench.after()
    bench.proxy.succeed("a", 2, tokens=20, api_key_alias="idle")
    await bench.after()
    one = bench.part("a")
    assert (one.rpm, one.tpm, one.spend) == (3, 30, 5.0)


async def test_replicas_whose_pages_have_no_start_time(bench, key_file) -> None:
    """Their counters jump back and forth."""
    replicas = [50, 900]
    bench.proxy.process = None
    await bench.start(key_file=key_file())
    for poll in range(12):
        bench.proxy.restart(None)
        bench.proxy.succeed("a", replicas[poll % 2] + poll // 6)
        await bench.after()
    assert (bench.part("a").rpm, bench.part("a").spend) == (None, None)
    reason, message = bench.state()["metrics"]
    assert (reason, "one source for each replica" in message) == ("MetricsUnavailable", True)


def hit(bench: Bench, calls: int = 1) -> None:
    """Answers from the proxy's cache, as it counts them; no provider is asked."""
    bench.proxy.succeed("a", calls, tokens=50 * calls)
    bench.proxy.count(f"{HITS}_total", calls, model_id="a")
    bench.proxy.count(f"{CACHED_TOKENS}_total", 50 * calls, model_id="a")


def answer(bench: Bench, calls: int = 1) -> None:
    """Answers of the provider."""
    bench.proxy.succeed("a", calls, tokens=50 * calls)
    bench.proxy.count(f"{LATENCY}_count", calls, model_id="a")


async def test_cached_answers_are_no_calls_of_the_model(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    answer(bench)
    hit(bench, 2)
    await bench.polls(6)
    assert rates(bench)[:3] == (1, 50, 0)


async def test_cached_answers_are_no_evidence(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    bench.proxy.fail("a", status=500)
    await bench.after()
    hit(bench)
    bench.proxy.count("litellm_deployment_state", 0, model_id="a", litellm_model_name="gpt-4o")
    await bench.after()
    assert bench.part("a").status == "unhealthy"
    bench.proxy.fail("a", status=500)  # in the poll of a cached answer
    hit(bench)
    await bench.after()
    assert bench.part("a").status == "unhealthy"
    answer(bench)
    await bench.after()
    assert bench.part("a").status == "healthy"


@pytest.mark.parametrize("cache", [{"cache": "redis"}, {}])
async def test_without_cache_metrics_the_providers_answers_count(bench, key_file, cache) -> None:
    only(bench, *(family for family in FAMILIES if family not in (HITS, CACHED_TOKENS)))
    bench.proxy.cache = cache
    await bench.start(key_file=key_file())
    hit(bench, 2)
    await bench.polls(1)
    assert bench.part("a").status == "unknown"
    await bench.polls(5)
    assert rates(bench)[:3] == (0, None, 0)  # whose tokens they are is not counted
    assert CACHED_TOKENS in bench.state()["metrics"][1]
    answer(bench)
    await bench.after()
    assert (bench.part("a").rpm, bench.part("a").status) == (1, "healthy")


async def test_calls_are_null_if_cached_answers_are_not_counted(bench, key_file) -> None:
    only(bench, REQUESTS, SUCCESSES, TOKENS)
    bench.proxy.cache = {"cache": "redis"}
    await bench.start(key_file=key_file())
    hit(bench, 2)
    await bench.polls(6)
    assert rates(bench)[:2] == (None, None)
    assert bench.part("a").status == "unknown"
    assert HITS in bench.state()["metrics"][1]


def refuse(bench: Bench, calls: float, cls: str, status: object, group: str = "gpt-4o") -> None:
    error = {"exception_class": cls, "exception_status": status}
    named = {"model_id": "", "model_group": group, "requested_model": group}
    bench.proxy.count(f"{FAILURES}_total", calls, **named, **error)
    bench.proxy.count(f"{REQUESTS}_total", calls, **named)


async def test_refusals_by_reason(bench, key_file) -> None:
    bench.proxy.settings["model_group_alias"] = {"fast": "gpt-4o"}
    await bench.start(key_file=key_file())
    refuse(bench, 3, "RouterRateLimitError", "None")
    refuse(bench, 1, "BudgetExceededError", 422, group="fast")
    await bench.polls(6)
    one = bench.part("a")
    assert one.refused_rpm == 4
    assert one.refusals == [
        Refusal("BudgetExceededError", 422, 1.0),
        Refusal("RouterRateLimitError", None, 3.0),
    ]
    assert (bench.part("b").refused_rpm, bench.part("b").refusals) == (0, [])


async def test_refusals_beyond_the_limit_are_truncated(bench, key_file) -> None:
    await bench.start(key_file=key_file())
    for number in range(20):
        refuse(bench, 1 + number, f"Error{number:02}", 500)
    await bench.polls(6)
    one = bench.part("a")
    assert one.refused_rpm == 210
    assert [refusal.error_class for refusal in one.refusals] == [
        f"Error{number:02}" for number in range(4, 20)
    ]
    assert one.truncated == {"refusals": 20}


async def test_refusals_are_counted_without_failures_too(bench, key_file) -> None:
    only(bench, REQUESTS, SUCCESSES)
    await bench.start(key_file=key_file())
    refuse(bench, 3, "RouterRateLimitError", "None")
    await bench.polls(6)
    assert (bench.part("a").refused_rpm, bench.part("a").refusals) == (3, None)


async def test_callers_by_the_configured_label(bench, key_file) -> None:
    await bench.start(key_file=key_file(), callers="api_key_alias")
    bench.proxy.succeed("a", 3, tokens=60, api_key_alias="writer")
    bench.proxy.succeed("a", 1, tokens=20, api_key_alias="None")
    await bench.polls(6)
    assert bench.part("a").callers == [
        ModelCaller("", rpm=1, failed_rpm=0, tpm=20),
        ModelCaller("writer", rpm=3, failed_rpm=0, tpm=60),
    ]
    assert bench.part("b").callers == []


async def test_calls_without_a_caller_have_an_empty_name(bench, key_file) -> None:
    """LiteLLM writes `None` in some metrics, and leaves the label empty in others."""
    await bench.start(key_file=key_file(), callers="api_key_alias")
    bench.proxy.succeed("a", 1, tokens=20, api_key_alias="None")
    bench.proxy.succeed("a", 2, tokens=30, api_key_alias="")
    await bench.polls(6)
    assert bench.part("a").callers == [ModelCaller("", 3, 0, 50)]


async def test_callers_beyond_the_limit_are_truncated(bench, key_file) -> None:
    await bench.start(key_file=key_file(), callers="user")
    for number in range(70):
        bench.proxy.succeed("a", 1 + number, user=f"u{number:02}")
    await bench.polls(6)
    assert len(bench.part("a").callers) == 64
    assert bench.part("a").callers[0].name == "u06"
    assert bench.part("a").truncated == {"callers": 70}


@pytest.mark.parametrize("callers", [None, "no_such_label"])
async def test_callers_are_null_unless_the_metrics_name_them(bench, key_file, callers) -> None:
    await bench.start(key_file=key_file(), callers=callers)
    bench.proxy.succeed("a", 3, tokens=60, api_key_alias="writer")
    await bench.polls(6)
    assert bench.part("a").callers is None


SAMPLES = {
    f"{REQUESTS}_total": REQUESTS,
    f"{SUCCESSES}_total": SUCCESSES,
    f"{FAILURES}_total": FAILURES,
    f"{TOKENS}_total": TOKENS,
    f"{SPEND}_total": SPEND,
    f"{LATENCY}_sum": LATENCY,
    f"{LATENCY}_count": LATENCY,
    f"{HITS}_total": HITS,
    f"{CACHED_TOKENS}_total": CACHED_TOKENS,
    f"{COOLDOWNS}_total": COOLDOWNS,
}
LABELS = ("model_id", "model_group", "requested_model", "exception_class", "api_key_alias")
NEEDED = {
    "rpm": {REQUESTS},
    "tpm": {TOKENS},
    "failed_rpm": {FAILURES, REQUESTS},
    "refused_rpm": {FAILURES, REQUESTS},
    "refusals": {FAILURES},
    "latency_seconds": {LATENCY},
    "callers": {REQUESTS, TOKENS, FAILURES},
    "spend": {SPEND},
}
"""The metrics without all of which the field has no number."""

rows = st.lists(
    st.tuples(
        st.sampled_from(sorted(SAMPLES)),
        st.sampled_from(["a", "", "None", "other", "zzz"]),
        st.integers(1, 9),
    ),
    max_size=12,
)


def page(types: set[str], labels: set[str], drawn: list[tuple[str, str, int]], times: int) -> bytes:
    lines = [f"# TYPE {family} counter" for family in sorted(types)]
    for number, (name, id, value) in enumerate(drawn):
        said = dict.fromkeys(LABELS, "gpt-4o") | {"model_id": id, "api_key_alias": f"k{number}"}
        text = ",".join(f'{key}="{said[key]}"' for key in LABELS if key in labels)
        lines.append(f"{name}{{{text}}} {value * times}")
    return "".join(f"{line}\n" for line in lines).encode()


@settings(max_examples=60, deadline=None)
@given(
    types=st.sets(st.sampled_from(sorted(FAMILIES))),
    labels=st.sets(st.sampled_from(LABELS)),
    drawn=rows,
    process=st.sampled_from([None, 1000.0]),
    caches=st.sampled_from([None, True, False]),
)
def test_measures_of_missing_metrics_are_never_numbers(
    types, labels, drawn, process, caches
) -> None:
    usage = UsageTracker(30.0)
    for poll in range(8):
        seen = metrics.parse(page(types, labels, drawn, poll + 1), "api_key_alias")
        seen = seen._replace(process=process)
        usage.add(seen, poll * 10.0, 2000.0)
    part = ModelDeployment(id="a", model="gpt-4o")
    said = Measures(usage, seen, Names([part], {}), caches, "api_key_alias").of(part)
    named = {
        family
        for family in {*types, *(SAMPLES[name] for name, _, _ in drawn)}
        if not any(SAMPLES[name] == family for name, _, _ in drawn) or "model_id" in labels
    }
    for field, needed in NEEDED.items():
        if not needed & named:
            assert said[field] is None, field
    if "model_id" in labels and said["rpm"] is not None and caches is False:
        hits = sum(value for name, id, value in drawn if name == f"{HITS}_total" and id == "a")
        calls = sum(value for name, id, value in drawn if name == f"{REQUESTS}_total" and id == "a")
        assert said["rpm"] == max(0, 6 * (calls - hits))


@pytest.mark.parametrize("interval", [25, 50, 70, 120])
async def test_long_intervals_give_the_mean_of_a_minute(bench, key_file, interval) -> None:
    await bench.start(key_file=key_file(), interval_seconds=interval)
    for _ in range(4):
        bench.proxy.succeed("a", interval, tokens=10 * interval)  # a call each second
        await bench.after(interval)
    assert bench.part("a").rpm == pytest.approx(60)
    assert bench.part("a").tpm == pytest.approx(600)
