"""A user's own folder `collectors` does not shadow the installed collectors."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

SECONDS = 50
CONFIG = """\
server: {host: 127.0.0.1, port: 0}
sources:
  heartbeats: {}
  kafka: {bootstrap_servers: ["127.0.0.1:9"]}
  litellm: {url: "http://127.0.0.1:9"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a working directory with a package `collectors` that cannot be imported."""
    (tmp_path / "collectors").mkdir()
    (tmp_path / "collectors" / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    (tmp_path / "telemetron.yaml").write_text(CONFIG)
    return tmp_path


def arguments(folder: Path, command: str) -> dict[str, Any]:
    """Return the arguments of a process whose import path begins with the folder."""
    options = [] if command == "collectors" else ["--config", "telemetron.yaml"]
    return {
        "args": [sys.executable, "-m", "telemetron", command, *options],
        "cwd": folder,
        "env": {**os.environ, "PYTHONPATH": str(folder)},
        "text": True,
    }


@pytest.mark.parametrize("command", ["validate", "collectors"])
def test_a_command_works_beside_a_folder_named_collectors(folder: Path, command: str) -> None:
    done = subprocess.run(**arguments(folder, command), capture_output=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrong package" not in done.stdout


def test_serve_runs_its_collectors_beside_a_folder_named_collectors(folder: Path) -> None:
    with subprocess.Popen(**arguments(folder, "serve"), stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr
            messages = (json.loads(line)["message"] for line in process.stderr)
            url = next(one for one in messages if one.startswith("listening")).split()[-1]
            sources = loaded(url)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=SECONDS)
    reasons = {problem["reason"] for source in sources for problem in source["problems"]}
    assert reasons == {"Unreachable"}  # nothing listens on port 9: kafka and litellm were imported


def loaded(url: str) -> list[dict[str, Any]]:
    """Return the sources once kafka and litellm have reported a problem."""
    query: dict[str, str] = {}
    while True:
        answer = httpx.get(
            f"{url}/system/state/sources", params=query, trust_env=False, timeout=SECONDS
        )
        sources: list[dict[str, Any]] = answer.raise_for_status().json()["sources"]
        if sum(bool(source["problems"]) for source in sources) == 2:
            return sources
        query = {"since": answer.headers["etag"], "wait": "10s"}
