import asyncio
import re
import time
from math import inf
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from telemetron.web.metrics import STATUSES, Histogram

OPEN_METRICS = "application/openmetrics-text"


async def scraped(live, **headers):
    """Value by (sample, labels)."""
    answer = await live.client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in prometheus(answer.text)
        for sample in family.samples
    }


def test_a_histogram_counts_what_is_at_most_each_bound():
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.100001, 1.0, 5.0):
        histogram.observe(seconds)
    assert histogram.buckets() == [("0.1", 2), ("1.0", 4), ("+Inf", 5)]
    assert histogram.total == pytest.approx(6.250001)


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", prometheus),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8", prometheus),
        ("image/png", "text/plain; version=0.0.4; charset=utf-8", prometheus),
        (OPEN_METRICS, f"{OPEN_METRICS}; version=1.0.0; charset=utf-8", open_metrics),
        (
            f"{OPEN_METRICS};version=nonsense;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            f"{OPEN_METRICS}; version=1.0.0; charset=utf-8",
            open_metrics,
        ),
    ],
)
async def test_format_is_the_one_the_scraper_prefers(live, accept, content_type, parse):
    answer = await live.client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"] == content_type
    families = {family.name: family for family in parse(answer.text)}
    assert all(family.documentation for family in families.values())
    assert all(name.startswith(("telemetron_", "process_")) for name in families)
    assert families["telemetron_http_read_duration_seconds"].type == "histogram"
    assert families["process_cpu_seconds"].type == "counter"
    assert len(answer.text.splitlines()) < 200


async def test_docs_list_every_metric_and_its_labels(live):
    source = live.app.service.store.sources["heartbeats"]
    source.events["beats_dropped"] += 1
    source.confirm()
    families = list(prometheus((await live.client.get("/metrics")).text))
    shown = {
        name: (family.type, {label for sample in family.samples for label in sample.labels})
        for family in families
        if (name := family.name + "_total" * (family.type == "counter"))
    }
    page = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
    page = page.partition("\n## The observed system\n")[0]
    rows = re.findall(r"^\| `(telemetron_\w+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE)
    told = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == {name: one for name, one in shown.items() if name.startswith("telemetron_")}
    assert set(re.findall(r"`(process_\w+)`", page)) >= shown.keys() - told.keys()
    assert all(f"`{reason}`" in page for reason in live.app.readers.cut)


async def test_it_takes_no_parameters(live):
    assert (await live.client.get("/metrics?x=1")).status_code == 400
    assert (await live.client.post("/metrics")).status_code == 405
    assert (await live.client.head("/metrics")).status_code == 200


async def test_it_shows_the_state_as_it_is_now(live):
    for name in ("a", "b"):
        await live.client.post(f"/agents/{name}/heartbeat", json={"instance": "i", "new": 1})
    live.app.service.store.flush()
    state = await live.client.get("/system/state")
    document = state.json()
    found = await scraped(live)
    assert found["telemetron_state_revision",] == document["revision"]
    assert found["telemetron_state_entities", "agents"] == 2
    assert found["telemetron_state_entities", "sources"] == len(document["sources"])
    assert found["telemetron_state_entities", "queues"] == 0
    sizes = sum(value for key, value in found.items() if key[0] == "telemetron_state_bytes")
    assert 0.5 * len(state.content) < sizes < len(state.content)
    assert found["telemetron_source_entities", "heartbeats"] == 2
    assert found["telemetron_source_events_total", "heartbeats", "unknown_fields"] == 2
    assert found["telemetron_source_restarts_total", "heartbeats"] == 0
    assert found["telemetron_http_read_duration_seconds_count",] == 1
    assert found["telemetron_http_push_duration_seconds_count",] == 2
    assert found["telemetron_waiters",] == 0
    assert found["telemetron_readers_cut_total", "memory"] == 0
    assert 0 <= time.time() - found["telemetron_start_time_seconds",] < 60


async def test_a_long_poll_is_counted_while_it_waits(live):
    place = (await live.client.get("/system/state")).headers["etag"].split('"')[1]
    poll = asyncio.create_task(
        live.client.get("/system/state", params={"since": place, "wait": "30s"})
    )
    async with asyncio.timeout(30):
        while not (await scraped(live))["telemetron_waiters",]:
            pass  # each scrape lets the server go on
    await live.client.post("/agents/a/heartbeat", json={"instance": "i"})
    assert (await poll).status_code == 200
    assert (await scraped(live))["telemetron_waiters",] == 0


async def test_source_has_status_age_and_problems(live):
    found = await scraped(live)
    status = "telemetron_source_status"
    shown = {one: found[status, *sorted(["heartbeats", "heartbeats", one])] for one in STATUSES}
    assert shown == {"starting": 1, "ok": 0, "degraded": 0, "stale": 0, "failing": 0, "off": 0}
    # It never was ok; and what is off has no age either.
    assert ("telemetron_source_age_seconds", "heartbeats") not in found
    assert ("telemetron_source_age_seconds", "kafka") not in found

    source = live.app.service.store.sources["heartbeats"]
    source.confirm()
    found = await scraped(live)
    assert found[status, "heartbeats", "heartbeats", "ok"] == 1
    assert found["telemetron_source_age_seconds", "heartbeats"] == 0

    source.fail("Crashed", "RuntimeError in the collector")
    found = await scraped(live)
    assert found[status, "failing", "heartbeats", "heartbeats"] == 1
    assert 0 <= found["telemetron_source_age_seconds", "heartbeats"] < 30
    assert found["telemetron_source_problems", "heartbeats"] == 1


async def test_blocked_event_loop_is_measured(live):
    lag = live.app.metrics.loop_lag
    before = lag.total
    async with asyncio.timeout(30):
        while lag.total - before < 0.05:
            time.sleep(0.2)  # noqa: ASYNC251
            await asyncio.sleep(0.02)
    found = await scraped(live)
    late = {
        float(key[1]): value
        for key, value in found.items()
        if key[0] == "telemetron_event_loop_lag_seconds_bucket"
    }
    assert late[inf] > late[0.02]
