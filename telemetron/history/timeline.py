"""The timeline: all that is known of the past.

The newest steps are at hand as they are; older ones in the memory's archive, and those that were
written in the file's, where there is one. Everything here happens on one thread.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import chain
from typing import NamedTuple, TypeVar

from telemetron.history.archive import LOG_BYTES, MEMORY, Archive, GoneError, Lived, Moment
from telemetron.history.delta import Record, Shape, apply, inverted
from telemetron.history.limits import HistoryLimits
from telemetron.history.place import Place, milliseconds, parse
from telemetron.history.recorder import Entry, Id, Recorder, Step, decode, encode
from telemetron.store.snapshot import Snapshot
from telemetron.store.store import Publication

ENTRY_BYTES = 200
# An epoch is known to live at least so often, milliseconds.
LIFE_SIGN = 15_000

NAME = "history"
"""The source that stands for the file; it feeds nothing."""

T = TypeVar("T")


class Between(NamedTuple):
    """What may differ between two places: entities before and after, and what happened to each.

    `touches` gives the entries of an entity with their times, newest first; with True it may skip
    those that changed only measures.
    """

    before: Mapping[Id, bytes | None]
    after: Mapping[Id, bytes | None]
    touches: Callable[[Id, bool], Iterable[tuple[int, Entry]]]


class Timeline:
    """The history of one store since its first snapshot; `file` may know more epochs.

    `feeds` tells the sections that a collector writes, by its name; none: all.
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
        self._unwritten = Steps()
        self._is_behind = False
        """Whether the file misses steps that are not kept for it, so that it has to begin anew."""
        self._recent = Steps()
        self._before_recent = self.recorder.last
        self._begin(self._memory)

    @property
    def newest(self) -> Moment:
        """The newest place, and when it was reached."""
        return self._moment(self.recorder.last)

    @property
    def tip(self) -> Place:
        """The newest place."""
        return Place(self._epoch, *self.recorder.last.place)

    @property
    def bodies(self) -> Mapping[Id, bytes]:
        """All entities as they were recorded last."""
        return self.recorder.bodies

    # recording

    def record(self, publication: Publication, now: float) -> Iterator[None]:
        """Take a publication in; yields after each entity."""
        yield from self.recorder.record(publication, now)
        self._take(self.recorder.last)

    def late(self, now: float, at: int) -> Iterator[None]:
        """Take in the measures that are due; yields after each entity."""
        last = self.recorder.last
        yield from self.recorder.late(now, at)
        if self.recorder.last is not last:
            self._take(self.recorder.last)

    def restart(self, now: float, at: int) -> None:
        """After a failure: go on with all as it is; what was not recorded is a hole."""
        self._memory.append(self._open.taken())
        self.recorder.restart(now, at)
        self._recent.taken()
        self._unwritten.taken()
        self._before_recent = self.recorder.last
        self._is_behind = self.file is not None
        self._begin(self._memory)
        self._tend(self._memory, self.limits.memory_bytes)

    def _take(self, step: Step) -> None:
        limits = self.limits
        self._recent.append(step)
        while self._recent.exceeds(limits.recent_weight, limits.recent_bytes):
            self._before_recent = self._recent.popleft()
        self._open.append(step)
        if self._open.weight >= limits.open_weight:
            self._close_open()
        if self.file and not self._is_behind:
            self._unwritten.append(step)
            if self._unwritten.exceeds(limits.unwritten_weight, limits.unwritten_bytes):
                self._unwritten.taken()
                self._is_behind = True

    def _begin(self, archive: Archive) -> None:
        """An archive that knows nothing of this epoch, or misses some of it."""
        if archive.last != self.recorder.last.place:
            archive.begin(self.recorder.last, self.recorder.bodies)

    def _close_open(self) -> None:
        """What is open goes into the memory's archive."""
        self._memory.append(self._open.taken())
        self._tend(self._memory, self.limits.memory_bytes)

    def _tend(self, archive: Archive, limit_bytes: int) -> None:
        if archive.wants_keyframe(self.limits.max_age):
            archive.keyframe(self.recorder.last, self.recorder.bodies)
        while archive.retain(limit_bytes, self.recorder.last.at - self.limits.max_age):
            pass

    def close(self) -> None:
        """No more of it; the file is closed by who opened it."""
        self._memory.close()

    def bytes_used(self) -> int:
        """What is kept in memory takes, compressed."""
        return self._memory.bytes_used()

    # the file

    @property
    def has_unwritten(self) -> bool:
        """Whether there is something new for the file."""
        return self._is_behind or bool(self._unwritten)

    def write(self, at: int) -> None:
        """Put what is new into the file; raises what the archive raises, and keeps it then."""
        if self.file is None:
            return
        if self._is_behind:
            self.open_file(self.file)
        elif self._unwritten:
            self.file.append(list(self._unwritten))
            self._unwritten.taken()
        else:
            return self.file.live(at)
        limit = self.limits.file_bytes
        self._tend(self.file, limit - min(LOG_BYTES, limit // 2))

    def open_file(self, file: Archive) -> None:
        """From now on all goes into this file too."""
        self._begin(file)
        self._unwritten.taken()
        self._is_behind = False
        self.file = file

    # places

    def resolve(self, text: str, now: datetime) -> Moment:
        """What a place, a time or a duration names.

        ValueError where it is none of these, GoneError where it is not kept.
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
            raise GoneError(f"{asked} is not kept")
        self._close_open()
        return self._ask(asked.epoch, lambda archive: archive.find(asked))

    def _find_time(self, at: int) -> Moment:
        later = None
        for step in self._newest_first():
            if step.at <= at:
                if later and later.skipped and step.at < at:
                    raise GoneError("what was then is not kept")
                return self._moment(step)
            later = step
        self._close_open()
        return self._ask(self._epoch, lambda archive: self._find_time_in(archive, at))

    def _find_time_in(self, archive: Archive, at: int) -> Moment:
        found = archive.find_time(at)
        # What came after the last that is in the file, but the memory has forgotten.
        if archive is self.file and found.place == self._kept_in(archive) and found.at < at:
            raise GoneError("what was then is not kept")
        return found

    def _kept_in(self, archive: Archive) -> Place | None:
        """The last place of this epoch that it has."""
        return archive.last and Place(self._epoch, *archive.last)

    def _newest_first(self) -> Iterator[Step]:
        """The steps that are at hand, and the one before them."""
        return chain(reversed(self._recent), [self._before_recent])

    def _moment(self, step: Step) -> Moment:
        return Moment(Place(self._epoch, *step.place), step.at, self._started_at)

    def _ask(self, epoch: str, ask: Callable[[Archive], T]) -> T:
        """The memory's archive where it knows, else the file's."""
        if epoch == self._epoch:
            try:
                return ask(self._memory)
            except GoneError:
                if not self.file:
                    raise
        if self.file:
            return ask(self.file)
        raise GoneError(f"nothing is kept of epoch {epoch}")

    def oldest_in_memory(self) -> Place | None:
        """The oldest place that is answered without the file."""
        self._close_open()  # which may forget what was the oldest
        return self._memory.oldest()

    def oldest(self) -> Place | None:
        """The oldest place that can be asked for."""
        kept = [archive.oldest() for archive in (self.file, self._memory) if archive]
        return min(filter(None, kept), key=self.order, default=None)

    def order(self, place: Place) -> tuple[bool, Place]:
        """The present epoch is the last, whatever the clock was in others."""
        return place.epoch == self._epoch, place

    # what was

    def knew(self, id: Id) -> bool:
        """Whether anything is known of the entity, now or in what is kept."""
        return (
            id in self.bodies
            or any(one is not None for one in self.lived(id, None))
            or self._memory.held(id)
            or bool(self.file and self.file.held(id))
        )

    def require_life(self, place: Place, at: int) -> None:
        """GoneError where nobody was there to observe what was so long after a place."""
        lived = self._ask(place.epoch, lambda archive: archive.lived_until(place.epoch))
        if at > lived + LIFE_SIGN:
            raise GoneError(f"nobody observed the system then; {place} was the last before")

    def state(self, place: Place) -> Mapping[Id, bytes]:
        """All entities then."""
        if self._is_recent(place):
            undone, _ = self._undone(place)
            then: dict[Id, bytes | None] = {**self.recorder.bodies, **undone}
            return {id: body for id, body in then.items() if body is not None}
        self._close_open()
        return self._ask(place.epoch, lambda archive: archive.state(place))

    def _is_recent(self, place: Place) -> bool:
        return place.epoch == self._epoch and place.at >= self._before_recent.place

    def _undone(
        self, place: Place
    ) -> tuple[dict[Id, bytes | None], dict[Id, list[tuple[int, Entry]]]]:
        """What changed since a recent place: as it was then, None: not there; and its entries."""
        records: dict[Id, Record | None] = {}
        touches: dict[Id, list[tuple[int, Entry]]] = {}
        for step in reversed(self._recent):
            if step.place <= place.at:
                break
            for entry in step.entries:
                touches.setdefault(entry.id, []).append((step.at, entry))
                self._undo(entry, records)
        return {id: encode(one) if one else None for id, one in records.items()}, touches

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
        """All that may differ, and more."""
        if not self._is_recent(since) or until.epoch != self._epoch:
            states = self.state(since), self.state(until)
            return Between(*states, partial(self._touches, since, until))
        undone, touches = self._undone(since)
        later, _ = self._undone(until)
        now = self.recorder.bodies
        after = {id: later[id] if id in later else now.get(id) for id in undone}
        if until == self.tip:
            return Between(undone, after, lambda id, _: touches[id])
        return Between(undone, after, partial(self._touches, since, until))

    def _touches(
        self, since: Place, until: Place, id: Id, states: bool
    ) -> Iterator[tuple[int, Entry]]:
        """Of a place in another epoch only that it is before."""
        for place, at, entry in self._touched(id, until, states):
            if place.epoch == since.epoch and place <= since:
                return
            yield at, entry

    def _touched(self, id: Id, until: Place, states: bool) -> Iterator[Lived]:
        self._close_open()
        with suppress(GoneError):
            first = self._memory.first()
            if until.epoch == self._epoch:
                yield from self._memory.touches(id, until, states)
                if not (self.file and self.file.leads_to(first)):
                    return
                until = min(first, until)
            if self.file:
                yield from self.file.touches(id, until, states)

    def lived(self, id: Id, bound: Place | None) -> Iterator[Lived | None]:
        """As `Archive.life`: what the memory knows, and before that the file."""
        self._close_open()
        first = self._memory.first()
        if bound is None or self.order(first) < self.order(bound):
            yield from self._memory.life(id, bound)
            if self.file and not self.file.leads_to(first):
                yield None
        if self.file:
            try:
                yield from self.file.life(id, min(bound or first, first, key=self.order))
            except GoneError:  # another process has forgotten this epoch
                yield None


class Steps(deque[Step]):
    """Steps in their order, and about how much they take."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = 0
        self.bytes = 0

    def exceeds(self, weight: int, size: int) -> bool:
        """Whether there are more, or they take more."""
        return self.weight > weight or self.bytes > size

    def append(self, step: Step) -> None:
        """One more."""
        super().append(step)
        self.weight += 1 + len(step.entries)
        self.bytes += _size(step)

    def popleft(self) -> Step:
        """One less."""
        step = super().popleft()
        self.weight -= 1 + len(step.entries)
        self.bytes -= _size(step)
        return step

    def taken(self) -> list[Step]:
        """All; none is left."""
        steps = list(self)
        self.clear()
        self.weight = self.bytes = 0
        return steps


def _size(step: Step) -> int:
    held = (entry.packed or entry.new or entry.old or b"" for entry in step.entries)
    return ENTRY_BYTES * (1 + len(step.entries)) + sum(map(len, held))
