"""The wheel of the SDK, alone in an empty environment."""

import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

ROOT = Path(__file__).parents[3]
OLDEST = next(Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9"), None) or which("python3.9")

USE = """
import importlib.metadata as metadata, resource, sys, time
before, memory = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import telemetron_agent
took = time.perf_counter() - before
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
assert "site-packages" in telemetron_agent.__file__, telemetron_agent.__file__
assert metadata.requires("telemetron-agent") is None
with telemetron_agent.Agent("x") as agent, agent.task("t") as task:
    task.progress("on")
    assert telemetron_agent.current() is task
print(took, grown)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "./sdk"], check=True, timeout=60, cwd=ROOT
    )
    (made,) = folder.glob("telemetron_agent-*-py3-none-any.whl")
    return made


@pytest.mark.alone
@pytest.mark.parametrize("python", [sys.executable, OLDEST])
def test_it_installs_alone(wheel: Path, tmp_path: Path, python: str | Path | None) -> None:
    if python is None:
        pytest.skip("there is no Python 3.9 here")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True, timeout=60)
    empty = tmp_path / "venv" / "bin" / "python"
    install = [empty, "-m", "pip", "install", "--quiet", "--no-index", wheel]
    subprocess.run(install, check=True, timeout=60)
    done = [
        subprocess.run([empty, "-I", "-c", USE], check=True, timeout=60, capture_output=True)
        for _ in range(4)
    ]
    took, grown = map(float, min(one.stdout for one in done[1:]).split())
    assert took <= 0.05, f"import took {took} s"
    assert grown <= 10 * 1024, f"import took {grown} KiB"
