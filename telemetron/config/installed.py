"""Installed collectors and their environment variables, from package metadata; imports none."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from typing import NamedTuple

from telemetron.collector import ENTRY_POINTS, VARIABLES


class Variable(NamedTuple):
    """An environment variable, and the key that it sets in each source of a collector."""

    name: str
    collector: str
    key: str


@cache
def collectors() -> list[str]:
    """Return the names of the installed collectors. The first call reads files."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINTS)})


def variables() -> Iterator[Variable]:
    """Yield the variables of the installed collectors."""
    for point in entry_points(group=VARIABLES):
        collector, _, key = point.value.partition(":")
        yield Variable(point.name, collector.strip(), key.strip())
