"""The polls: what is asked, what is shown, and what becomes of faults."""

import pytest

from telemetron_collectors.rabbitmq.limits import LIMITS
from tests.collectors.rabbitmq.bench import Bench
from tests.collectors.rabbitmq.scripted import Reply, ScriptedCluster, node, queue

SOON = {"interval_seconds": 0.1}
METRICS = """
rabbitmq_detailed_queue_messages_ready{vhost="/",queue="a"} 4
rabbitmq_detailed_queue_messages_unacked{vhost="/",queue="a"} 1
rabbitmq_detailed_queue_consumers{vhost="/",queue="a"} 2
rabbitmq_identity_info{rabbitmq_node="a@x",rabbitmq_cluster="x"} 1
"""


async def test_the_same_queues_move_nothing(cluster: ScriptedCluster, bench: Bench) -> None:
    cluster.vhosts["/"] = [queue("a", 3)]
    bench.start(**SOON, queues=["a"])
    await bench.until(lambda it: cluster.calls.count("/api/queues/%2F/a") > 4)
    assert [call[0] for call in bench.output.calls].count("put") == 0
    assert bench.problems() == {}


async def test_names_outside_the_default_vhost(cluster: ScriptedCluster, bench: Bench) -> None:
    cluster.vhosts = {"/": [queue("a")], "team": [queue("a")]}
    bench.start(**SOON)
    await bench.until(lambda it: len(it.queues) == 2)
    assert sorted(bench.queues) == ["a", "team:a"]


async def test_the_only_vhost_goes_without_saying(cluster: ScriptedCluster, bench: Bench) -> None:
    cluster.vhosts["team"] = [queue("a")]
    bench.start(**SOON, vhosts=["team"])
    await bench.until(lambda it: "a" in it.queues)


async def test_a_vhost_that_is_deleted(cluster: ScriptedCluster, bench: Bench) -> None:
    cluster.vhosts = {"/": [queue("a")], "team": [queue("b")]}
    bench.start(LIMITS._replace(list_seconds=0.1), **SOON)
    await bench.until(lambda it: len(it.queues) == 2)
    del cluster.vhosts["team"]
    await bench.until(lambda it: list(it.queues) == ["a"])


async def test_patterns(cluster: ScriptedCluster, bench: Bench) -> None:
    cluster.vhosts["/"] = [queue("agents.a"), queue("agents.b"), queue("other"), queue("own")]
    bench.start(**SOON, queues=["agents.*", "own", "missing"])
    await bench.until(lambda it: it.problems() == {"vhost /": "NotFound"})
    assert sorted(bench.queues) == ["agents.a", "agents.b", "own"]


async def test_a_named_queue_that_no_vhost_has(cluster: ScriptedCluster, bench: Bench) -> None:
    cluster.vhosts = {"/": [queue("a")], "team": []}
    bench.start(**SOON, queues=["a"])
    await bench.until(lambda it: "/api/queues/team/a" in cluster.calls and "a" in it.queues)
    assert bench.problems() == {}


async def test_the_deepest_queues_are_shown(cluster: ScriptedCluster, bench: Bench) -> None:
    cluster.vhosts["/"] = [queue(f"q{number}", number) for number in range(5)]
    bench.start(LIMITS._replace(max_queues=2), **SOON)
    await bench.until(lambda it: it.problems() == {"vhost /": "LimitReached"})
    assert sorted(bench.queues) == ["q3", "q4"]


async def test_counts_by_metrics(cluster: ScriptedCluster, bench: Bench) -> None:
    cluster.vhosts["/"] = [queue("a", 9), queue("b", 9, node="b@x"), queue("s", type="stream")]
    cluster.metrics = METRICS.encode()
    bench.start(**SOON, metrics_urls=(cluster.url,))
    await bench.until(lambda it: "a" in it.queues and it.queues["a"].consumers == 2)
    a, b, stream = (bench.queues[name] for name in ("a", "b", "s"))
    assert (a.depth, a.unacknowledged, a.problems) == (4, 1, [])
    assert (b.depth, b.consumers) == (None, None)
    assert [one.message for one in b.problems] == ["its node b@x is not among `metrics_urls`"]
    assert (stream.depth, stream.depth_exact) == (None, None)


@pytest.mark.parametrize(
    ("ailment", "reason"),
    [
        ({"mem_alarm": True}, "Alarm"),
        ({"disk_free_alarm": True}, "Alarm"),
        ({"running": False}, "NodeDown"),
        ({"partitions": ["b@x"]}, "NodeDown"),
    ],
)
async def test_a_node_that_is_not_well(
    cluster: ScriptedCluster, bench: Bench, ailment: dict, reason: str
) -> None:
    cluster.nodes = [node(), node("b@x", **ailment)]
    bench.start(LIMITS._replace(nodes_seconds=0.1), **SOON)
    await bench.until(lambda it: it.problems() == {"": reason})
    cluster.nodes.pop()
    await bench.until(lambda it: it.problems() == {})


async def test_metrics_that_one_node_does_not_tell(cluster: ScriptedCluster, bench: Bench) -> None:
    cluster.vhosts["/"] = [queue("a", 9)]
    cluster.metrics = METRICS.encode()
    bench.start(**SOON, metrics_urls=(cluster.url, "http://127.0.0.1:1"))
    await bench.until(lambda it: "a" in it.queues and it.queues["a"].depth == 4)
    await bench.until(lambda it: it.problems() == {"metrics 127.0.0.1:1": "Unreachable"})


async def test_a_user_who_may_not_see_the_nodes(cluster: ScriptedCluster, bench: Bench) -> None:
    refusal = b'{"error":"not_authorised","reason":"Not monitor user"}'
    cluster.replies["/api/nodes"] = Reply(401, refusal)
    cluster.vhosts["/"] = [queue("a")]
    bench.start(**SOON)
    await bench.until(lambda it: "a" in it.queues)
    assert bench.problems() == {"": "Forbidden"}


async def test_a_vhost_that_the_user_may_not_see(cluster: ScriptedCluster, bench: Bench) -> None:
    refusal = b'{"error":"not_authorised","reason":"User not authorised to access virtual host"}'
    cluster.replies["/api/queues/%2F"] = Reply(401, refusal)
    bench.start(**SOON)
    await bench.until(lambda it: it.problems() == {"vhost /": "Forbidden"})
    assert bench.queues == {}
