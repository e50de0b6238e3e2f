"""From the start of the process to the first answer of `/livez`."""

import socket
import time
from collections.abc import Iterator
from statistics import median

from bench import process
from bench.report import Row, at_most, note

GOAL_SECONDS = 0.45
RUNS = 10
REQUEST = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def run(quick: bool) -> Iterator[Row]:
    """Measure the median of several starts."""
    note("starts")
    _start()  # compiles the byte code
    times = [_start() for _ in range(3 if quick else RUNS)]
    detail = f"{min(times):.3f} to {max(times):.3f} s in {len(times)} starts"
    yield at_most("start to first 200 on /livez", median(times), GOAL_SECONDS, "s", detail)


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
