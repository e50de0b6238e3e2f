"""The memory that readers hold back if they request the state and receive nothing while it changes.

Their receive buffers are tiny, so that what the kernel holds is the server's. A healthy reader
reads all the while. Linux only.
"""

import http.client
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import process
from bench.process import Server
from bench.reads import HUGE
from bench.report import Row, at_most, figure, note

READERS = 500
CHANGES = 100
LIMIT_MIB = 128
ARRIVAL_SECONDS = 5.0  # so that the readers hold many revisions
QUIET_SECONDS = 2.0
LOOK_SECONDS = 0.2
MIB = 1024 * 1024


class Held(NamedTuple):
    """Bytes, and the number of stalled readers that are still connected."""

    process: float
    kernel: float
    readers: int

    def above(self, before: "Held") -> float:
        """Return the MiB above an earlier look."""
        return (self.process - before.process + self.kernel - before.kernel) / MIB


def run(quick: bool) -> Iterator[Row]:
    """Change 10 MB while readers stall one after the other."""
    note(f"stalled readers: {READERS}")
    _raise_file_limit()
    with process.synthetic(HUGE.agents, HUGE.pods) as server:
        server.load(changes=CHANGES)
        healthy = Healthy(server)
        healthy.start()
        time.sleep(QUIET_SECONDS)
        quiet, healthy.seconds = healthy.seconds, []
        looks = _stalled(server, 8 if quick else 25)
        healthy.stop()
    yield from _rows(looks, quiet, healthy)


def _rows(looks: list[Held], quiet: list[float], healthy: "Healthy") -> Iterator[Row]:
    before = looks[0]
    most = max(looks, key=lambda look: look.above(before))
    detail = (
        f"process {before.process / MIB:.0f} → {most.process / MIB:.0f} MiB, buffers of all of the"
        f" machine's sockets {before.kernel / MIB:.0f} → {most.kernel / MIB:.0f} MiB;"
        f" {looks[-1].readers} of the readers left at the end"
    )
    what = f"{READERS} stalled readers of 10 MB at {CHANGES} changes a second: most held back"
    yield at_most(what, most.above(before), LIMIT_MIB, "MiB", detail)
    what = "a healthy reader of the same, ten times a second, meanwhile: median"
    detail = f"{_times(healthy.seconds)}; before them {_times(quiet)}; {healthy.failures} failed"
    yield figure(what, median(healthy.seconds) * 1000, "ms", detail)


def _times(seconds: list[float]) -> str:
    return f"median {median(seconds) * 1000:.0f}, at most {max(seconds) * 1000:.0f} ms"


class Healthy(threading.Thread):
    """Reads one answer after the other, and keeps the seconds of each."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.seconds: list[float] = []
        self.failures = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Read until stopped."""
        while not self.stopped.wait(0.1):
            began = time.monotonic()
            try:
                self.connection.request("GET", "/system/state")
                self.connection.getresponse().read()
                self.seconds.append(time.monotonic() - began)
            except (OSError, http.client.HTTPException):
                self.failures += 1
                self.connection.close()

    def stop(self) -> None:
        """Stop the reader."""
        self.stopped.set()
        self.join()


def _stalled(server: Server, seconds: float) -> list[Held]:
    """Return the memory held back over time; the first look is without readers."""
    readers: list[socket.socket] = []
    looks = [_look(server, readers)]
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        while len(readers) < READERS * min(now / ARRIVAL_SECONDS, 1):
            readers.append(_stall(server))
        looks.append(_look(server, readers))
        time.sleep(LOOK_SECONDS)
    for reader in readers:
        reader.close()
    return looks


def _stall(server: Server) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(b"GET /system/state HTTP/1.1\r\nhost: localhost\r\n\r\n")
    return sock


def _look(server: Server, readers: list[socket.socket]) -> Held:
    poll = select.poll()
    for reader in readers:
        poll.register(reader, 0)  # only errors
    return Held(server.memory() * 1e6, _kernel_bytes(), len(readers) - len(poll.poll(0)))


def _kernel_bytes() -> int:
    """Return the bytes in the buffers of all TCP sockets of the machine."""
    lines = Path("/proc/net/sockstat").read_text().splitlines()
    tcp = next(line for line in lines if line.startswith("TCP:"))
    return int(tcp.split()[-1]) * resource.getpagesize()


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
