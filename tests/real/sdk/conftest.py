"""Agents as processes of their own, with frameworks or without, and a Telemetron that restarts."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.real.sdk import frameworks as built
from tests.sdk.stand_in import StandIn

ROOT = Path(__file__).parents[3]
Start = Callable[..., "subprocess.Popen[str]"]
QUIET = {  # what the frameworks would send home
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "OTEL_SDK_DISABLED": "true",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "LANGSMITH_TRACING": "false",
}


@pytest.fixture(scope="session")
def frameworks() -> Path:
    """The Python that has the frameworks."""
    return built.build()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """A server that records, and misbehaves when told to."""
    server = StandIn()
    yield server
    server.stop()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Start]:
    """Starts a program, from source or a file, as an agent of the server at `url`."""
    started: list[subprocess.Popen[str]] = []

    def run(
        program: str | Path,
        *arguments: str,
        url: str = "",
        python: Any = sys.executable,
        **env: str,
    ) -> "subprocess.Popen[str]":
        code = ["-c", program] if isinstance(program, str) else [str(program)]
        foreign = ("TELEMETRON_", "POD_", "COVERAGE_", "COV_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        process = subprocess.Popen(
            [str(python), *code, *arguments],
            env={
                **kept,
                **QUIET,
                "HOME": str(tmp_path),
                "PYTHONPATH": str(ROOT / "sdk"),
                "TELEMETRON_URL": url,
                **env,
            },
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class Telemetron:
    """The real server, on one port from restart to restart."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is there once it answers."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("TELEMETRON_", "COV"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "telemetron", "serve"],
            env={**environ, "SERVER_PORT": str(self.port), "LOG_LEVEL": "error"},
            cwd=ROOT,
        )
        self.wait_for(lambda _: True)

    def kill(self) -> None:
        """As a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def agents(self) -> list[dict[str, Any]]:
        """What the document tells of agents."""
        with urllib.request.urlopen(f"{self.url}/system/state?sections=agents", timeout=5) as got:
            agents: list[dict[str, Any]] = json.load(got)["agents"]
        return agents

    def wait_for(
        self, wanted: Callable[[list[dict[str, Any]]], object], seconds: float = 20
    ) -> Any:
        """The agents, once they are as wanted."""
        end = time.monotonic() + seconds
        while True:
            try:
                agents = self.agents()
                if wanted(agents):
                    return agents
                last: object = agents
            except OSError as error:
                last = error
            assert time.monotonic() < end, last
            time.sleep(0.02)


@pytest.fixture
def telemetron() -> Iterator[Telemetron]:
    """A real server that runs."""
    server = Telemetron()
    server.start()
    yield server
    server.kill()
