"""The Kafka collector on a real Apache Kafka: 100 topics × 8 partitions × 10 groups, and a million.

One broker and the measured process share the first core; the clients run on the last one.
"""

import asyncio
import json
import tempfile
import time
import urllib.error
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import NewTopic, OffsetSpec

from bench import process
from bench.client import connected
from bench.process import Server
from bench.report import Row, at_most, figure, note, p99
from telemetron.clock import Clock
from telemetron.testing import FakeClock, RecordingOutput
from telemetron_collectors.kafka.brokers import BrokerConnection, connection_settings
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.config import KafkaConfig, QueueConfig
from telemetron_collectors.kafka.rounds import Rounds
from tests.real.kafka import broker
from tests.real.kafka.broker import Cluster
from tests.real.kafka.truth import SECONDS, Truth, tasks

TOPICS, PARTITIONS, GROUPS = 100, 8, 10
RECORDS = 25
"""In each partition: 20,000 pending in all."""
MILLION = 1_000_000
POLL_MS, REQUESTS, CONTENT_MS, COUNT_MS = 100, 3, 250, 1_250
CORE, ADDED_MB, FIRST_SECONDS = 10, 30, 1.0
SIZE = f"{TOPICS} topics × {PARTITIONS} partitions × {GROUPS} groups"


def run(quick: bool) -> Iterator[Row]:
    """Run all measurements on one broker."""
    with tempfile.TemporaryDirectory() as folder, broker.cluster(Path(folder), heap="512m") as it:
        truth = Truth(it)
        note("kafka: topics and records")
        names = _fill(truth)
        yield from polls(it, truth, names, 20 if quick else 100)
        yield from at_work(it, truth, names, 10 if quick else 60, 5 if quick else 10)
        yield from million(it, truth)


def _fill(truth: Truth) -> list[str]:
    names = [f"bench-{n:03}" for n in range(TOPICS)]
    made = truth.admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    for one in made.values():
        one.result(SECONDS)
    for name in names:
        for partition in range(PARTITIONS):
            truth.produce(name, tasks(partition * 100, RECORDS), partition=partition)
    parts = [(name, partition) for name in names for partition in range(PARTITIONS)]
    for n in range(GROUPS):
        for name in names:
            truth.commit(f"group-{n}", name, dict.fromkeys(range(PARTITIONS), 0))
    assert len(parts) == TOPICS * PARTITIONS
    return names


# One poll


class Polled(NamedTuple):
    """Seconds of each round, and the requests of all rounds."""

    seconds: list[float]
    requests: int


def polls(cluster: Cluster, truth: Truth, names: list[str], count: int) -> Iterator[Row]:
    """Measure our poll, quiet and with changes in every topic; then other clients at that work."""
    note("kafka: polls")
    quiet, moving = asyncio.run(_polls(cluster, truth, names, count))
    per_group = quiet.requests / count / GROUPS
    yield at_most(
        f"{SIZE}: one poll of the lag, median", median(quiet.seconds) * 1e3, POLL_MS, "ms"
    )
    yield at_most("the same, p99", p99(quiet.seconds) * 1e3, POLL_MS, "ms")
    yield at_most(
        "the same after a record in each topic, median", median(moving.seconds) * 1e3, POLL_MS, "ms"
    )
    yield at_most("requests a poll, for each broker and group", per_group, REQUESTS, "requests")
    seconds = [_admin_poll(truth, names) for _ in range(min(count, 20))]
    what = "the same by confluent-kafka's admin client, median"
    yield figure(what, median(seconds) * 1e3, "ms")
    begun = time.perf_counter()
    cluster.tool("consumer.group.ConsumerGroupCommand", "--describe", "--all-groups")
    yield figure("the same by kafka-consumer-groups", time.perf_counter() - begun, "s", "one run")


async def _polls(
    cluster: Cluster, truth: Truth, names: list[str], count: int
) -> tuple[Polled, Polled]:
    config = KafkaConfig(
        bootstrap_servers=cluster.servers(), queues=[QueueConfig(topic="bench-*", max_tasks=0)]
    )
    output = RecordingOutput(FakeClock())
    output.clock = Clock()
    observed = KafkaCluster(config, output, await connection_settings(config))
    rounds = Rounds(observed)
    while len(output.parts) < TOPICS * GROUPS:
        await rounds.next()
        await asyncio.sleep(0.05)

    async def nothing() -> None:
        pass

    async def produce() -> None:
        await asyncio.to_thread(_one_more, truth, names)

    try:
        return await _timed(rounds, count, nothing), await _timed(rounds, count // 5, produce)
    finally:
        await rounds.jobs.close()
        await observed.brokers.close()


async def _timed(rounds: Rounds, count: int, before: Callable[[], Awaitable[None]]) -> Polled:
    seconds, requests = [], 0
    call = BrokerConnection.call

    async def counted(self: BrokerConnection, request: Any) -> Any:
        nonlocal requests
        requests += 1
        return await call(self, request)

    BrokerConnection.call = counted  # type: ignore[method-assign]
    try:
        for _ in range(count):
            await before()
            begun = time.perf_counter()
            await rounds.next()
            seconds.append(time.perf_counter() - begun)
            await asyncio.sleep(0.1)
    finally:
        BrokerConnection.call = call  # type: ignore[method-assign]
    return Polled(seconds, requests)


def _one_more(truth: Truth, names: list[str]) -> None:
    for name in names:
        truth.produce(name, [b"{}"])


def _admin_poll(truth: Truth, names: list[str]) -> float:
    """Fetch the offsets of all groups at once, then all ends of the logs."""
    begun = time.perf_counter()
    asked = [ConsumerGroupTopicPartitions(f"group-{n}") for n in range(GROUPS)]
    found = [truth.admin.list_consumer_group_offsets([one]) for one in asked]
    for futures in found:
        for future in futures.values():
            future.result(SECONDS)
    parts = [TopicPartition(name, number) for name in names for number in range(PARTITIONS)]
    ends = truth.admin.list_offsets(dict.fromkeys(parts, OffsetSpec.latest()))
    for end in ends.values():
        end.result(SECONDS)
    return time.perf_counter() - begun


# The whole process


def at_work(
    cluster: Cluster, truth: Truth, names: list[str], count: int, seconds: float
) -> Iterator[Row]:
    """Measure the memory that the collector adds, and the delay until a change is visible."""
    note("kafka: the whole process")
    with process.telemetron() as bare:
        bare.state()
        idle = bare.memory()
    with _observing(cluster, "bench-*") as server:
        _await_queues(server, TOPICS * GROUPS)
        time.sleep(5)
        worked = server.worked()
        time.sleep(seconds)
        core = (server.worked() - worked) / seconds * 100
        shown = sum(len(queue["tasks"]) for queue in server.state()["queues"])
        detail = f"{shown:,} tasks shown"
        yield at_most(f"{SIZE}: of a core, quiet, default interval", core, CORE, "%", detail)
        yield at_most("memory it adds", server.memory() - idle, ADDED_MB, "MB")
    topic = truth.topic()
    truth.commit("latency", topic, {0: 0})
    for max_tasks, limit in ((20, CONTENT_MS), (0, COUNT_MS)):
        some = count if max_tasks else count // 4
        with _observing(cluster, topic, max_tasks=max_tasks) as server:
            _await_queues(server, 1)
            produced, committed = asyncio.run(_latencies(server, truth, topic, some))
        kind = "with content" if max_tasks else "only counts"
        for what, found in (("produce → visible", produced), ("commit → gone", committed)):
            median_ms = f"median {median(found) * 1e3:.0f} ms, {some} times"
            yield at_most(f"{what}, {kind}, p99", p99(found) * 1e3, limit, "ms", median_ms)


async def _latencies(
    server: Server, truth: Truth, topic: str, count: int
) -> tuple[list[float], list[float]]:
    produced, committed = [], []
    path = f"/system/state/queues/kafka/{topic}/latency"
    offset = truth.committed("latency", topic)[0]
    async with connected(server) as connection:

        async def until(depth: int) -> float:
            begun = time.perf_counter()
            while True:
                if json.loads(await connection.get(path))["queues"][0]["depth"] == depth:
                    return time.perf_counter() - begun
                await asyncio.sleep(0.003)

        for _ in range(count):
            await asyncio.to_thread(truth.produce, topic, tasks(offset, 1))
            produced.append(await until(1))
            offset += 1
            await asyncio.to_thread(truth.commit, "latency", topic, {0: offset})
            committed.append(await until(0))
            await asyncio.sleep(offset % 7 * 0.02)  # not in step with the rounds
    return produced, committed


def million(cluster: Cluster, truth: Truth) -> Iterator[Row]:
    """Measure from the start to the right number of a long backlog."""
    note("kafka: a million")
    topic = truth.topic(PARTITIONS)
    for partition in range(PARTITIONS):
        values = (b'{"id":"%d"}' % n for n in range(MILLION // PARTITIONS))
        truth.produce(topic, values, partition=partition)
    truth.commit("million", topic, dict.fromkeys(range(PARTITIONS), 0))
    first, shown = [], []
    for _ in range(5):
        with _observing(cluster, topic) as server:
            begun = time.perf_counter()
            first.append(_until(server, begun, lambda queue: queue["depth"] == MILLION))
            shown.append(_until(server, begun, lambda queue: len(queue["tasks"]) == 20))
    yield at_most(
        f"{MILLION:,} pending: first right number after it listens, worst of 5",
        max(first),
        FIRST_SECONDS,
        "s",
        f"its first 20 tasks after {max(shown):.2f} s",
    )


@contextmanager
def _observing(cluster: Cluster, topic: str, **keys: Any) -> Iterator[Server]:
    queues = [{"topic": topic, **keys}]
    kafka = {"bootstrap_servers": cluster.servers(), "queues": queues}
    with process.telemetron({"kafka": kafka}) as server:
        yield server


def _await_queues(server: Server, count: int) -> None:
    end = time.monotonic() + SECONDS
    while len(server.state()["queues"]) < count:
        assert time.monotonic() < end, "the queues do not show"
        time.sleep(0.1)


def _until(server: Server, begun: float, true: Callable[[Any], bool]) -> float:
    while True:
        try:
            queues = server.state()["queues"]
        except urllib.error.URLError:
            queues = []
        if queues and true(queues[0]):
            return time.perf_counter() - begun
        assert time.perf_counter() - begun < SECONDS, "it does not show"
        time.sleep(0.005)
