"""A server as a process, with what a test wants to hang."""

import signal
import socket
import subprocess
import sys
import time

import pytest

DEADLINE = 50.0
"""Seconds after which a test gives up, which is before anything ends that hangs."""

# A program whose answers wait, and that starts what the test wants to hang.
PROGRAM = """
import asyncio, contextlib, logging, resource, sys, threading, time
from telemetron.web.server.server import serve

logging.basicConfig(level=logging.INFO)
ended = asyncio.Event()
kept = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        kept.append(START())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("stopping", flush=True)
        await STOP()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["path"] == "/limit":
        await answer(send, b"%d of %d" % resource.getrlimit(resource.RLIMIT_NOFILE))
    elif scope["path"] == "/exit":
        kept.append(asyncio.create_task(exit()))
        await answer(send, b"ended")
    elif scope["path"] == "/large":
        await answer(send, bytes(10_000_000))
    elif scope["path"] == "/poll":
        await ended.wait()
        await answer(send, b"ended")
    else:
        await asyncio.sleep(60)

async def answer(send, body):
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

async def deaf():
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

async def exit():
    raise SystemExit(3)

async def block():
    time.sleep(60)

sys.exit(serve(app, on_stop=ended.set))
"""


class Program:
    """The program as a process."""

    def __init__(self, start: str = "None", stop: str = "asyncio.sleep(0)") -> None:
        source = f"START = lambda: {start}\nSTOP = lambda: {stop}\n{PROGRAM}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        self.log = ""
        while "listening on" not in self.log:
            self.log += self.process.stderr.readline() or pytest.fail(self.log)
        self.port = int(self.log.rpartition(":")[2])

    def get(self, path: str) -> socket.socket:
        """Send a request, and read nothing."""
        sock = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return sock

    def stop(self, *signals: signal.Signals) -> float:
        """Send the signals; return the seconds until the process ended."""
        began = time.monotonic()
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.2 if number is not signals[-1] else 0)  # else the two become one
        out, log = self.process.communicate(timeout=DEADLINE)
        self.log += out + log
        return time.monotonic() - began

    def end(self) -> None:
        """Kill it if it still runs."""
        self.process.kill()
        self.process.communicate()
