"""The nearest names: those that a wrong name may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from heapq import nlargest

MAX_NEAREST = 3
# Comparing two names takes up to 0.2 ms of the event loop.
MAX_COMPARED = 30
PIECE, MAX_PIECES = 3, 24


def similar(name: str, names: Iterable[str]) -> list[str]:
    """Return up to three similar names. Call it in a thread if there are thousands.

    Only names that share most pieces of three characters are compared whole.
    """
    pieces = [name[at : at + PIECE] for at in range(max(1, len(name) - PIECE + 1))][:MAX_PIECES]
    shared = nlargest(
        MAX_COMPARED, names, key=lambda one: (sum(map(one.__contains__, pieces)), one)
    )
    return get_close_matches(name, shared, MAX_NEAREST)
