"""Fixtures: a scripted cluster, and the collector before it in real time."""

from collections.abc import AsyncIterator

import pytest

from telemetron.clock import Clock
from telemetron.testing import RecordingOutput
from tests.collectors.rabbitmq.bench import Bench
from tests.collectors.rabbitmq.scripted import PASSWORD, USER, ScriptedCluster


@pytest.fixture
async def cluster() -> AsyncIterator[ScriptedCluster]:
    server = ScriptedCluster()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def bench(cluster: ScriptedCluster) -> AsyncIterator[Bench]:
    bench = Bench(cluster.url, RecordingOutput(Clock()), USER, PASSWORD)
    yield bench
    await bench.stop()
