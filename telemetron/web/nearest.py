"""The 404 of a key that no entity has: it names the keys that may have been meant."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import islice

from telemetron.http import HttpProblem
from telemetron.query import shown
from telemetron.store.rope import Rope
from telemetron.store.snapshot import Snapshot

NEAREST = 3
# To compare two keys takes up to 0.2 ms, and others wait for it.
NEAR_KEYS = 30
MAX_KEY = 256


def unknown_key(snapshot: Snapshot, sections: Sequence[str], key: str) -> HttpProblem:
    """Return the problem; `nearest` are up to three keys of these sections."""
    ropes = [snapshot.sections[section].rope for section in sections]
    near = _nearest(key[:MAX_KEY], ropes)
    hint = f"; did you mean {near[0]}?" if near else ""
    where = sections[0] if len(sections) == 1 else "any section that is asked for"
    return HttpProblem(404, f"no {shown(key)} in {where}{hint}", nearest=near)


def _nearest(key: str, ropes: Sequence[Rope]) -> list[str]:
    """Keys that end in the same name, else those that look alike, else any neighbours."""
    name = key.rpartition("/")[2]
    if same := _some(ropes, lambda one: one.endswith(f"/{name}") or one == name, NEAREST):
        return same
    around = [one for rope in ropes for one in rope.around(key, NEAR_KEYS)]
    close = [*_some(ropes, lambda one: _begins(one, name[:2]), NEAR_KEYS), *around]
    distinct = list(dict.fromkeys(close))
    return get_close_matches(key, distinct, NEAREST) or get_close_matches(key, around, NEAREST, 0.0)


def _begins(key: str, start: str) -> bool:
    """Whether the key's last component begins so."""
    return start in key and key.rpartition("/")[2].startswith(start)


def _some(ropes: Sequence[Rope], fits: Callable[[str], bool], most: int) -> list[str]:
    """The first keys that fit."""
    every = (key for rope in ropes for key in rope.every_key())
    return list(islice(filter(fits, every), most))
