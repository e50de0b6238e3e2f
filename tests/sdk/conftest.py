"""Stand-ins for Telemetron, and processes that are agents."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import telemetron_agent
from telemetron_agent.activity import Activity
from tests.sdk.activities import Changes
from tests.sdk.stand_in import StandIn

SDK = Path(telemetron_agent.__file__).parents[1]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the variables that configure an agent."""
    for name in list(os.environ):
        if name.startswith(("TELEMETRON_", "POD_")):
            monkeypatch.delenv(name)


@pytest.fixture
def start() -> Iterator[Callable[..., StandIn]]:
    """Start stand-ins for Telemetron."""
    started: list[StandIn] = []

    def start(certificate: Path | None = None) -> StandIn:
        started.append(StandIn(certificate))
        return started[-1]

    yield start
    for stand_in in started:
        stand_in.stop()


@pytest.fixture
def stand_in(start: Callable[..., StandIn]) -> StandIn:
    return start()


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Run Python source in a process of its own, with telemetron_agent on its path."""
    processes: list[subprocess.Popen[str]] = []

    def run(source: str, url: str = "", **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source],
            env={**os.environ, "PYTHONPATH": str(SDK), "TELEMETRON_URL": url, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def activity(changes: Changes) -> Activity:
    return Activity(changes)
