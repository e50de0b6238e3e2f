"""Fixtures: a real node, and the collector before it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from telemetron.clock import Clock
from telemetron.testing import RecordingOutput
from tests.collectors.rabbitmq.bench import Bench
from tests.real.rabbitmq import broker


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[broker.Rabbit]:
    """A node with a user who may look, and a virtual host where that user may not."""
    if broker.folder() is None:
        pytest.skip("rabbitmq-server is not installed")
    home: Path = tmp_path_factory.mktemp("rabbit")
    with broker.rabbit(home) as node:
        node.put("/vhosts/closed")
        node.put("/permissions/closed/lab", configure=".*", write=".*", read=".*")
        node.put("/users/observer", password="seen", tags="monitoring")
        node.put("/permissions/%2F/observer", configure="^$", write="^$", read="^$")
        yield node


@pytest.fixture
async def bench(rabbit: broker.Rabbit) -> AsyncIterator[Bench]:
    """The collector in real time."""
    bench = Bench(rabbit.url, RecordingOutput(Clock()), username="observer", password="seen")
    yield bench
    await bench.stop()
