"""Problems that name the alternatives of an unknown name, or of a key that no entity has."""

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from itertools import islice

from telemetron.http import HttpProblem
from telemetron.nearest import MAX_NEAREST as NEAREST
from telemetron.query import shown
from telemetron.store.rope import Rope
from telemetron.store.snapshot import Snapshot
from telemetron.web.routes import TASKS

# Comparing two keys takes up to 0.2 ms of the event loop.
NEAR_KEYS = 30
MAX_KEY = 256


def require_sections(snapshot: Snapshot, sections: Iterable[str], status: int) -> None:
    """Raise a problem with this status if one of the sections does not exist."""
    require_names("section", sections, tuple(snapshot.sections), status)


def require_names(what: str, names: Iterable[str], known: Sequence[str], status: int) -> None:
    """Raise a problem with this status, and similar names, if one of the names is not known."""
    for name in names:
        if name not in known:
            message = f"no {what} {shown(name)}; {what}s are {', '.join(known)}"
            raise HttpProblem(status, message, nearest=nearest_names(name, known))


def nearest_names(name: str, known: Sequence[str]) -> list[str]:
    """Return up to three similar names, the most similar first."""
    near = get_close_matches(name[:MAX_KEY], known, NEAREST)
    return near or get_close_matches(name[:MAX_KEY], known, NEAREST, 0.0)


def unknown_key(snapshot: Snapshot, sections: Sequence[str], key: str) -> HttpProblem:
    """Return a 404 whose member `nearest` has up to three similar keys of these sections."""
    ropes = [snapshot.sections[section].rope for section in sections]
    near = _nearest(key[:MAX_KEY], ropes)
    hint = f"; did you mean {near[0]}?" if near else ""
    where = sections[0] if len(sections) == 1 else "any section asked for"
    return HttpProblem(404, f"no {shown(key)} in {where}{hint}", nearest=near)


def unknown_name(name: str, near: list[str], root: str) -> HttpProblem:
    """Return a 404 whose member `nearest` has these similar names; `root` goes before paths."""
    hint = f"; did you mean {shown(near[0])}?" if near else ""
    detail = f"no {shown(name)} in the state{hint}"
    return HttpProblem(404, f"{detail} (for a task of the past: {root}{TASKS}/ID)", nearest=near)


def unknown_task(id: str, near: list[str]) -> HttpProblem:
    """Return a 404 whose member `nearest` has these similar ids of tasks."""
    hint = f"; did you mean {shown(near[0])}?" if near else ""
    where = "any agent, pending record or kept step of the history"
    return HttpProblem(404, f"no task {shown(id)} in {where}{hint}", nearest=near)


def _nearest(key: str, ropes: Sequence[Rope]) -> list[str]:
    """Return keys with the same last component, else similar keys, else neighbours."""
    name = key.rpartition("/")[2]
    if same := _some(ropes, lambda one: one.endswith(f"/{name}") or one == name, NEAREST):
        return same
    around = [one for rope in ropes for one in rope.around(key, NEAR_KEYS)]
    close = [*_some(ropes, lambda one: _begins(one, name[:2]), NEAR_KEYS), *around]
    distinct = list(dict.fromkeys(close))
    return get_close_matches(key, distinct, NEAREST) or get_close_matches(key, around, NEAREST, 0.0)


def _begins(key: str, start: str) -> bool:
    """Whether the key's last component begins with `start`."""
    return start in key and key.rpartition("/")[2].startswith(start)


def _some(ropes: Sequence[Rope], matches: Callable[[str], bool], most: int) -> list[str]:
    """Return the first keys that match."""
    every = (key for rope in ropes for key in rope.every_key())
    return list(islice(filter(matches, every), most))
