"""Rises of counters through restarts and several processes."""

import pytest

from telemetron_collectors.litellm.proxy import ProxyLimits


async def test_a_restart_with_counters_at_zero(bench, proxy, key_file) -> None:
    proxy.succeed("a", 100)
    await bench.start(key_file=key_file())
    proxy.succeed("a", 5)
    await bench.polls(2)
    proxy.restart(process=proxy.date + 3)  # by its own clock, whichever that is
    proxy.succeed("a", 2)
    await bench.polls(4)
    assert bench.part("a").rpm == 7
    await bench.polls(6)
    assert bench.part("a").rpm == 0


async def test_falling_counters_of_a_shared_page(bench, proxy, key_file) -> None:
    proxy.process = None
    proxy.succeed("a", 100)
    await bench.start(key_file=key_file())
    proxy.restart(process=None)
    proxy.succeed("a", 2)
    await bench.polls(6)
    assert bench.part("a").rpm is None  # a restart, or another replica with calls of long ago
    proxy.succeed("a", 3)
    await bench.after()
    assert bench.part("a").rpm == 3


async def test_processes_with_separate_counters(bench, proxy, key_file) -> None:
    """Each poll may be answered by another worker: what one says is not the proxy's use."""
    workers = [(1000.0, 50), (1000.5, 900)]
    await bench.start(key_file=key_file())
    for poll in range(12):
        process, calls = workers[poll % 2]
        proxy.restart(process)
        proxy.succeed("a", calls + poll // 6)
        proxy.count("litellm_spend_metric_total", calls, model_id="a")
        await bench.after()
    one = bench.part("a")
    assert (one.rpm, one.tpm, one.spend) == (None, None, None)
    assert one.status == "healthy"  # that one rose is known all the same
    reason, message = bench.state()["metrics"]
    assert (reason, "configure one source for each replica" in message) == (
        "MetricsUnavailable",
        True,
    )
    await bench.polls(40)  # from now on one process answers
    assert bench.state()["metrics"] is None
    assert bench.part("a").rpm == 0


async def test_counts_of_an_older_process_are_no_current_use(bench, proxy, key_file) -> None:
    await bench.start(key_file=key_file())
    proxy.restart(process=1500.0)  # older than the last poll
    proxy.succeed("a", 900)
    await bench.polls(6)
    assert bench.part("a").rpm is None  # what it was used for in that minute, nobody saw
    assert bench.part("a").status == "unknown"
    await bench.after()
    assert bench.part("a").rpm == 0


async def test_remembered_processes_are_bounded(bench, proxy, key_file) -> None:
    await bench.start(ProxyLimits(max_processes=2), key_file=key_file())
    for process in (1.0, 2.0, 3.0, 1000.0):
        proxy.process = process
        await bench.after()
    assert bench.state()["metrics"] is None  # none that is remembered came back


@pytest.mark.parametrize("date", [0.0, 4e9])
async def test_clock_skew(bench, proxy, key_file, date) -> None:
    proxy.date, proxy.process = date, date - 500
    await bench.start(key_file=key_file())
    proxy.succeed("a", 3)
    proxy.cool("a")
    await bench.after()
    assert bench.part("a").cooldown_until == bench.clock.now().replace(second=55)
    await bench.polls(5)
    assert bench.part("a").rpm == 3
