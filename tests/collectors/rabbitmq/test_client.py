"""Answers that are late, cut short, refusals, or from another server."""

import pytest

from telemetron_collectors.rabbitmq.limits import LIMITS
from tests.collectors.rabbitmq.bench import Bench
from tests.collectors.rabbitmq.scripted import Reply, ScriptedCluster, queue

SOON = {"interval_seconds": 0.1}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(500, b"oops"), "BadAnswer"),
        (Reply(200, b"<html>welcome</html>"), "BadAnswer"),
        (Reply(200, b'{"not": "a list"}'), "BadAnswer"),
        (Reply(200, b"[", cut=10), "BadAnswer"),
        (Reply(429, b""), "RateLimited"),
        (Reply(401, b'{"error":"not_authorized"}'), "Unauthorized"),
        (Reply(401, b'{"error":"not_authorised","reason":"Not management user"}'), "Unauthorized"),
        (Reply(401, b"<html>"), "Unauthorized"),
        (Reply(is_frozen=True), "Timeout"),
    ],
)
async def test_a_fault_keeps_what_is_known(
    cluster: ScriptedCluster, bench: Bench, reply: Reply, reason: str
) -> None:
    cluster.vhosts["/"] = [queue("a", 3)]
    bench.start(LIMITS._replace(timeout_seconds=0.5), **SOON, queues=["a"])
    await bench.until(lambda it: "a" in it.queues)
    cluster.everything = reply
    await bench.until(lambda it: it.problems() == {"": reason})
    assert bench.queues["a"].depth == 3
    cluster.everything = None
    cluster.vhosts["/"] = [queue("a", 4)]
    await bench.until(lambda it: it.problems() == {} and it.queues["a"].depth == 4)


async def test_a_cluster_that_is_gone_and_comes_back(
    cluster: ScriptedCluster, bench: Bench
) -> None:
    cluster.vhosts["/"] = [queue("a")]
    bench.start(**SOON, queues=["a"])
    await bench.until(lambda it: "a" in it.queues)
    port = int(cluster.url.rpartition(":")[2])
    await cluster.stop()
    await bench.until(lambda it: it.problems() == {"": "Unreachable"})
    await cluster.start(port)
    await bench.until(lambda it: it.problems() == {})


async def test_an_answer_beyond_the_limit(cluster: ScriptedCluster, bench: Bench) -> None:
    cluster.vhosts["/"] = [queue("a" * 200) for _ in range(10)]
    bench.start(LIMITS._replace(max_bytes=1024), **SOON)
    await bench.until(lambda it: it.problems().get("") == "BadAnswer")


async def test_an_answer_that_is_decoded_in_a_thread(
    cluster: ScriptedCluster, bench: Bench
) -> None:
    cluster.vhosts["/"] = [queue(f"q{number}") for number in range(1000)]
    bench.start(**SOON)
    await bench.until(lambda it: len(it.queues) == 1000)
