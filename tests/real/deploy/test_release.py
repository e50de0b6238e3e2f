"""What is released installs into an empty environment, and the demo runs there."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

import telemetron
import telemetron_agent
from tests.ports import free_port
from tests.real.deploy.kustomize import DEPLOY
from tests.real.process import running, wait_until

ROOT = DEPLOY.parents[1]
AGENTS = {"planner", "researcher", "writer"}
INSTALL_SECONDS = 150


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both projects, as wheels and as source archives."""
    dist = tmp_path_factory.mktemp("dist")
    for project in (ROOT / "sdk", ROOT):
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, project]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
    return dist


def test_there_is_a_wheel_and_a_source_archive_of_each(dist: Path) -> None:
    server, agent = telemetron.__version__, telemetron_agent.__version__
    assert {file.name for file in dist.iterdir() if file.name != ".gitignore"} == {
        f"telemetron-{server}-py3-none-any.whl",
        f"telemetron-{server}.tar.gz",
        f"telemetron_agent-{agent}-py3-none-any.whl",
        f"telemetron_agent-{agent}.tar.gz",
    }


def test_a_version_is_written_in_one_place() -> None:
    """And where a file must repeat it, it is the same."""
    for project in (ROOT, ROOT / "sdk"):
        assert (
            "version"
            in tomllib.loads((project / "pyproject.toml").read_text())["project"]["dynamic"]
        )
    version = re.escape(telemetron.__version__)
    for name in ("base", "sidecar", "components/mcp"):
        assert re.search(
            rf"newTag: {version}\n", (DEPLOY / name / "kustomization.yaml").read_text()
        )
    assert re.search(rf"^## {version}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_the_demo_runs_where_nothing_else_is(dist: Path, tmp_path: Path, kind: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True
    )
    archives = sorted(dist.glob("*.whl" if kind == "wheel" else "*.tar.gz"))
    install = [uv, "pip", "install", "--quiet", "--python", python, *archives]
    subprocess.run(install, check=True, timeout=INSTALL_SECONDS)
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    port = free_port()
    command = ["env", "-i", *(f"{k}={v}" for k, v in environ.items())]
    demo = [python.with_name("telemetron"), "demo", f"--port={port}"]
    with running([*command, *map(str, demo)], log=tmp_path / "log", cwd=tmp_path) as process:
        wait_until(lambda: agents(python, port) == AGENTS, seconds=40, what="the demo")
        process.terminate()
        started = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - started < 10


def agents(python: Path, port: int) -> set[str]:
    """Who beats, as `telemetron state` of that environment shows it."""
    command = [python.with_name("telemetron"), "state", f"--url=http://127.0.0.1:{port}"]
    done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    if done.returncode:
        return set()
    state: dict[str, Any] = json.loads(done.stdout)
    return {agent["name"] for agent in state["agents"] if agent["status"] in ("active", "idle")}
