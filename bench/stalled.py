"""What readers cost that ask for the state and then take nothing, while it changes.

`python -m bench.stalled` starts a server of its own: a document of 10 MB of which two chunks change
100 times a second. `--url` and `--pid` name another, which somebody else has to change. The stalled
readers' receive buffers are tiny, so that what the kernel holds is the server's. A healthy reader
reads all the while. Loopback only; Linux only.
"""

import argparse
import asyncio
import http.client
import resource
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CHUNK = 256 * 1024
CHUNKS = 40
CHANGES_PER_SECOND = 100
ARRIVAL_SECONDS = 5  # so that the readers hold many revisions
PATH = "/system/state"
MIB = 1024 * 1024


class Document:
    """A bare application with a document that changes; its first chunk begins with the revision."""

    def __init__(self) -> None:
        self.revision = 0
        self.chunks = tuple(self._chunk() for _ in range(CHUNKS))

    def _chunk(self) -> bytes:
        return b"%020d" % self.revision + bytes(CHUNK - 20)

    async def change(self) -> None:
        while True:
            self.revision += 1
            chunks = list(self.chunks)
            chunks[0] = self._chunk()
            chunks[1 + self.revision % (CHUNKS - 1)] = self._chunk()
            self.chunks = tuple(chunks)
            await asyncio.sleep(1 / CHANGES_PER_SECOND)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            changing = asyncio.create_task(self.change())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            changing.cancel()
            await send({"type": "lifespan.shutdown.complete"})
            return
        chunks = self.chunks
        headers = [(b"content-length", b"%d" % sum(map(len, chunks)))]
        with scope["state"]["connection"].hold(chunks):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})


@contextmanager
def own_server() -> Iterator[tuple[str, int]]:
    """The document in a process of its own: its URL and pid."""
    command = [sys.executable, "-m", "bench.stalled", "--serve"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        url = next(line for line in process.stderr if "listening on" in line).split()[-1]
        try:
            yield url, process.pid
        finally:
            process.terminate()


def serve() -> int:
    import logging

    from telemetron.web.server import serve

    logging.basicConfig(level=logging.INFO)
    return serve(Document())


class Healthy(threading.Thread):
    """Reads one answer after the other, and keeps how long each took."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection(host, port, timeout=60)
        self.seconds: list[float] = []
        self.failures = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.1):
            began = time.monotonic()
            try:
                self.connection.request("GET", PATH)
                self.connection.getresponse().read()
                self.seconds.append(time.monotonic() - began)
            except (OSError, http.client.HTTPException):
                self.failures += 1
                self.connection.close()


def stall(host: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((host, port))
    sock.sendall(f"GET {PATH} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    return sock


def alive(readers: list[socket.socket]) -> int:
    poll = select.poll()
    for reader in readers:
        poll.register(reader, 0)  # errors alone
    return len(readers) - len(poll.poll(0))


def process_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def kernel_bytes() -> int:
    """The buffers of all TCP sockets of the machine."""
    line = next(
        each for each in Path("/proc/net/sockstat").read_text().splitlines() if each[:4] == "TCP:"
    )
    return int(line.split()[-1]) * resource.getpagesize()


def measure(url: str, pid: int, number: int, seconds: int) -> None:
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 80
    healthy = Healthy(host, port)
    healthy.start()
    time.sleep(2)
    quiet, healthy.seconds = healthy.seconds, []
    process, kernel = process_bytes(pid), kernel_bytes()
    print(f"before: process {process / MIB:.0f} MiB, kernel {kernel / MIB:.0f} MiB")
    print("   s  readers  process MiB  kernel MiB  more than before, MiB")
    readers: list[socket.socket] = []
    began, printed = time.monotonic(), -1.0
    while (now := time.monotonic() - began) < seconds:
        if len(readers) < number * min(now / ARRIVAL_SECONDS, 1):
            readers.append(stall(host, port))
            continue
        time.sleep(0.005)
        if now < printed + 1:
            continue
        printed = now
        more = process_bytes(pid) - process, kernel_bytes() - kernel
        print(
            f"{now:4.0f} {alive(readers):8} {(more[0] + process) / MIB:12.0f}"
            f" {(more[1] + kernel) / MIB:11.0f} {sum(more) / MIB:10.0f}"
        )
    print(f"healthy reader, quiet: {told(quiet)}")
    print(f"healthy reader, among the stalled: {told(healthy.seconds)}")
    print(f"its failed reads: {healthy.failures}")
    healthy.stopped.set()
    healthy.join()
    for reader in readers:
        reader.close()
    time.sleep(1)
    print(
        f"after: process {process_bytes(pid) / MIB:.0f} MiB, kernel {kernel_bytes() / MIB:.0f} MiB"
    )


def told(seconds: list[float]) -> str:
    if not seconds:
        return "no answer"
    median, most = statistics.median(seconds) * 1000, max(seconds) * 1000
    return f"{len(seconds)} answers, median {median:.0f} ms, most {most:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="the server to ask, instead of one of its own")
    parser.add_argument("--pid", type=int, help="that server's process")
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        sys.exit(serve())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if asked.url:
        measure(asked.url, asked.pid, asked.readers, asked.seconds)
        return
    with own_server() as (url, pid):
        measure(url, pid, asked.readers, asked.seconds)


if __name__ == "__main__":
    main()
