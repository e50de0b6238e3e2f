"""From the start of the process to the first answer of `/livez`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median

from bench import process
from bench.report import Row, at_most, note

TARGET_SECONDS = 0.6
RUNS = 10
HEAVIEST = 8
REQUEST = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def run(quick: bool) -> Iterator[Row]:
    """Measure the median of several starts; then the slowest imports."""
    note("starts")
    _start()  # compiles the byte code
    times = [_start() for _ in range(3 if quick else RUNS)]
    figure = f"{min(times):.3f} to {max(times):.3f} s in {len(times)} starts"
    yield at_most("start to first 200 on /livez", median(times), TARGET_SECONDS, "s", figure)
    heaviest = ", ".join(f"{name} {ms:.0f}" for name, ms in _imports())
    yield Row("its slowest imports, ms each with their own imports", heaviest)


def _start() -> float:
    started = time.perf_counter()
    with process.telemetron(wait=False) as server:
        return _first_answer(server.port) - started


def _first_answer(port: int) -> float:
    end = time.monotonic() + process.START_SECONDS
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), process.START_SECONDS) as sock:
                sock.sendall(REQUEST)
                if sock.recv(100).startswith(b"HTTP/1.1 200"):
                    return time.perf_counter()
        except OSError:
            time.sleep(0.002)
    raise TimeoutError("it did not start")


def _imports() -> list[tuple[str, float]]:
    """Return the slowest packages with their own imports, in ms; the largest first."""
    modules = "telemetron.cli, telemetron.log, telemetron.web.app, telemetron_collectors.heartbeats"
    code = f"import {modules}"
    command = [sys.executable, "-X", "importtime", "-c", code]
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, capture_output=True, check=True, text=True, cwd=process.ROOT, env=env, timeout=60
    )
    rows = [line.split("|") for line in done.stderr.splitlines() if "|" in line][1:]
    cost = {name.strip(): int(cumulative) / 1000 for _, cumulative, name in rows}
    packages = {name: ms for name, ms in cost.items() if "." not in name}
    return sorted(packages.items(), key=lambda item: -item[1])[:HEAVIEST]
