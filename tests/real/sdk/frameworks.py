"""An environment of its own with the frameworks the SDK has modules for, locked, in the cache."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.real.process import CACHE

LOCK = Path(__file__).parents[3] / "requirements" / "frameworks.txt"
INSTALL_SECONDS = 480
KEY = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
VENV = CACHE / f"frameworks-{sys.version_info.major}.{sys.version_info.minor}-{KEY}"


def build() -> Path:
    """The environment's Python; made where it is not there yet, by one process at a time."""
    python = VENV / "bin" / "python"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "frameworks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (VENV / "ready").exists():
            _make(python)
            (VENV / "ready").touch()
    return python


def _make(python: Path) -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True, timeout=INSTALL_SECONDS)
    wanted = ["--quiet", "--require-hashes", "-r", str(LOCK)]
    subprocess.run([python, "-m", "pip", "install", *wanted], check=True, timeout=INSTALL_SECONDS)
