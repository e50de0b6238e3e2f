"""Parts: the observations of one thing by one source."""

from typing import Any

from msgspec import Struct


class Part(Struct, frozen=True, gc=False):
    """One part, under an id that its source chose, and the group it belongs to."""

    source: str
    section: str
    group: str
    id: str
    scope: str
    value: Any
    rank: int = 0
    """Of the agents' parts, those with the highest rank are believed first."""
