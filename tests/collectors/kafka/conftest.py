"""A real embedded broker, and confluent-kafka to change and verify its state."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from telemetron.clock import Clock
from telemetron.config.convert import Origin
from telemetron.config.settings import SourceSpec, configure
from telemetron.testing import RecordingOutput
from telemetron_collectors.kafka import KafkaConfig, collector
from telemetron_collectors.kafka.limits import KafkaLimits
from telemetron_collectors.kafka.rounds import run
from tests.collectors.kafka.scripted import Scripted, log_of, scripted
from tests.ports import free_port

QUICK = KafkaLimits(
    request=1.0,
    max_backoff=0.5,
    round_wait=0.05,
    refresh=0.1,
    discovery=0.2,
    retry=0.1,
    compaction=0.3,
    transactions=0.3,
)
"""For tests: everything that is repeated is repeated soon."""
IMPATIENT = replace(QUICK, request=0.5)
"""For tests that wait for a timeout."""
INTERVAL = 0.05
QUEUE = {"topic": "t", "groups": ["g"]}


class Broker:
    """A broker in its own process, and calls to change it. Calls block: use threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # The program itself: its script would be a process between us.
        program = resources.files("noida_db") / "noida-db"
        command = [str(program), "start", "--only", "kafka", "--host", "127.0.0.1"]
        command += ["--kafka-port", str(self.port), "--data-dir", str(self.folder)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 30
        while not self.listens():
            assert time.monotonic() < until, "the embedded broker did not start"
            time.sleep(0.01)

    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address})

    def create(self, topic: str, partitions: int = 1, **config: str) -> str:
        new = NewTopic(
            topic, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()}
        )
        self.admin.create_topics([new])[topic].result(30)
        return topic

    def grow(self, topic: str, partitions: int) -> None:
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)

    def delete(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result(30)

    def topics(self) -> set[str]:
        return set(self.admin.list_topics(timeout=30).topics)

    def produce(
        self,
        topic: str,
        *values: bytes | None,
        partition: int = 0,
        headers: Any = None,
        **more: Any,
    ) -> None:
        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 0, **more})
        for value in values:
            producer.produce(topic, value, partition=partition, headers=headers)
        assert producer.flush(30) == 0

    def transaction(
        self, topic: str, *values: bytes, commit: bool | None = True, partition: int = 0
    ) -> Producer:
        """Produce a transaction: committed, aborted, or (None) open while the producer lives."""
        producer = Producer(
            {
                "bootstrap.servers": self.address,
                "transactional.id": uuid.uuid4().hex,
                "linger.ms": 0,
            }
        )
        producer.init_transactions(30)
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value, partition=partition)
        producer.flush(30)
        if commit:
            producer.commit_transaction(30)
        elif commit is False:
            producer.abort_transaction(30)
        return producer

    def truncate(self, topic: str, before: int, partition: int = 0) -> None:
        """Delete the records before an offset."""
        target = TopicPartition(topic, partition, before)
        (future,) = self.admin.delete_records([target]).values()
        future.result(30)

    def delete_group(self, group: str) -> None:
        self.admin.delete_consumer_groups([group])[group].result(30)

    def commit(self, topic: str, group: str, offset: int, partition: int = 0) -> None:
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": group})
        consumer.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
        consumer.close()


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of one test, which may stop it."""
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def broker(shared_broker: Broker) -> Broker:
    return shared_broker


@pytest.fixture
def topic() -> str:
    """A name that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"


class Watched:
    """A running collector, and its output."""

    def __init__(self, output: RecordingOutput) -> None:
        self.output = output

    def queue(self, topic: str, group: str | None = "g") -> Any:
        id = topic if group is None else f"{topic}/{group}"
        return self.output.parts.get(("queues", id))

    async def until(self, true: Callable[[], Any], seconds: float = 15) -> Any:
        """Wait until a call of the collector makes it true."""
        async with asyncio.timeout(seconds):
            while not (found := true()):
                await self.output.changed()
        return found

    async def queue_until(
        self, topic: str, true: Callable[[Any], Any], group: str | None = "g", seconds: float = 15
    ) -> Any:
        def found() -> Any:
            queue = self.queue(topic, group)
            return queue if queue is not None and true(queue) else None

        try:
            return await self.until(found, seconds)
        except TimeoutError:
            raise AssertionError(f"{self.queue(topic, group)}\n{self.troubles()}") from None

    async def called(self, *call: Any) -> None:
        """Wait until the collector has made this call."""
        await self.until(lambda: call in self.output.calls)

    def troubles(self) -> list[Any]:
        return [call for call in self.output.calls if call[0] == "trouble"][-5:]


class WatchedOutput(RecordingOutput):
    """An output that tests can wait for."""

    def __init__(self) -> None:
        super().__init__(Clock(), "kafka")
        self._called = asyncio.Event()

    async def changed(self) -> None:
        self._called.clear()
        await self._called.wait()

    def _record(self, *call: Any) -> None:
        super()._record(*call)
        if len(self.calls) > 10_000:
            del self.calls[:5_000]
        self._called.set()


def config_of(**options: Any) -> KafkaConfig:
    made = configure(SourceSpec("kafka", "kafka", options, Origin("test")), collector)
    assert isinstance(made, KafkaConfig)
    return made


@asynccontextmanager
async def watching(
    server: str | list[str],
    *queues: Any,
    hold: float | None = None,
    limits: KafkaLimits = QUICK,
    **options: Any,
) -> AsyncIterator[Watched]:
    """Run the collector with these queues; `hold`: seconds that the last known values stay."""
    servers = [server] if isinstance(server, str) else server
    if queues:
        options["queues"] = list(queues)
    options = {"interval_seconds": INTERVAL, "bootstrap_servers": servers, **options}
    output = WatchedOutput()
    config = config_of(**options)
    if hold is not None:
        limits = replace(limits, hold=hold - 3 * config.interval)
    task = asyncio.create_task(run(config, output, limits))  # type: ignore[arg-type]
    try:
        yield Watched(output)
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def watch() -> Any:
    """`async with watch(address, {topic: …}) as watched`."""
    return watching


@pytest.fixture
async def leader(broker: Scripted) -> AsyncIterator[Scripted]:
    """A second scripted broker that leads the topic; the first one coordinates its group."""
    async with scripted() as second:
        second.topics = broker.topics
        broker.brokers = second.brokers = {1: broker.port, 2: second.port}
        log_of(broker).leader = 2
        yield second


def reasons(queue: Any) -> list[str]:
    return [problem.reason for problem in queue.problems]


async def six(watched: Watched) -> Any:
    """Wait until six tasks are pending and shown."""
    return await watched.queue_until("t", lambda q: q.depth == 6 and len(q.tasks) == 6)


async def unknown(watched: Watched, reason: str) -> Any:
    """Wait until the numbers are unknown for this reason."""
    queue = await watched.queue_until("t", lambda q: reasons(q) == [reason] and q.depth is None)
    assert (queue.lag, queue.depth_exact) == (None, None)
    return queue


def after(watched: Watched, *call: Any) -> list[Any]:
    """Return the calls after the last call of this kind."""
    calls = watched.output.calls
    return list(calls[len(calls) - calls[::-1].index(call) :])
