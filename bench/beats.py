"""`POST /agents/{name}/heartbeat`, against servers that only read it, and until visible."""

import tempfile
from collections.abc import Iterator
from functools import partial
from statistics import median

import uvloop

from bench import content, process, wrk
from bench.fleet import Fleet, Pace
from bench.process import Server
from bench.report import Row, at_most, note, p99
from bench.wrk import Load

AGENTS = 1_000
PACE = Pace(AGENTS, 1, 3_000)
SAME_RATIO, NEW_RATIO = 1.0, 0.28
VISIBLE_MS = 40
DROPPED = 'telemetron_source_events_total{event="beats_dropped",source="heartbeats"}'


def run(quick: bool) -> Iterator[Row]:
    """Alternate between the servers in rounds, then send beats at a fixed pace."""
    rounds, seconds = (1, 1) if quick else (5, 2)
    yield from against_bare(rounds, seconds)
    with process.telemetron() as server:
        yield from at_pace(server, 2 if quick else 15)


def against_bare(rounds: int, seconds: int) -> Iterator[Row]:
    """Send beats as fast as each server answers: to one the same, to the others always new ones."""
    with (
        tempfile.NamedTemporaryFile("wb") as file,
        process.bare() as bare,
        process.protocol() as protocol,
        process.telemetron() as same,
        process.telemetron() as new,
    ):
        file.writelines(beat_lines())
        file.flush()
        servers = {"bare": bare, "protocol": protocol, "same": same, "new": new}
        runs = {
            name: partial(load_beats, one, "same" if one is same else "new", file.name, seconds)
            for name, one in servers.items()
        }
        loads = wrk.alternate("beats", rounds, runs)
        if dropped := same.metric(DROPPED) + new.metric(DROPPED):
            raise RuntimeError(f"{dropped} beats were dropped")
    yield wrk.against("beat, nothing new, against bare ASGI", loads, "same", "bare", SAME_RATIO)
    what = "beat, every beat a change, with history, against bare ASGI"
    yield wrk.against(what, loads, "new", "bare", NEW_RATIO)


def load_beats(server: Server, say: str, file: str, seconds: int) -> Load:
    """Send the beats of the file, always the same or always new ones."""
    return wrk.run(server, seconds, "/", script="beat.lua", arguments=[file, say])


def at_pace(server: Server, seconds: float) -> Iterator[Row]:
    """Measure from the answer to the first read that shows the beat."""
    fleet = Fleet(PACE)
    uvloop.run(fleet.beat_all(server))
    note(f"beats at a pace: {seconds} s")
    times = uvloop.run(fleet.run(server, seconds))
    visible = [second * 1000 for second in times.visible]
    detail = (
        f"p50 {median(visible):.1f}, p99 {p99(visible):.1f} ms of {len(visible):,};"
        f" {times.per_second:,.0f} beats/s, p99 of their answers {p99(times.beats) * 1000:.1f} ms"
    )
    what = f"heartbeat at {PACE.beats_per_second:,} /s: answered → visible, longest"
    yield at_most(what, max(visible), VISIBLE_MS, "ms", detail)


def beat_lines() -> Iterator[bytes]:
    """Yield the lines that beat.lua reads, one for each agent."""
    return map(_line, range(AGENTS))


def _line(agent: int) -> bytes:
    path = f"/agents/{content.name(agent)}/heartbeat".encode()
    return b"\t".join((path, *content.beat_pieces(agent, 0))) + b"\n"
