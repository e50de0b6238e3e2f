"""Resident memory: idle, full, and while it works."""

import asyncio
import time
from collections.abc import Iterator
from statistics import linear_regression

import uvloop

from bench import process
from bench.client import connected
from bench.process import Server
from bench.report import Row, at_most, figure, note

AGENTS, PODS = 1_000, 10_000
IDLE_MB, FULL_MB = 45, 256
CHANGES = 1_000
RELISTS = 0.1
READ_SECONDS = 0.5
SAMPLE_SECONDS = 1.0


def run(quick: bool) -> Iterator[Row]:
    """Measure idle, then full and busy for a while."""
    yield from idle()
    yield from at_work(5 if quick else 45)


def hour(quick: bool) -> Iterator[Row]:
    """Measure for an hour; not among the default benchmarks."""
    yield from at_work(60 if quick else 3600)


def idle() -> Iterator[Row]:
    """Measure with only heartbeats configured, none sent, and a few reads."""
    with process.telemetron():
        pass  # it compiles the byte code, which takes memory
    with process.telemetron() as server:
        for _ in range(10):
            server.get("/system/state")
            server.get("/livez")
        yield at_most("idle, only heartbeats", server.memory(), IDLE_MB, "MB")
        server.get("/metrics")
        server.get("/openapi.json")
        yield figure("the same, after /metrics and /openapi.json", server.memory(), "MB")


def at_work(seconds: int) -> Iterator[Row]:
    """Measure a full document that changes; readers receive all of it, one of them compressed."""
    full = f"{PODS:,} pods, {AGENTS:,} agents"
    with process.synthetic(AGENTS, PODS) as server:
        size = len(server.get("/system/state").body) / 1e6
        yield at_most(f"{full}, quiet", server.memory(), FULL_MB, "MB", f"{size:.1f} MB of JSON")
        note(f"memory at work: {seconds} s")
        server.load(changes=CHANGES, relists=RELISTS)
        samples = uvloop.run(_sampled(server, seconds))
    late = samples[len(samples) // 3 :]
    slope = linear_regression(*zip(*late, strict=True)).slope * 3600
    after = f"from {late[0][1]:.0f} to {late[-1][1]:.0f} MB, {slope:+.1f} MB an hour by regression"
    most = max(memory for _, memory in samples)
    what = f"{full}, {CHANGES:,} changes a second, relists, readers: most in {seconds} s"
    yield at_most(what, most, FULL_MB, "MB", f"after the first third {after}")


async def _sampled(server: Server, seconds: float) -> list[tuple[float, float]]:
    """Return pairs of seconds since the start and MB."""
    samples = []
    readers = [asyncio.create_task(_read(server, gzip)) for gzip in (False, True)]
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        samples.append((now, server.memory()))
        await asyncio.sleep(SAMPLE_SECONDS)
    for reader in readers:
        reader.cancel()
    return samples


async def _read(server: Server, gzip: bool) -> None:
    async with connected(server) as connection:
        while True:
            await connection.get("/system/state", "accept-encoding: gzip\r\n" if gzip else "")
            await asyncio.sleep(READ_SECONDS)
