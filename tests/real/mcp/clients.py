"""Real MCP clients from npm and the conformance suite, in the cache, with a Node of their own."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.real.process import CACHE, locked

PACKAGES = {
    "@anthropic-ai/claude-code": "2.1.328",
    "@modelcontextprotocol/conformance": "0.1.16",
    "@modelcontextprotocol/inspector": "2.12.0",
    "node": "22.23.3",
}
KEY = hashlib.sha256(json.dumps(PACKAGES, sort_keys=True).encode()).hexdigest()[:12]
FOLDER = CACHE / f"mcp-clients-{KEY}"
BINARIES = FOLDER / "node_modules" / ".bin"
INSTALL_SECONDS = 480
RUN_SECONDS = 90


def missing() -> str | None:
    """Why they cannot be installed or run."""
    if shutil.which("npm") is None:
        return "npm is not installed"
    return None if (FOLDER / "ready").exists() else "run python -m tests.real.build first"


def build() -> None:
    """All of them; installed where they are not there yet."""
    if shutil.which("npm") is None:
        return
    with locked("mcp-clients"):
        if not (FOLDER / "ready").exists():
            for old in CACHE.glob("mcp-clients-*/"):
                shutil.rmtree(old)
            FOLDER.mkdir()
            wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
            quiet = ("--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(FOLDER))
            subprocess.run(["npm", "install", *quiet, *wanted], check=True, timeout=INSTALL_SECONDS)
            (FOLDER / "ready").touch()


def start(
    *command: str, home: Path, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    """A client, with its own Node and home."""
    environ = {**os.environ, **(env or {}), "HOME": str(home)}
    environ["PATH"] = f"{BINARIES}:{environ['PATH']}"
    # No client may look for a newer version of itself.
    environ |= {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    return subprocess.Popen(
        [str(BINARIES / command[0]), *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ,
        cwd=home,
    )


def run(*command: str, home: Path) -> str:
    """The output of a client that succeeds."""
    with start(*command, home=home) as process:
        out, _ = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, out
    return out
