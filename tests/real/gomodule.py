"""Programs that are Go modules: built once, with Go, into the cache."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.real.process import CACHE, locked

BUILD_SECONDS = 2400


def install(name: str, package: str, version: str, program: str) -> Path:
    """The binary; made where it is not there yet. `program` is what Go calls it."""
    binary = CACHE / "bin" / f"{name}-{version}"
    with locked(name):
        if not binary.exists():
            binary.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                _install(folder, f"{package}@{version}")
                shutil.move(f"{folder}/{program}", binary)
    return binary


def _install(folder: str, package: str) -> None:
    environ = _environment(folder)
    subprocess.run(["go", "install", package], env=environ, check=True, timeout=BUILD_SECONDS)


def build(name: str, module: Path, program: str, *flags: str) -> Path:
    """Return the binary of a module of this repository; build it again if a file has changed."""
    files = sorted([*module.glob("*.go"), *module.glob("go.*")])
    key = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    binary = CACHE / "bin" / f"{name}-{key}" / program
    with locked(name):
        if not binary.exists():
            binary.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                _build(folder, module, flags)
                shutil.move(f"{folder}/binary", binary)
    return binary


def _build(folder: str, module: Path, flags: Sequence[str]) -> None:
    environ = _environment(folder)
    environ["GOFLAGS"] += " -mod=readonly -buildvcs=false"
    command = ["go", "build", "-trimpath", *flags, "-o", f"{folder}/binary", "."]
    subprocess.run(command, cwd=module, env=environ, check=True, timeout=BUILD_SECONDS)


def fetch(package: str, version: str, folder: str) -> Path:
    """The module's own files, below the folder."""
    command = ["go", "mod", "download", "-json", f"{package}@{version}"]
    environ = _environment(folder)
    done = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, check=True, timeout=BUILD_SECONDS
    )
    return Path(json.loads(done.stdout)["Dir"])


def _environment(folder: str) -> dict[str, str]:
    """Go's own caches are many times as large as what they make, so they go with the folder."""
    go = {"GOBIN": folder, "GOMODCACHE": f"{folder}/mod", "GOCACHE": f"{folder}/build"}
    flags = {"GOTOOLCHAIN": "local", "GOFLAGS": "-modcacherw", "CGO_ENABLED": "0"}
    return {**os.environ, **go, **flags}
