"""A system at work: a thousand agents of three instances, each beating every second, and readers.

The agents and the readers share a core here, unlike in a real system; a quiet reader has that core
for itself.
"""

import asyncio
from collections.abc import Iterator
from statistics import median

import uvloop

from bench import process, wrk
from bench.fleet import Fleet, Pace, Times
from bench.process import Server
from bench.report import Row, at_most, figure, note, p99
from bench.wrk import Load, middle, ratio

PACE = Pace(agents=1_000, instances=3, beats_per_second=3_000)
VISIBLE_MS = 50
LEAD_SECONDS = 0.5


def run(quick: bool) -> Iterator[Row]:
    """Alternate between quiet and busy rounds."""
    rounds, seconds = (1, 2) if quick else (4, 4)
    quiet: list[Load] = []
    busy: list[Load] = []
    beating: list[Times] = []
    with process.synthetic(agents=0, pods=0) as server:
        fleet = Fleet(PACE)
        uvloop.run(fleet.beat_all(server))
        size = len(server.get("/system/state").body) / 1000
        note(f"beats and reads of {size:,.0f} kB: {rounds} rounds of {seconds} s each")
        server.load(watch=1)
        for _ in range(rounds):
            quiet.append(wrk.run(server, seconds))
            server.loop_times()
            load, times = uvloop.run(_both(server, fleet, seconds))
            busy.append(load)
            beating.append(times)
    yield from _rows(size, quiet, busy, beating)


async def _both(server: Server, fleet: Fleet, seconds: int) -> tuple[Load, Times]:
    """Start the readers when the beats have started."""
    beats = asyncio.create_task(fleet.run(server, seconds + 2 * LEAD_SECONDS))
    await asyncio.sleep(LEAD_SECONDS)
    load = await asyncio.to_thread(wrk.run, server, seconds)
    return load, await beats


def _rows(size: float, quiet: list[Load], busy: list[Load], beating: list[Times]) -> Iterator[Row]:
    what = f"{wrk.READERS} readers of all while 3,000 instances beat every second"
    beats = [second * 1000 for times in beating for second in times.beats]
    visible = [second * 1000 for times in beating for second in times.visible]
    per_second = len(beats) / sum(len(times.beats) / times.per_second for times in beating)
    figures = f"p50 {median(visible):.1f} ms; {per_second:,.0f} beats/s; {size:,.0f} kB"
    yield at_most(f"{what}: answered → visible, p99", p99(visible), VISIBLE_MS, "ms", figures)
    rates = f"requests/s {middle(busy):,.0f} of {middle(quiet):,.0f}"
    yield figure("the same: reads against quiet", ratio(busy, quiet), "×", rates)
    yield figure("the same: answer to a beat, p99", p99(beats), "ms")
