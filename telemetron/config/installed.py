"""Installed collectors and their environment variables, from package metadata; imports none."""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from telemetron.collector import ENTRY_POINTS, VARIABLES


class Variable(NamedTuple):
    """An environment variable, and the key that it sets in each source of a collector."""

    name: str
    collector: str
    key: str


def collectors() -> list[str]:
    """Return the names of the installed collectors."""
    return sorted({point.name for point in entry_points().select(group=ENTRY_POINTS)})


def variables() -> Iterator[Variable]:
    """Yield the variables of the installed collectors."""
    for point in entry_points().select(group=VARIABLES):
        collector, _, key = point.value.partition(":")
        yield Variable(point.name, collector.strip(), key.strip())


@cache
def entry_points() -> Any:
    """Return all entry points. The first call reads files; the event loop makes later ones."""
    from importlib import metadata  # slow to import, and a client needs none

    return metadata.entry_points()
