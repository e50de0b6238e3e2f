"""The times of a shown change, which may be earlier than the last change of its entity."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import accumulate, islice
from typing import Any

from telemetron.history.delta import Shape, fields, is_measure
from telemetron.history.place import moment
from telemetron.history.recorder import Entry

# Entries of one entity that are searched: more than a day of samples.
MAX_ENTRIES = 2_000
NONE: Set[str] = frozenset()

Entries = Callable[[bool], Iterable[tuple[int, Entry]]]
"""Yields the entries of one entity with their times, newest first; True: only its state matters."""


def times_of(
    shown: Mapping[str, Any] | None, entries: Entries, shape: Shape, measures: Set[str]
) -> dict[str, Any]:
    """Return `at` and `measured_at` of the changed fields; null if a time is unknown.

    None instead of fields: the entity was added or removed.

    `at` is when the entity was added or removed, or when the last of the shown state changed. If
    only measures are shown, it is when the last of those changed, as `measured_at`.
    """
    if shown is None:
        return _times(next((at for at, one in _some(entries(True)) if one.delta is None), None))
    measured = {path for path, one in shown.items() if is_measure(path.split("/"), one, shape)}
    measured_at = _latest(Paths(shown, measured), entries(False), shape, measures)
    if measured == shown.keys():
        return _times(measured_at, measured_at)
    state = Paths(shown, shown.keys() - measured)
    return _times(_latest(state, entries(True), shape, NONE), measured_at)


def _times(at: int | None, measured_at: int | None = None) -> dict[str, Any]:
    times = {"at": at, "measured_at": measured_at}
    return {name: None if time is None else moment(time) for name, time in times.items()}


def _some(entries: Iterable[tuple[int, Entry]]) -> Iterator[tuple[int, Entry]]:
    return islice(entries, MAX_ENTRIES)


class Paths:
    """Paths of shown fields, to find the entries that changed them."""

    def __init__(self, shown: Mapping[str, Any], paths: Iterable[str]) -> None:
        self.paths = set(paths)
        self._ancestors = {one for path in self.paths for one in _ancestors(path)}
        self._whole = {path for path in self.paths if "old" in shown[path]}

    def are_changed_by(self, path: str) -> bool:
        """Return whether a change at this path changes one of these, something around or inside it.

        A change inside an added or removed item does not: only the item itself counts.
        """
        return path in self._ancestors or not self._whole.isdisjoint(_ancestors(path))


def _latest(
    paths: Paths, entries: Iterable[tuple[int, Entry]], shape: Shape, measures: Set[str]
) -> int | None:
    """Return when the last of these fields changed."""
    latest: int | None = None
    for at, entry in _some(entries) if paths.paths else ():
        if latest is not None and at <= latest:
            break
        delta = entry.delta
        if delta is None:  # the entity was added, with all of its fields
            return at if latest is None else latest
        for path, one in fields(delta, shape, measures):
            if paths.are_changed_by(path):
                time = _time(entry, path, "old" in one, at) if measures else at
                latest = max(latest or 0, time)
        if latest is not None and not entry.times:
            break
    return latest


def _time(entry: Entry, path: str, whole: bool, at: int) -> int:
    """Return when a measure in an entry changed; `whole`: a change of any part of it counts."""
    above = set(_ancestors(path))
    times = entry.times or {}
    found = (t for one, t in times.items() if one in above or (whole and path in _ancestors(one)))
    return max(found, default=at)


def _ancestors(path: str) -> list[str]:
    """Return `a`, `a/b` and `a/b/c` for `a/b/c`."""
    return list(accumulate(path.split("/"), "{}/{}".format))
