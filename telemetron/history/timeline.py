"""The timeline: the whole history of one store.

It holds the newest steps uncompressed, older ones in an archive in memory, and all of them in an
archive in a file, if there is one. One thread uses it.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import chain
from typing import NamedTuple, TypeVar

from telemetron.history.archive import (
    LOG_BYTES,
    MEMORY,
    NOT_KEPT,
    Archive,
    GoneError,
    HoleError,
    Moment,
    PlacedEntry,
)
from telemetron.history.delta import Record, Shape, apply, inverted
from telemetron.history.limits import HistoryLimits
from telemetron.history.place import Place, milliseconds, parse
from telemetron.history.recorder import Entry, Id, Recorder, Step, decode, encode
from telemetron.store.snapshot import Snapshot
from telemetron.store.store import Publication

# What an entry takes in memory, beside its content.
ENTRY_BYTES = 200
# How long after its last sign of life an epoch counts as running, milliseconds.
ALIVE_FOR = 15_000

NAME = "history"
"""The source that reports problems of the history; it writes no section."""

T = TypeVar("T")


class Between(NamedTuple):
    """Entities that may differ between two places, and their entries in between.

    `entries` yields the entries of one entity with their times, newest first; with True it may
    skip those that changed only measures.
    """

    before: Mapping[Id, bytes | None]
    after: Mapping[Id, bytes | None]
    entries: Callable[[Id, bool], Iterable[tuple[int, Entry]]]


class Timeline:
    """The history of one store since its first snapshot; `file` may have earlier epochs too.

    `feeds` returns the sections that a collector writes; empty if they are unknown.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        snapshot: Snapshot,
        limits: HistoryLimits,
        feeds: Callable[[str], Collection[str]],
    ) -> None:
        self.recorder = Recorder(shapes, snapshot)
        self.file: Archive | None = None
        self.shapes = shapes
        self.feeds = feeds
        self.system = snapshot.id
        self.limits = limits
        self._epoch = snapshot.epoch
        self._started_at = milliseconds(snapshot.started_at)
        self._memory = Archive(MEMORY, self.system, self._epoch, self._started_at, limits)
        self._open = Steps()
        """Steps that are not in the memory's archive yet."""
        self._unwritten = Steps()
        self._is_behind = False
        """Whether steps for the file were dropped, so that it gets a hole."""
        self._recent = Steps()
        self._before_recent = self.recorder.last
        self._begin(self._memory)

    @property
    def newest(self) -> Moment:
        """The newest place with its times."""
        return self._moment(self.recorder.last)

    @property
    def tip(self) -> Place:
        """The newest place."""
        return Place(self._epoch, *self.recorder.last.place)

    @property
    def bodies(self) -> Mapping[Id, bytes]:
        """All entities as last recorded."""
        return self.recorder.bodies

    # recording

    def record(self, publication: Publication, now: float) -> Iterator[None]:
        """Record a publication; yield after each entity."""
        yield from self.recorder.record(publication, now)
        self._add(self.recorder.last)

    def record_due(self, now: float, at: int) -> Iterator[None]:
        """Record the measures that are due; yield after each entity."""
        last = self.recorder.last
        yield from self.recorder.record_due(now, at)
        if self.recorder.last is not last:
            self._add(self.recorder.last)

    def restart(self, now: float, at: int) -> None:
        """Continue after a failure with the current entities; the history gets a hole."""
        self._memory.append(self._open.pop_all())
        self.recorder.restart(now, at)
        self._recent.clear()
        self._unwritten.clear()
        self._before_recent = self.recorder.last
        self._is_behind = self.file is not None
        self._begin(self._memory)
        self._trim(self._memory, self.limits.memory_bytes)

    def _add(self, step: Step) -> None:
        limits = self.limits
        self._recent.append(step)
        while self._recent.exceeds(limits.recent_weight, limits.recent_bytes):
            self._before_recent = self._recent.popleft()
        self._open.append(step)
        if self._open.weight >= limits.open_weight:
            self._store_open()
        if self.file and not self._is_behind:
            self._unwritten.append(step)
            if self._unwritten.exceeds(limits.unwritten_weight, limits.unwritten_bytes):
                self._unwritten.clear()
                self._is_behind = True

    def _begin(self, archive: Archive) -> None:
        """Begin the epoch in an archive that lacks steps of it."""
        if archive.last != self.recorder.last.place:
            archive.begin(self.recorder.last, self.recorder.bodies)

    def _store_open(self) -> None:
        """Move the open steps into the memory's archive."""
        self._memory.append(self._open.pop_all())
        self._trim(self._memory, self.limits.memory_bytes)

    def _trim(self, archive: Archive, limit_bytes: int) -> None:
        """Add a keyframe if one is due, and drop what is too old or too large."""
        if archive.wants_keyframe(self.limits.max_age):
            archive.add_keyframe(self.recorder.last, self.recorder.bodies)
        while archive.drop_oldest(limit_bytes, self.recorder.last.at - self.limits.max_age):
            pass

    def close(self) -> None:
        """Close the archive in memory; the caller closes the file."""
        self._memory.close()

    def bytes_used(self) -> int:
        """Return the size of the archive in memory."""
        return self._memory.bytes_used()

    # the file

    @property
    def has_unwritten(self) -> bool:
        """Whether there are steps that are not in the file."""
        return self._is_behind or bool(self._unwritten)

    def write(self, at: int) -> None:
        """Write new steps to the file, or that the epoch is still running.

        If the archive raises, the steps wait for the next call.
        """
        if self.file is None:
            return
        if self._is_behind:
            self.open_file(self.file)
        elif self._unwritten:
            self.file.append(list(self._unwritten))
            self._unwritten.clear()
        else:
            return self.file.mark_alive(at)
        limit = self.limits.file_bytes
        self._trim(self.file, limit - min(LOG_BYTES, limit // 2))

    def open_file(self, file: Archive) -> None:
        """Use this file from now on."""
        self._begin(file)
        self._unwritten.clear()
        self._is_behind = False
        self.file = file

    # places

    def resolve(self, text: str, now: datetime) -> Moment:
        """Return the moment that a place, a time or a duration names.

        Raise ValueError for any other text, GoneError if it is not in the history.
        """
        asked = parse(text, now)
        if asked is None:
            raise ValueError(f"{text!r}: expected a place, a time with its zone, or 30s, 5m, 2h")
        if isinstance(asked, datetime):
            return self._find_time(milliseconds(asked))
        if self._is_recent(asked):
            step = next((one for one in self._newest_first() if one.place <= asked.at), None)
            if step and step.place == asked.at:
                return self._moment(step)
            raise GoneError(NOT_KEPT.format(asked))
        self._store_open()
        return self._query(asked.epoch, lambda archive: archive.find(asked))

    def _find_time(self, at: int) -> Moment:
        later = None
        for step in self._newest_first():
            if step.at <= at:
                if later and later.skipped and step.at < at:
                    raise HoleError(self._moment(step))
                return self._moment(step)
            later = step
        self._store_open()
        return self._query(self._epoch, lambda archive: self._find_time_in(archive, at))

    def _find_time_in(self, archive: Archive, at: int) -> Moment:
        found = archive.find_time(at)
        # The memory dropped the following steps before they were written to the file.
        if archive is self.file and found.place == self._last_in(archive) and found.at < at:
            raise HoleError(found)
        return found

    def _last_in(self, archive: Archive) -> Place | None:
        """Return the last place of this epoch that the archive has."""
        return archive.last and Place(self._epoch, *archive.last)

    def _newest_first(self) -> Iterator[Step]:
        """Return the recent steps, and the one before them."""
        return chain(reversed(self._recent), [self._before_recent])

    def _moment(self, step: Step) -> Moment:
        return Moment(Place(self._epoch, *step.place), step.at, self._started_at)

    def _query(self, epoch: str, query: Callable[[Archive], T]) -> T:
        """Return the answer of the memory's archive if it has one, else that of the file."""
        if epoch == self._epoch:
            try:
                return query(self._memory)
            except GoneError:
                if not self.file:
                    raise
        if self.file:
            return query(self.file)
        raise GoneError(f"epoch {epoch} is not in the history")

    def oldest_in_memory(self) -> Place | None:
        """Return the oldest place that needs no file."""
        self._store_open()  # this may drop the oldest
        return self._memory.oldest()

    def oldest(self) -> Place | None:
        """Return the oldest place in the history."""
        places = [archive.oldest() for archive in (self.file, self._memory) if archive]
        return min(filter(None, places), key=self.order, default=None)

    def order(self, place: Place) -> tuple[bool, Place]:
        """Return a sort key: the current epoch comes last, even after the clock was set back."""
        return place.epoch == self._epoch, place

    # the past

    def has_known(self, id: Id) -> bool:
        """Return whether the entity exists now, or existed at any time in the history."""
        return (
            id in self.bodies
            or any(one is not None for one in self.entries(id, None))
            or self._memory.had_at_start(id)
            or bool(self.file and self.file.had_at_start(id))
        )

    def require_running(self, place: Place, at: int) -> None:
        """Raise GoneError if the epoch of a place had ended by that time."""
        alive = self._query(place.epoch, lambda archive: archive.alive_until(place.epoch))
        if at > alive + ALIVE_FOR:
            raise GoneError(f"Telemetron was not running then; the last place before is {place}")

    def state(self, place: Place) -> Mapping[Id, bytes]:
        """Return all entities at a place."""
        if self._is_recent(place):
            undone, _ = self._undo_until(place)
            then: dict[Id, bytes | None] = {**self.recorder.bodies, **undone}
            return {id: body for id, body in then.items() if body is not None}
        self._store_open()
        return self._query(place.epoch, lambda archive: archive.state(place))

    def _is_recent(self, place: Place) -> bool:
        return place.epoch == self._epoch and place.at >= self._before_recent.place

    def _undo_until(
        self, place: Place
    ) -> tuple[dict[Id, bytes | None], dict[Id, list[tuple[int, Entry]]]]:
        """Undo the steps since a recent place.

        Return the entities that changed since, as they were then (None: absent), and their
        entries with times, newest first.
        """
        records: dict[Id, Record | None] = {}
        entries: dict[Id, list[tuple[int, Entry]]] = {}
        for step in reversed(self._recent):
            if step.place <= place.at:
                break
            for entry in step.entries:
                entries.setdefault(entry.id, []).append((step.at, entry))
                self._undo(entry, records)
        return {id: encode(one) if one else None for id, one in records.items()}, entries

    def _undo(self, entry: Entry, records: dict[Id, Record | None]) -> None:
        delta = entry.delta
        if delta is None:
            records[entry.id] = decode(entry.old) if entry.old is not None else None
            return
        record = records.get(entry.id)
        if record is None:
            record = records[entry.id] = decode(self.recorder.bodies[entry.id])
        apply(record, inverted(delta))

    def between(self, since: Place, until: Place) -> Between:
        """Return the entities that may differ between two places; some may be equal."""
        if not self._is_recent(since) or until.epoch != self._epoch:
            states = self.state(since), self.state(until)
            return Between(*states, partial(self._entries_between, since, until))
        undone, entries = self._undo_until(since)
        later, _ = self._undo_until(until)
        now = self.recorder.bodies
        after = {id: later[id] if id in later else now.get(id) for id in undone}
        if until == self.tip:
            return Between(undone, after, lambda id, _: entries[id])
        return Between(undone, after, partial(self._entries_between, since, until))

    def _entries_between(
        self, since: Place, until: Place, id: Id, states: bool
    ) -> Iterator[tuple[int, Entry]]:
        """Yield entries down to `since`, at most those of the epoch of `until`."""
        for place, at, entry in self._entries_until(id, until, states):
            if place.epoch == since.epoch and place <= since:
                return
            yield at, entry

    def _entries_until(self, id: Id, until: Place, states: bool) -> Iterator[PlacedEntry]:
        self._store_open()
        with suppress(GoneError):
            first = self._memory.first()
            if until.epoch == self._epoch:
                yield from self._memory.entries_until(id, until, states)
                if not (self.file and self.file.has_all_before(first)):
                    return
                until = min(first, until)
            if self.file:
                yield from self.file.entries_until(id, until, states)

    def entries(self, id: Id, bound: Place | None) -> Iterator[PlacedEntry | None]:
        """Yield entries as `Archive.entries` does: those in memory, then those in the file."""
        self._store_open()
        first = self._memory.first()
        if bound is None or self.order(first) < self.order(bound):
            yield from self._memory.entries(id, bound)
            if self.file and not self.file.has_all_before(first):
                yield None
        if self.file:
            try:
                yield from self.file.entries(id, min(bound or first, first, key=self.order))
            except GoneError:  # another process has deleted this epoch
                yield None

    def task_entries(self, id: str, newest: int, oldest: int) -> Iterator[PlacedEntry | None]:
        """Yield the entries that name a task, newest first; None stands for entries left out.

        `newest` and `oldest` are how many batches are read: of the memory, and of the file.
        """
        self._store_open()
        first = self._memory.first()
        yield from self._memory.task_entries(id, None, newest, oldest)
        if self.file:
            try:
                yield from self.file.task_entries(id, first, newest, oldest)
            except GoneError:  # another process has deleted this epoch
                yield None

    def is_whole(self) -> bool:
        """Return whether every step of every epoch is kept, and found by its tasks."""
        self._store_open()
        if self.file is None:
            return self._memory.indexes_all()
        return self.file.indexes_all() and self.file.has_all_before(self._memory.first())


class Steps(deque[Step]):
    """Steps in order, with their total weight and approximate size in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = 0
        self.bytes = 0

    def exceeds(self, weight: int, size: int) -> bool:
        """Return whether the steps weigh or take more."""
        return self.weight > weight or self.bytes > size

    def append(self, step: Step) -> None:
        super().append(step)
        self.weight += 1 + len(step.entries)
        self.bytes += _size(step)

    def popleft(self) -> Step:
        step = super().popleft()
        self.weight -= 1 + len(step.entries)
        self.bytes -= _size(step)
        return step

    def clear(self) -> None:
        super().clear()
        self.weight = self.bytes = 0

    def pop_all(self) -> list[Step]:
        """Remove and return all steps."""
        steps = list(self)
        self.clear()
        return steps


def _size(step: Step) -> int:
    bodies = [entry.packed or entry.new or entry.old or b"" for entry in step.entries]
    return ENTRY_BYTES * (1 + len(bodies)) + sum(map(len, bodies))
