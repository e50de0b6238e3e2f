"""The proxy's metrics page: malformed, large, and with unknown metrics."""

import asyncio
import time

import pytest

from telemetron.service.outputs import BoundOutput, Mounts
from telemetron.store.store import Store
from telemetron_collectors.litellm import LitellmConfig, collector
from tests.collectors.litellm.scripted import (
    METRICS,
    Reply,
    model,
    recovers,
)


async def most_worked(end: asyncio.Event) -> float:
    """Processor time of the loop's thread between two turns of this task, the most."""
    longest, worked = 0.0, time.thread_time()
    while not end.is_set():
        await asyncio.sleep(0)
        worked, before = time.thread_time(), worked
        longest = max(longest, worked - before)
    return longest


@pytest.mark.parametrize(
    "page",
    [
        b'litellm_spend_metric_total{model_id="a"} 1',  # the last line has no end
        b'litellm_spend_metric_total{model_id="a" 1\n',
        b'litellm_spend_metric_total{model_id="a"} many\n',
        b'litellm_spend_metric_total{model_id="a"}\n',
        b"process_start_time_seconds\n",
    ],
)
async def test_malformed_metrics_are_a_bad_answer(bench, proxy, key_file, page) -> None:
    await bench.start(key_file=key_file())
    proxy.replies["/metrics/"] = Reply(200, page, METRICS)
    await bench.after()
    assert bench.state()["metrics"] == ("BadAnswer", "/metrics/: the answer is malformed")
    del proxy.replies["/metrics/"]
    await recovers(bench)


async def test_unknown_labels_and_metrics_are_skipped(bench, proxy, key_file) -> None:
    proxy.succeed(
        "a", 1, new_label="x", strange='} \\"quoted\\\\', line="\\n", model_group="gpt-4o"
    )
    proxy.count("litellm_new_metric_total", 5, model_id="a")
    proxy.count("litellm_deployment_total_requests_total", 5, something="else")
    await bench.start(key_file=key_file())
    proxy.succeed("a", 2, new_label="y")
    await bench.polls(6)
    assert bench.part("a").rpm == 2
    assert bench.part("a").status == "healthy"


async def test_five_megabytes_of_metrics_do_not_block(proxy, key_file) -> None:
    """With the real clock and store. Read on the loop they would take it a third of a second."""
    proxy.models = [model(f"m{n}") for n in range(100)]
    label = "x" * 150
    lines = "".join(
        f'litellm_deployment_total_requests_total{{model_id="m{n % 100}",team="{label}{n}"}} {n}\n'
        for n in range(23_000)
    )
    proxy.replies["/metrics/"] = Reply(200, lines.encode(), METRICS)
    assert len(lines) > 4_900_000
    became_ok = asyncio.Event()
    store = Store("test")
    store.watchers.append(lambda _: source.status == "ok" and became_ok.set())
    config = LitellmConfig(url=proxy.url, key_file=key_file(), interval_seconds=0.1)
    source = store.add("litellm", "litellm")
    source.start(60)
    output = BoundOutput(store, source, collector, Mounts())
    running = asyncio.create_task(collector.run(config, output))
    longest = await most_worked(became_ok)
    assert source.entities == 100
    assert longest < 0.2
    running.cancel()
    await asyncio.wait([running])
    output.close()
    source.stop()
