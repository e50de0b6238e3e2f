"""The event loop at 10,000 pods and 1,000 agents: relists, changes and some readers.

A timer in the server's loop measures every millisecond how late it is (`wall`) and how long the
loop's thread worked meanwhile (`cpu`). The work between two timers is at least the longest
callback, and excludes other processes on the core. From outside, a client requests `/livez` all the
time. Blocking calls that only wait would show only in `wall`; the tests look for those.
"""

import asyncio
from collections.abc import Iterator
from statistics import median
from time import perf_counter

import uvloop

from bench import process
from bench.client import connected
from bench.process import Server
from bench.report import Row, at_most, note, p99

AGENTS, PODS = 1_000, 10_000
CALLBACK_MS = 20
LOOK_SECONDS = 0.005
READ_SECONDS = 0.5
SETTLE_SECONDS = 2


def run(quick: bool) -> Iterator[Row]:
    """Measure each kind of load by itself, then all together."""
    seconds = 3 if quick else 12
    with process.synthetic(AGENTS, PODS) as server:
        for what, load in (
            ("quiet", {}),
            ("1,000 changes per second", {"changes": 1_000}),
            ("a relist per second, all measures moved", {"relists": 1}),
            ("both", {"changes": 1_000, "relists": 1}),
        ):
            note(f"event loop, {what}: {seconds} s")
            server.load(changes=0, relists=0, watch=1)
            server.load(**load)
            uvloop.run(_probe(server, SETTLE_SECONDS))
            server.loop_times()
            answers = uvloop.run(_probe(server, seconds))
            yield _row(what, server.loop_times(), answers)


def _row(what: str, times: process.LoopTimes, answers: list[float]) -> Row:
    wall, answered = _ms(times.wall), _ms(answers)
    detail = (
        f"p99 {p99(_ms(times.cpu)):.1f} ms;"
        f" late by p99 {p99(wall):.1f}, at most {max(wall):.1f} ms;"
        f" gc at most {max(_ms(times.gc)):.1f} ms; /livez p50 {median(answered):.1f},"
        f" p99 {p99(answered):.1f}, at most {max(answered):.1f} ms"
    )
    title = f"{PODS:,} pods, {AGENTS:,} agents, {what}: longest work between two timers"
    return at_most(title, max(_ms(times.cpu)), CALLBACK_MS, "ms", detail)


def _ms(seconds: list[float]) -> list[float]:
    return [second * 1000 for second in seconds]


async def _probe(server: Server, seconds: float) -> list[float]:
    """Return the seconds of each `/livez`, while a client reads the whole state now and then."""
    reading = asyncio.create_task(_read(server))
    times: list[float] = []
    async with connected(server) as connection:
        end = perf_counter() + seconds
        while (sent := perf_counter()) < end:
            await connection.get("/livez")
            times.append(perf_counter() - sent)
            await asyncio.sleep(LOOK_SECONDS)
    reading.cancel()
    return times


async def _read(server: Server) -> None:
    async with connected(server) as connection:
        while True:
            await connection.get("/system/state")
            await asyncio.sleep(READ_SECONDS)
