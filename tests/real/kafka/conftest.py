"""Fixtures of the tests against Apache Kafka: clusters for a session, observers for each test."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest

from tests.real.kafka import broker, observer
from tests.real.kafka.broker import Cluster
from tests.real.kafka.observer import Observer
from tests.real.kafka.oracle import Oracle, oracle
from tests.real.kafka.truth import Truth
from tests.real.toxiproxy import Toxiproxy

ToolLag = Callable[[str], int]


class Observing(Protocol):
    """`with observing(kafka={…}) as observer:`; each of the `faults` may be logged once."""

    def __call__(self, *, faults: int = 0, **sources: Any) -> AbstractContextManager[Observer]: ...


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, toxiproxy: Toxiproxy) -> Iterator[Cluster]:
    """One node, for all tests: who breaks it mends it."""
    with broker.cluster(tmp_path_factory.mktemp("kafka"), toxiproxy=toxiproxy) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def truth(kafka: Cluster) -> Truth:
    """Its administrator."""
    return Truth(kafka)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, toxiproxy: Toxiproxy) -> Iterator[Cluster]:
    """Three nodes; the first is the controller and goes on, whatever the tests do."""
    folder = tmp_path_factory.mktemp("cluster")
    with broker.cluster(folder, 3, toxiproxy=toxiproxy, heap="256m") as cluster:
        yield cluster


@pytest.fixture
def tool_lag(kafka: Cluster) -> ToolLag:
    """The sum of what kafka-consumer-groups gives as LAG; a partition it leaves out is 0."""

    def lag(group: str) -> int:
        command = "consumer.group.ConsumerGroupCommand"
        out = kafka.tool(command, "--describe", "--group", group)
        rows = [line.split() for line in out.splitlines() if line.startswith(group)]
        return sum(int(row[5]) for row in rows if re.fullmatch(r"-?\d+", row[5]))

    return lag


@pytest.fixture(scope="session")
def admin_client(kafka: Cluster) -> Iterator[Oracle]:
    """Kafka's own, in Java."""
    with oracle(kafka) as made:
        yield made


@pytest.fixture
def group() -> str:
    """A name that no other test has."""
    return f"workers-{uuid4().hex[:8]}"


@pytest.fixture
def observing(tmp_path: Path) -> Observing:
    """Starts a Telemetron, and ends it with the context."""

    def start(*, faults: int = 0, **sources: Any) -> AbstractContextManager[Observer]:
        return observer.observing(tmp_path, sources, faults=faults)

    return start
