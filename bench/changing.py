"""Reads while entities change, against quiet reads of the same document by the same process."""

from collections.abc import Iterator

from bench import process, wrk
from bench.reads import SIZES, Size
from bench.report import Row, at_least, note
from bench.wrk import Load, middle, ratio

CHANGES = 1_000
TARGET = 0.8
THOUSAND = Size("1,000 agents", 1_000, 0, TARGET)


def run(quick: bool) -> Iterator[Row]:
    """Alternate between quiet and changing rounds."""
    rounds, seconds = (1, 1) if quick else (5, 3)
    for size in SIZES[1:2] if quick else (*SIZES, THOUSAND):
        yield while_changing(size, rounds, seconds)


def while_changing(size: Size, rounds: int, seconds: int) -> Row:
    """Measure one size of document."""
    quiet: list[Load] = []
    changing: list[Load] = []
    with process.synthetic(size.agents, size.pods) as server:
        title = f"read, {len(server.get('/system/state').body) / 1000:,.0f} kB ({size.name})"
        note(f"{title} while it changes: {rounds} rounds of {seconds} s each")
        for _ in range(rounds):
            quiet.append(wrk.run(server, seconds))
            server.load(changes=CHANGES)
            changing.append(wrk.run(server, seconds))
            server.load(changes=0)
        revision = server.state()["revision"]
        changes = _changes(server)
    per_second = changes / rounds / seconds
    figure = (
        f"{middle(changing):,.0f} of {middle(quiet):,.0f} /s;"
        f" {per_second:,.0f} changes and {revision / rounds / seconds:.0f} revisions a second"
    )
    what = f"{title}, while {CHANGES:,} entities change per second, against quiet"
    return at_least(what, ratio(changing, quiet), TARGET, figure)


def _changes(server: process.Server) -> float:
    return server.metric('telemetron_source_events_total{event="changes",source="synthetic"}')
