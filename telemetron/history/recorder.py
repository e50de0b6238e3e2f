"""The recorder: makes one step of each publication.

A step has every change of state, with the measures of the entity at that time. Measures that change
while the state does not are recorded later, levels at most every 10 s and samples every 60 s. The
recorder remembers when each was published, so that its entry has the time of the change.
"""

import heapq
from collections.abc import Iterator, Mapping, Set
from typing import Any

import msgspec
from msgspec import Struct

from telemetron.history.delta import Delta, Shape, apply, compare
from telemetron.history.place import milliseconds
from telemetron.history.published import changed_measures, difference
from telemetron.store.rope import Fragment
from telemetron.store.snapshot import Snapshot
from telemetron.store.store import Publication

PERIODS = {"level": 10.0, "sample": 60.0}
KINDS: Set[str] = PERIODS.keys()

Id = tuple[str, str]
"""Section and key."""

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(dict[str, Any]).decode
pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Entry(Struct, array_like=True, frozen=True, gc=False):
    """A change of one entity: it changed (`packed`), was added (`new`) or removed (`old`)."""

    section: str
    key: str
    packed: bytes | None = None
    """The delta, encoded: thousands of entries are in memory."""
    old: bytes | None = None
    new: bytes | None = None
    is_state: bool = True
    """Whether more than measures changed."""
    times: dict[str, int] | None = None
    """When measures changed that were recorded later, by path; all else changed with the step."""

    @property
    def id(self) -> Id:
        """Section and key."""
        return self.section, self.key

    @property
    def delta(self) -> Delta | None:
        """The decoded delta; None if the entity was added or removed."""
        return None if self.packed is None else unpack(self.packed)


class Step(Struct, array_like=True, frozen=True, gc=False):
    """The entries of one revision, or measures recorded later; it may have no entries."""

    revision: int
    step: int
    at: int
    """Milliseconds since 1970."""
    entries: list[Entry] = []
    skipped: int = 0
    """Revisions before it that are part of it: publications came too fast to record each."""

    @property
    def place(self) -> tuple[int, int]:
        """The revision and the number of the step: places of one epoch sort by it."""
        return self.revision, self.step

    def follows(self, place: tuple[int, int]) -> bool:
        """Return whether this is the next step after that place."""
        if self.step:
            return place == (self.revision, self.step - 1)
        return place[0] == self.revision - self.skipped - 1


class Recorder:
    """All entities as last recorded, and the measures that are yet to be recorded.

    `now` is monotonic, in seconds; `at` is in milliseconds since 1970.
    """

    def __init__(self, shapes: Mapping[str, Shape], snapshot: Snapshot) -> None:
        self.bodies: dict[Id, bytes] = {}
        self._whole: dict[Id, Fragment] = {}
        """The entities of which nothing is left to record, as they were published."""
        self.last = Step(snapshot.change.revision, 0, milliseconds(snapshot.change.at))
        self._shapes = shapes
        self._snapshot = snapshot
        self._recorded: dict[Id, dict[str, float]] = {}
        """When each kind of measures was last recorded."""
        self._pending: dict[Id, dict[str, tuple[str, int]]] = {}
        """Measures that are not recorded yet, by path: the kind, and the time of publication."""
        self._due: dict[Id, float] = {}
        self._queue: list[tuple[float, Id]] = []

    @property
    def due(self) -> float | None:
        """When `record_due` has something to do next."""
        return self._queue[0][0] if self._queue else None

    def record(self, publication: Publication, now: float) -> Iterator[None]:
        """Make a step, which is `last` in the end; yield after each entity."""
        before, self._snapshot = self._snapshot, publication.snapshot
        change = publication.snapshot.change
        at = milliseconds(change.at)
        entries: list[Entry] = []
        for section, keys in publication.changed.items():
            rope = self._snapshot.sections[section].rope
            for key, is_state in keys.items():
                id = section, key
                fragment, whole = rope.get(key), self._whole.get(id)
                if is_state and fragment and whole and id not in self._pending:
                    entry = self._moved(id, whole, fragment, now)
                else:
                    self._note_measures(id, before, at, is_state)
                    entry = self._entry(id, is_state, now, at)
                if entry:
                    entries.append(entry)
                yield
        skipped = change.revision - self.last.revision - 1
        self.last = Step(change.revision, 0, at, entries, skipped)

    def restart(self, now: float, at: int) -> None:
        """Continue after a failure with the current entities; the steps in between are lost."""
        change, last = self._snapshot.change, self.last
        if change.revision == last.revision:
            self.last = Step(last.revision, last.step + 1, at)
        else:
            self.last = Step(change.revision, 0, milliseconds(change.at))
        self._whole = {
            (section, key): fragment
            for section, face in self._snapshot.sections.items()
            for key, fragment in zip(face.rope.every_key(), face.rope, strict=True)
        }
        self.bodies = {id: fragment.body for id, fragment in self._whole.items()}
        self._recorded = {id: dict.fromkeys(PERIODS, now) for id in self.bodies}
        self._pending.clear()
        self._due.clear()
        self._queue.clear()

    def record_due(self, now: float, at: int) -> Iterator[None]:
        """Make a step of the measures that are due, if there are any; yield after each entity."""
        entries: list[Entry] = []
        while self._queue and self._queue[0][0] <= now:
            due, id = heapq.heappop(self._queue)
            if self._due.get(id) == due:
                del self._due[id]
                if id in self._pending and (entry := self._entry(id, False, now, at)):
                    entries.append(entry)
            yield
        if entries:
            self.last = Step(self.last.revision, self.last.step + 1, at, entries)

    def _note_measures(self, id: Id, before: Snapshot, at: int, is_state: bool) -> None:
        """Remember which measures of an entity this publication changed.

        A change of state records them now; then only the times of pending measures are needed.
        """
        if is_state and id not in self._pending:
            return
        section, key = id
        old = before.sections[section].rope.get(key)
        new = self._snapshot.sections[section].rope.get(key)
        if old is None or new is None:
            return
        pending = self._pending.setdefault(id, {})
        for path, kind in changed_measures(old.entity, new.entity, self._shapes[section]):
            pending[path] = kind, at

    def _moved(self, id: Id, old: Fragment, new: Fragment, now: float) -> Entry | None:
        """Do what `_entry` does if state changed and no measures are pending: most often."""
        delta = difference(old, new, self._shapes[id[0]])
        self._keep(id, new)
        if not delta:
            return None
        self._recorded[id] = dict.fromkeys(PERIODS, now)
        return Entry(*id, pack(delta))

    def _entry(self, id: Id, is_state: bool, now: float, at: int) -> Entry | None:
        section, key = id
        fragment = self._snapshot.sections[section].rope.get(key)
        if fragment is None:
            return self._remove(id)
        if id not in self.bodies:
            self._keep(id, fragment)
            self._recorded[id] = dict.fromkeys(PERIODS, now)
            return Entry(section, key, new=fragment.body)
        measures = KINDS if is_state else {k for k in PERIODS if now >= self._due_at(id, k)}
        if not measures:
            self._schedule(id)
            return None
        delta = self._record(id, fragment, measures)
        times = self._pop_pending(id, measures, at)
        if delta:
            self._recorded[id].update(dict.fromkeys(measures, now))
        self._schedule(id)
        if not delta:
            return None
        return Entry(section, key, pack(delta), is_state=is_state, times=times or None)

    def _record(self, id: Id, fragment: Fragment, measures: Set[str]) -> Delta:
        """Record an entity with its measures of these kinds; return the delta."""
        shape = self._shapes[id[0]]
        whole = self._whole.get(id)
        if whole is not None and len(measures) == len(PERIODS):
            delta = difference(whole, fragment, shape)
            self._keep(id, fragment)
            return delta
        before, after = decode(self.bodies[id]), decode(fragment.body)
        delta = compare(before, after, shape, measures)
        apply(before, delta)
        if before == after:
            self._keep(id, fragment)
        elif delta:
            self.bodies[id] = encode(before)
            self._whole.pop(id, None)
        return delta

    def _keep(self, id: Id, fragment: Fragment) -> None:
        self.bodies[id] = fragment.body
        self._whole[id] = fragment

    def _pop_pending(self, id: Id, measures: Set[str], at: int) -> dict[str, int]:
        """Remove the pending measures of these kinds; return their times, if earlier than `at`."""
        pending = self._pending.pop(id, None)
        if not pending:
            return {}
        if left := {path: one for path, one in pending.items() if one[0] not in measures}:
            self._pending[id] = left
        return {path: t for path, (kind, t) in pending.items() if kind in measures and t != at}

    def _remove(self, id: Id) -> Entry | None:
        self._due.pop(id, None)
        self._recorded.pop(id, None)
        self._pending.pop(id, None)
        self._whole.pop(id, None)
        old = self.bodies.pop(id, None)
        return Entry(*id, old=old) if old is not None else None

    def _due_at(self, id: Id, kind: str) -> float:
        return self._recorded[id][kind] + PERIODS[kind]

    def _schedule(self, id: Id) -> None:
        """Schedule the entity for when the first kind of its pending measures is due."""
        pending = self._pending.get(id)
        if not pending:
            return
        kinds = {kind for kind, _ in pending.values()}
        due = min(self._due_at(id, kind) for kind in kinds)
        if self._due.get(id, due + 1) > due:
            self._due[id] = due
            heapq.heappush(self._queue, (due, id))
