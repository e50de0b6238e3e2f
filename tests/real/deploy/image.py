"""The image, built and run without a daemon: buildah builds it, crun runs it.

Its base stands in for `python:3.13-slim` where no image registry is reached: a Debian made by
debootstrap, whose Python is of the same version. Base and wheels are made once, into the cache.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import telemetron
from tests.real.process import CACHE, locked, running

ROOT = Path(__file__).parents[3]
FOLDER = CACHE / "image"
DRIVERS = ("overlay", "vfs")  # vfs works everywhere, but copies everything each time
DEBIAN, PYTHON = "trixie", "3.13"
BASE = f"localhost/telemetron-base-{DEBIAN}:latest"
IMAGE = f"localhost/telemetron:{telemetron.__version__}"
LOCKS = ("run.txt", "mcp.txt", "build.txt")
BUILD_SECONDS = 400
# Out of sight of the machine's cgroups, which may be such as crun does not take.
HIDE = 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"'
ALONE = "ip link set lo up && ip address add {}/32 dev lo && "
NEEDED = ("buildah", "crun", "debootstrap", "ip", "nsenter")


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in NEEDED if shutil.which(name) is None]


@cache
def engine() -> list[str]:
    """buildah, with a storage of its own in the cache."""
    for driver in DRIVERS:
        folder = FOLDER / driver
        command = ["buildah", f"--root={folder / 'root'}", f"--runroot={folder / 'run'}"]
        command.append(f"--storage-driver={driver}")
        if not subprocess.run([*command, "info"], capture_output=True, timeout=60).returncode:
            return command
    raise RuntimeError("buildah finds no storage driver")


def buildah(*arguments: str | Path) -> str:
    """What it prints."""
    done = subprocess.run(
        [*engine(), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=BUILD_SECONDS,
    )
    return done.stdout.strip()


def build() -> None:
    """Base and wheels; made where they are not there yet. The image itself is the tests'."""
    if not missing():
        with locked("image"):
            _base()
            _wheels()


def _build(base: str, wheels: Path) -> str:
    """The image's id, as `make image` makes it."""
    options = (
        *("--isolation=chroot", "--format=docker", "--layers=false", f"--build-arg=BASE={base}"),
        *(f"--volume={wheels}:/wheels:ro", f"--volume={wheels / 'pip.conf'}:/etc/pip.conf:ro"),
    )
    made = subprocess.run(
        [
            "make",
            "--no-print-directory",
            "image",
            f"ENGINE={' '.join(engine())}",
            f"ARGS={' '.join(options)}",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=BUILD_SECONDS,
    )
    return made.stdout.splitlines()[-1]


def _clean() -> None:
    """Containers of runs that were killed, and images of earlier sources that nobody uses."""
    for name in buildah("containers", "--format", "{{.ContainerName}}").split():
        if not Path("/proc", name.rpartition("-")[2]).exists():
            buildah("rm", name)
    # It fails where one is used, after it has removed the others.
    subprocess.run([*engine(), "rmi", "--prune"], capture_output=True, timeout=60, check=False)


def _base() -> str:
    if not _has(BASE):
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            packages = "--include=python3,python3-venv,ca-certificates"
            subprocess.run(
                ["debootstrap", "--variant=minbase", packages, DEBIAN, folder],
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=BUILD_SECONDS,
            )
            for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc"):
                shutil.rmtree(Path(folder, waste))
            container = buildah("from", f"--name=base-{os.getpid()}", "scratch")
            buildah("copy", "--quiet", container, folder, "/")
            buildah("commit", "--quiet", container, BASE)
            buildah("rm", container)
    return BASE


def _has(name: str) -> bool:
    return name in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()


def _wheels() -> Path:
    """A folder of all that the locks name, and the pip.conf that takes nothing else."""
    locks = b"".join((ROOT / "requirements" / lock).read_bytes() for lock in LOCKS)
    digest = hashlib.sha256(PYTHON.encode() + locks).hexdigest()
    wheels = FOLDER / f"wheels-{digest[:16]}"
    if (wheels / "pip.conf").exists():
        return wheels
    for old in FOLDER.glob("wheels-*"):
        shutil.rmtree(old)
    wheels.mkdir(parents=True)
    machine = platform.machine()
    platforms = [f"--platform=manylinux{tag}_{machine}" for tag in ("2014", "_2_17", "_2_28")]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"),
            *("--only-binary=:all:", f"--python-version={PYTHON}", *platforms, "--dest", wheels),
            *(part for lock in LOCKS for part in ("-r", ROOT / "requirements" / lock)),
        ],
        check=True,
        timeout=BUILD_SECONDS,
    )
    (wheels / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    return wheels


def megabytes(name: str) -> int:
    """What an image holds, unpacked."""
    listed = json.loads(buildah("images", "--json"))
    (size,) = [image["size"] for image in listed if name in (image["names"] or ())]
    number, unit = size.split()
    assert unit == "MB", size
    return int(number)


class Image(NamedTuple):
    """An image whose root file system is mounted."""

    root: Path
    said: dict[str, Any]
    """Of itself, as Docker has it: `User`, `Env`, `Entrypoint`, `Labels`."""


@contextmanager
def image() -> Iterator[Image]:
    """The image of the present sources."""
    with locked("image"):
        _clean()
        id = _build(_base(), _wheels())
        said = json.loads(buildah("inspect", "--type", "image", id))["Docker"]["config"]
        name = f"--name=telemetron-{uuid4().hex}-{os.getpid()}"
        container = buildah("from", "--pull-never", name, id)
    try:
        yield Image(Path(buildah("mount", container)), said)
    finally:
        buildah("rm", container)


@contextmanager
def container(
    image: Image,
    folder: Path,
    *,
    command: Sequence[str] = (),
    entrypoint: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    files: Mapping[str, Path] | None = None,
    address: str | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A container as the manifests run one: read-only, no capability, the user of the image.

    It shares the network of this machine, or has one of its own, with this address and loopback; so
    has the process that is yielded. `files` are mounted where their names say; `entrypoint` runs in
    place of all that the image runs.
    """
    said = image.said
    process = {
        "cwd": "/",
        "args": [*entrypoint] or [*said["Entrypoint"], *(command or said["Cmd"])],
        "env": [*said["Env"], *(f"{key}={value}" for key, value in (env or {}).items())],
        "user": dict(zip(("uid", "gid"), map(int, said["User"].split(":")), strict=True)),
        "capabilities": {},
        "noNewPrivileges": True,
    }
    mounts = [{"type": "proc", "source": "proc", "destination": "/proc"}]
    binds = [
        {"type": "bind", "source": str(path), "destination": name, "options": ["bind", "ro"]}
        for name, path in (files or {}).items()
    ]
    spec = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(image.root), "readonly": True},
        "mounts": [*mounts, *binds],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}]},
    }
    (folder / "config.json").write_text(json.dumps(spec))
    unshare = ["unshare", "--mount", *(["--net"] if address else [])]
    script = (ALONE.format(address) if address else "") + HIDE
    crun = ["crun", "--cgroup-manager=disabled", "run", f"--bundle={folder}", uuid4().hex]
    with running([*unshare, "sh", "-c", script, "sh", *crun], log=folder / "log") as started:
        yield started
