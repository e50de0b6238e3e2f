"""Workers without pauses, and the embedded broker."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetron.demo.broker import EmbeddedBroker
from telemetron.demo.worker import AgentWorker


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AgentWorker]]:
    """Make workers that share a run."""
    monkeypatch.delenv("TELEMETRON_URL", raising=False)
    made = []

    def make(name: str) -> AgentWorker:
        made.append(AgentWorker(name, tmp_path, [], pace=0))
        return made[-1]

    yield make
    for each in made:
        each.agent.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    made = EmbeddedBroker(tmp_path / "broker")
    try:
        made.start()
        yield made
    finally:
        made.stop()
