"""Fixtures for the commands: a running server, and installed collectors."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.telemetron.cli.program import serving

COLLECTOR = """
from typing import Annotated
from msgspec import Meta
from telemetron.collector import Collector, Config

class C(Config, frozen=True):
    topics: Annotated[list[str], Meta(description="What is read.")]
    seconds: Annotated[float, Meta(gt=0, description="How often.")] = 5.0

async def run(config, output): ...

good = Collector(name="good", description="Observes queues.", config=C, sections=("queues",),
                 max_age_seconds=lambda config: 10 / (config.seconds - 1), run=run)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """A folder with a distribution that brings collectors; the value of PYTHONPATH."""
    info = tmp_path / "site" / "fake-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[telemetron.collectors]\ngood = fake:good\nbroken = not_there:x\n"
    )
    (info.parent / "fake.py").write_text(COLLECTOR)
    return str(info.parent)
