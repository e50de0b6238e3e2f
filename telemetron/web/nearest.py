"""The 404 of a key that no entity has: it names the keys that may have been meant."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import islice

from telemetron.http import HttpProblem
from telemetron.query import shown
from telemetron.rope import Rope
from telemetron.snapshot import Snapshot

NEAREST = 3
NEAR_KEYS = 100
MAX_KEY = 1_000


def unknown_key(snapshot: Snapshot, sections: Sequence[str], key: str) -> HttpProblem:
    """Return the problem; `nearest` are up to three keys of these sections."""
    ropes = [snapshot.faces[section].rope for section in sections]
    near = _nearest(key[:MAX_KEY], ropes)
    hint = f"; did you mean {near[0]}?" if near else ""
    where = sections[0] if len(sections) == 1 else "any section that is asked for"
    return HttpProblem(404, f"no {shown(key)} in {where}{hint}", nearest=near)


def _nearest(key: str, ropes: Sequence[Rope]) -> list[str]:
    """Keys that end in the same name, else those that look alike, else any neighbours."""
    name = key.rpartition("/")[2]
    if same := _of_name(ropes, name, NEAREST, str.__eq__):
        return same
    around = [one for rope in ropes for one in rope.around(key, NEAR_KEYS)]
    close = [*_of_name(ropes, name[:2], NEAR_KEYS, str.startswith), *around]
    distinct = list(dict.fromkeys(close))
    return get_close_matches(key, distinct, NEAREST) or get_close_matches(key, around, NEAREST, 0.0)


def _of_name(
    ropes: Sequence[Rope], name: str, most: int, fits: Callable[[str, str], bool]
) -> list[str]:
    """Keys whose last component fits."""
    every = (key for rope in ropes for key in rope.every_key())
    return list(islice((key for key in every if fits(key.rpartition("/")[2], name)), most))
