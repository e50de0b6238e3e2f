"""`POST /agents/heartbeats`: the processor time of a changing beat in a batch, and by itself."""

import tempfile
from collections.abc import Iterator
from statistics import median

from bench import content, process, wrk
from bench.beats import AGENTS, DROPPED, beat_lines, load_beats
from bench.process import Server
from bench.report import Row, at_most, note

SIZES = (100, 1_000)
MICROSECONDS = 35
LONGEST_MS = 20


def run(quick: bool) -> Iterator[Row]:
    """Alternate between single beats and batches; each server has beats of its own."""
    rounds, seconds = (1, 1) if quick else (5, 2)
    note(f"batches: {rounds} rounds of {seconds} s each")
    costs: dict[int, list[float]] = {size: [] for size in (1, *SIZES)}
    with (
        tempfile.NamedTemporaryFile("wb") as single,
        tempfile.NamedTemporaryFile("wb") as named,
        process.synthetic(agents=0, pods=0) as alone,
        process.synthetic(agents=0, pods=0) as together,
    ):
        for file, lines in ((single, beat_lines()), (named, named_lines())):
            file.writelines(lines)
            file.flush()
        load_beats(alone, "new", single.name, 1)
        load_batches(together, named.name, SIZES[0], 1)
        together.load(watch=1)
        together.loop_times()
        for _ in range(rounds):
            costs[1].append(load_beats(alone, "new", single.name, seconds).cost)
            for size in SIZES:
                costs[size].append(load_batches(together, named.name, size, seconds))
        longest = max(together.loop_times().cpu, default=0.0) * 1000
        _require_all(together)
    yield from _rows(costs, longest)


def load_batches(server: Server, file: str, size: int, seconds: int) -> float:
    """Send batches of new beats; return the processor time of the server for one beat.

    On several connections a beat could overtake an older one of its instance, which is dropped.
    """
    arguments = [file, f"{size}"]
    load = wrk.run(server, seconds, "/", script="batch.lua", arguments=arguments, connections=1)
    return load.cost / size


def named_lines() -> Iterator[bytes]:
    """Yield the lines that batch.lua reads: as `beat_lines`, with the agent's name in each beat."""
    for agent, line in enumerate(beat_lines()):
        yield line.replace(b"\t{", b'\t{"agent":"%s",' % content.name(agent).encode(), 1)


def _require_all(server: Server) -> None:
    """Raise RuntimeError unless each beat was taken: wrk does not read the results."""
    shown = len(server.state()["agents"])
    if (dropped := server.metric(DROPPED)) or shown != AGENTS:
        raise RuntimeError(f"{dropped} beats were dropped; {shown} of {AGENTS} agents are shown")


def _rows(costs: dict[int, list[float]], longest: float) -> Iterator[Row]:
    by_size = {size: median(found) * 1e6 for size, found in costs.items()}
    for size in SIZES:
        detail = f"{by_size[size] / by_size[1]:.2f} × of {by_size[1]:.0f} µs by itself"
        what = f"batch of {size:,} changing beats, with history: processor time of a beat"
        yield at_most(what, by_size[size], MICROSECONDS, "µs", detail)
    yield at_most("the same: longest work between two timers", longest, LONGEST_MS, "ms")
