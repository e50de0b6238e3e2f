"""When a change happened that a reader is shown, which is not when its entity changed last."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import accumulate, islice
from typing import Any

from telemetron.history.delta import Shape, fields, is_measure
from telemetron.history.place import moment
from telemetron.history.recorder import Entry

# So many entries of an entity are looked through: more than a day of samples.
MAX_ENTRIES = 2_000
NONE: Set[str] = frozenset()

Touches = Callable[[bool], Iterable[tuple[int, Entry]]]
"""The entries of one entity with their times, newest first; True: those of its state suffice."""


def times_of(
    change: Mapping[str, Any], touches: Touches, shape: Shape, measures: Set[str]
) -> dict[str, Any]:
    """Return `at` and `measured_at` of a change; null if that is not known.

    `at`: when the entity came or went, or when the last of the shown state changed; if only
    measures are shown, when the last of those did, as `measured_at`.
    """
    if "fields" not in change:
        return _times(next((at for at, one in _some(touches(True)) if one.delta is None), None))
    shown = change["fields"]
    moved = {path for path, one in shown.items() if is_measure(path.split("/"), one, shape)}
    measured = _latest(Paths(shown, moved), touches(False), shape, measures)
    if moved == shown.keys():
        return _times(measured, measured)
    return _times(_latest(Paths(shown, shown.keys() - moved), touches(True), shape, NONE), measured)


def _times(at: int | None, measured_at: int | None = None) -> dict[str, Any]:
    times = {"at": at, "measured_at": measured_at}
    return {name: None if time is None else moment(time) for name, time in times.items()}


def _some(entries: Iterable[tuple[int, Entry]]) -> Iterator[tuple[int, Entry]]:
    return islice(entries, MAX_ENTRIES)


class Paths:
    """Paths of fields that are shown, to find the entries that changed them."""

    def __init__(self, shown: Mapping[str, Any], paths: Iterable[str]) -> None:
        self.paths = set(paths)
        self._ancestors = {one for path in self.paths for one in _ancestors(path)}
        self._whole = {path for path in self.paths if "old" in shown[path]}

    def are_changed_by(self, path: str) -> bool:
        """Whether a change at this path changes one of them: it, what it is in, or a part of it.

        Not a part of an item that came or went: the item did so when it did.
        """
        return path in self._ancestors or not self._whole.isdisjoint(_ancestors(path))


def _latest(
    paths: Paths, entries: Iterable[tuple[int, Entry]], shape: Shape, measures: Set[str]
) -> int | None:
    """When the last of these fields changed."""
    latest: int | None = None
    for at, entry in _some(entries) if paths.paths else ():
        if latest is not None and at <= latest:
            break
        delta = entry.delta
        if delta is None:  # it came, and all of it with it
            return at if latest is None else latest
        for path, one in fields(delta, shape, measures):
            if paths.are_changed_by(path):
                time = _time(entry, path, "old" in one, at) if measures else at
                latest = max(latest or 0, time)
        if latest is not None and not entry.times:
            break
    return latest


def _time(entry: Entry, path: str, whole: bool, at: int) -> int:
    """When a measure changed that an entry recorded; `whole`: so it did with each of its parts."""
    above = set(_ancestors(path))
    times = entry.times or {}
    found = (t for one, t in times.items() if one in above or (whole and path in _ancestors(one)))
    return max(found, default=at)


def _ancestors(path: str) -> list[str]:
    """`a`, `a/b` and `a/b/c` of `a/b/c`."""
    return list(accumulate(path.split("/"), "{}/{}".format))
