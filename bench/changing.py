"""Reads while entities change, against quiet reads of the same document by the same process."""

from collections.abc import Iterator
from functools import partial

from bench import process, wrk
from bench.reads import LARGE, MIDDLE, NONE, Size
from bench.report import Row, at_least
from bench.wrk import Load, middle, ratio

CHANGES = 1_000
RATIO = 0.8
THOUSAND = Size("1,000 agents", 1_000, 0, {})


def run(quick: bool) -> Iterator[Row]:
    """Alternate between quiet and changing rounds."""
    rounds, seconds = (1, 1) if quick else (3, 2)
    for size in (MIDDLE,) if quick else (MIDDLE, LARGE, THOUSAND):
        yield while_changing(size, rounds, seconds)


def while_changing(size: Size, rounds: int, seconds: int) -> Row:
    """Measure one size of document."""
    with process.synthetic(size.agents, size.pods, findings=NONE) as server:

        def load(changes: int) -> Load:
            server.load(changes=changes)
            return wrk.run(server, seconds)

        runs = {"quiet": partial(load, 0), "changing": partial(load, CHANGES)}
        loads = wrk.alternate(f"read, {size.name}, while it changes", rounds, runs)
        per_second = _changes(server) / (rounds + 1) / seconds
    quiet, changing = loads["quiet"], loads["changing"]
    what = f"read, {size.name}, while {CHANGES:,} entities change per second, against quiet"
    detail = (
        f"requests/s {middle(changing):,.0f} of {middle(quiet):,.0f}; {per_second:,.0f} changes/s"
    )
    return at_least(what, ratio(changing, quiet), RATIO, "×", detail)


def _changes(server: process.Server) -> float:
    return server.metric('telemetron_source_events_total{event="changes",source="synthetic"}')
