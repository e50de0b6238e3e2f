"""The servers that are measured, each a process of its own, on the first core; load is on the last.

All are given back as context managers: leaving one ends its process.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from tests.real import gomodule

ROOT = Path(__file__).parent.parent
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
START_SECONDS = 15.0
STOP_SECONDS = 10.0
TIMEOUT = 30.0

ENTRY_POINT = "[telemetron.collectors]\nsynthetic = bench.synthetic:collector\n"
METADATA = "Metadata-Version: 2.1\nName: synthetic\nVersion: 0\n"

UVICORN = (
    "--loop=uvloop --http=httptools --ws=none --interface=asgi3 --lifespan=off --no-access-log"
    " --no-server-header --no-proxy-headers --timeout-keep-alive=75 --log-level=warning"
)


class Reply(NamedTuple):
    """A complete answer."""

    headers: list[tuple[str, str]]
    body: bytes


class LoopTimes(NamedTuple):
    """The measurements of the event loop by the synthetic collector, in seconds."""

    wall: list[float]
    cpu: list[float]
    gc: list[float]


class Server:
    """A listening process."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, method: str = "GET") -> Reply:
        """Send one request; urllib's errors are raised for a status above 399."""
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return Reply(response.getheaders(), response.read())

    def state(self) -> Any:
        """Return the document."""
        return json.loads(self.get("/system/state").body)

    def load(self, **load: float) -> None:
        """Set the load of the synthetic collector."""
        query = "&".join(f"{name}={value}" for name, value in load.items())
        self.get(f"/bench/load?{query}", "POST")

    def loop_times(self) -> LoopTimes:
        """Return the measurements of the synthetic collector since the last call."""
        return LoopTimes(**json.loads(self.get("/bench/loop").body))

    def metric(self, sample: str) -> float:
        """Return the value of one sample of `/metrics`; 0 if there is none."""
        lines = self.get("/metrics").body.decode().splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(sample)), 0.0)

    def worked(self) -> float:
        """Return the seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, field: str = "VmRSS") -> float:
        """Return the MB (10^6 bytes) of memory now; `VmHWM`: the largest so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith(field))


@contextmanager
def telemetron(
    sources: Mapping[str, Any] | None = None,
    *,
    wait: bool = True,
    program: str = "telemetron",
    **settings: Any,
) -> Iterator[Server]:
    """Run the real server with heartbeats; `sources` and `settings` as in its configuration file.

    Without `wait` it may not listen yet. `program` is the module to run.
    """
    with tempfile.TemporaryDirectory() as folder:
        info = Path(folder, "synthetic-0.dist-info")
        info.mkdir()
        (info / "entry_points.txt").write_text(ENTRY_POINT)
        (info / "METADATA").write_text(METADATA)
        config = Path(folder, "telemetron.yaml")
        config.write_text(json.dumps({"sources": {"heartbeats": {}, **(sources or {})}} | settings))
        port = _free_port()
        env = {"PYTHONPATH": f"{folder}:{ROOT}", "LOG_LEVEL": "warning", "SERVER_PORT": f"{port}"}
        command = [sys.executable, "-m", program, "serve", f"--config={config}"]
        with _serving(command, env, port, wait=wait) as server:
            yield server


@contextmanager
def synthetic(agents: int, pods: int, **more: Any) -> Iterator[Server]:
    """Run the real server with a number of agents and pods; `more` as for `telemetron`."""
    with telemetron({"synthetic": {"agents": agents, "pods": pods}}, **more) as server:
        end = time.monotonic() + START_SECONDS
        while len(server.state()["agents"]) < agents or not server.state()["sources"]:
            if time.monotonic() > end:
                raise TimeoutError("the synthetic agents do not show")
            time.sleep(0.1)
        yield server


@contextmanager
def bare(body: Path | None = None, headers: Sequence[Any] = ()) -> Iterator[Server]:
    """Run `bench.bare` with the uvicorn options of Telemetron: it reads beats if it has no body."""
    env = {"PYTHONPATH": str(ROOT), "BENCH_HEADERS": json.dumps(headers)}
    if body:
        env["BENCH_BODY"] = str(body)
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "bench.bare:read" if body else "bench.bare:beat",
        f"--port={port}",
    ]
    with _serving([*command, *UVICORN.split()], env, port) as server:
        yield server


@contextmanager
def protocol(body: Path | None = None, headers: Sequence[Any] = ()) -> Iterator[Server]:
    """Run `bench.protocol`."""
    env = {"PYTHONPATH": str(ROOT), "BENCH_HEADERS": json.dumps(headers)}
    if body:
        env["BENCH_BODY"] = str(body)
    port = _free_port()
    with _serving([sys.executable, "-m", "bench.protocol", str(port)], env, port) as server:
        yield server


@contextmanager
def go(body: Path, headers: Sequence[Any] = ()) -> Iterator[Server]:
    """Run the server of the Go module in `go/`, built once, with one thread for its code."""
    binary = gomodule.build("bench-go", ROOT / "bench" / "go", "server")
    port = _free_port()
    command = [str(binary), f"127.0.0.1:{port}", str(body), *chain.from_iterable(headers)]
    with _serving(command, {"GOMAXPROCS": "1"}, port) as server:
        yield server


def pin(core: int) -> None:
    """Keep this process on one core."""
    os.sched_setaffinity(0, {core})


@contextmanager
def _serving(
    command: Sequence[str], env: Mapping[str, str], port: int, *, wait: bool = True
) -> Iterator[Server]:
    # Byte code is kept, as for an installed package.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, env=kept | dict(env), preexec_fn=lambda: pin(SERVER_CORE))
    try:
        if wait:
            _wait(process, port)
        yield Server(process, port)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait until it listens."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)
    raise RuntimeError(f"it did not start: {process.args!r}")
