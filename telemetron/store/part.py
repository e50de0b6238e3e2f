"""Parts: what one source knows of one thing."""

from typing import Any

from msgspec import Struct


class Part(Struct, frozen=True, gc=False):
    """One part, under an id that is its source's own, and the group it belongs to."""

    source: str
    section: str
    group: str
    id: str
    scope: str
    value: Any
