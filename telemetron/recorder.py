"""The recorder: what of each publication goes into the history of changes.

Every change of state does; of an entity's measures, levels at most once in 10 s and samples once a
minute. What is left out so is looked at again when it is due.
"""

import heapq
from collections.abc import Iterator, Mapping, Set
from typing import Any

import msgspec
from msgspec import Struct

from telemetron.delta import Delta, Shape, apply, compare
from telemetron.place import milliseconds
from telemetron.snapshot import Snapshot
from telemetron.store import Publication

PERIODS = {"level": 10.0, "sample": 60.0}

Id = tuple[str, str]
"""Section and key."""

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(dict[str, Any]).decode
pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Entry(Struct, array_like=True, frozen=True, gc=False):
    """What happened to one entity: it changed (`packed`), came (`new`) or went (`old`)."""

    section: str
    key: str
    packed: bytes | None = None
    """The delta; as bytes, because thousands of entries are kept at hand."""
    old: bytes | None = None
    new: bytes | None = None

    @property
    def id(self) -> Id:
        """Section and key."""
        return self.section, self.key

    @property
    def delta(self) -> Delta | None:
        """How it changed; None: it came or went."""
        return None if self.packed is None else unpack(self.packed)


class Step(Struct, array_like=True, frozen=True, gc=False):
    """A revision, or what was recorded later while it stood; often of no entry at all."""

    revision: int
    step: int
    at: int
    """Milliseconds since 1970."""
    entries: list[Entry] = []
    skipped: int = 0
    """Revisions before it that were not recorded, because there were too many."""

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in its epoch."""
        return self.revision, self.step

    def follows(self, place: tuple[int, int]) -> bool:
        """Whether nothing is missing since that place."""
        if self.step:
            return place == (self.revision, self.step - 1)
        return place[0] == self.revision - self.skipped - 1


class Recorder:
    """All entities as they were last recorded, and what of them is due when.

    `now` is always monotonic, in seconds.
    """

    def __init__(self, shapes: Mapping[str, Shape], snapshot: Snapshot) -> None:
        self.bodies: dict[Id, bytes] = {}
        self.last = Step(snapshot.change.revision, 0, milliseconds(snapshot.change.at))
        self._shapes = shapes
        self._snapshot = snapshot
        self._recorded: dict[Id, dict[str, float]] = {}
        """When measures of each kind were recorded last."""
        self._due: dict[Id, float] = {}
        self._queue: list[tuple[float, Id]] = []

    @property
    def due(self) -> float | None:
        """When `late` has something to look at."""
        return self._queue[0][0] if self._queue else None

    def record(self, publication: Publication, now: float) -> Iterator[None]:
        """The step is `last` in the end; yields after each entity."""
        self._snapshot = publication.snapshot
        entries: list[Entry] = []
        for section, keys in publication.changed.items():
            for key, moved in keys.items():
                if entry := self._entry((section, key), moved, now):
                    entries.append(entry)
                yield
        change = publication.snapshot.change
        skipped = change.revision - self.last.revision - 1
        self.last = Step(change.revision, 0, milliseconds(change.at), entries, skipped)

    def restart(self, now: float, at: int) -> None:
        """Take all in as it is, after a failure; what led to it is not recorded."""
        change, last = self._snapshot.change, self.last
        if change.revision == last.revision:
            self.last = Step(last.revision, last.step + 1, at)
        else:
            self.last = Step(change.revision, 0, milliseconds(change.at))
        self.bodies = {
            (section, key): fragment.body
            for section, face in self._snapshot.faces.items()
            for key, fragment in zip(face.rope.every_key(), face.rope, strict=True)
        }
        self._recorded = {id: dict.fromkeys(PERIODS, now) for id in self.bodies}
        self._due.clear()
        self._queue.clear()

    def late(self, now: float, at: int) -> Iterator[None]:
        """Record the measures that are due, as the step that is `last` then, if there are any.

        Yields after each entity.
        """
        entries: list[Entry] = []
        while self._queue and self._queue[0][0] <= now:
            due, id = heapq.heappop(self._queue)
            if self._due.get(id) == due:
                del self._due[id]
                if entry := self._entry(id, False, now):
                    entries.append(entry)
            yield
        if entries:
            self.last = Step(self.last.revision, self.last.step + 1, at, entries)

    def _entry(self, id: Id, moved: bool, now: float) -> Entry | None:
        section, key = id
        fragment = self._snapshot.faces[section].rope.get(key)
        old = self.bodies.get(id)
        if fragment is None:
            return self._forget(id)
        if old is None:
            self.bodies[id] = fragment.body
            self._recorded[id] = dict.fromkeys(PERIODS, now)
            return Entry(section, key, new=fragment.body)
        measures = {kind for kind in PERIODS if now >= self._next(id, kind)}
        if not moved and not measures:
            self._postpone(id)
            return None
        before, after = decode(old), decode(fragment.body)
        delta = compare(before, after, self._shapes[section], measures)
        if delta:
            self._recorded[id].update(dict.fromkeys(measures, now))
            apply(before, delta)
        if before == after:
            self.bodies[id] = fragment.body
        elif delta:
            self.bodies[id] = encode(before)
        # Where no measure is left to look at, what differs is a time that does not count.
        if before != after and PERIODS.keys() - measures:
            self._postpone(id, measures)
        return Entry(section, key, pack(delta)) if delta else None

    def _forget(self, id: Id) -> Entry | None:
        self._due.pop(id, None)
        self._recorded.pop(id, None)
        old = self.bodies.pop(id, None)
        return Entry(*id, old=old) if old is not None else None

    def _next(self, id: Id, kind: str) -> float:
        return self._recorded[id][kind] + PERIODS[kind]

    def _postpone(self, id: Id, looked: Set[str] = frozenset()) -> None:
        """Look again when the next kind of measures is due that was not looked at now."""
        due = min(self._next(id, kind) for kind in PERIODS.keys() - looked)
        if self._due.get(id, due + 1) > due:
            self._due[id] = due
            heapq.heappush(self._queue, (due, id))
