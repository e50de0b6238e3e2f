"""The timeline: all that is known of the past, and the answers that are folds of it.

The newest steps are at hand as they are; older ones in the memory's archive, and those that were
written in the file's, where there is one. Everything here happens on one thread.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from msgspec import Raw

from telemetron.archive import LOG_BYTES, MEMORY, Archive, GoneError, Lived, Moment
from telemetron.delta import MEASURES, Delta, Record, Shape, apply, compare, fields, inverted
from telemetron.place import Place, milliseconds, moment, parse
from telemetron.recorder import Entry, Id, Recorder, Step, decode, encode
from telemetron.rope import Change, Fragment, Rope
from telemetron.snapshot import Face, Snapshot
from telemetron.store import Publication

RECENT_BYTES = 8 * 1024 * 1024
RECENT_WEIGHT = 5_000
OPEN_WEIGHT = 500
UNWRITTEN_BYTES = 32 * 1024 * 1024
UNWRITTEN_WEIGHT = 50_000
ENTRY_BYTES = 200
MAX_ANSWER_BYTES = 1024 * 1024
# An epoch is known to live at least so often, milliseconds.
LIFE_SIGN = 15_000

SOURCES = "sources"
NAME = "history"
"""The source that stands for the file; it feeds nothing."""

Json = dict[str, Any]
T = TypeVar("T")


class Limits(NamedTuple):
    """How much of the past is kept."""

    memory_bytes: int = 64 * 1024 * 1024
    file_bytes: int = 1024 * 1024 * 1024
    max_age: int = 24 * 3_600_000
    """Milliseconds."""


class Asked(NamedTuple):
    """Which changes are asked for."""

    since: str | None = None
    """None: the oldest that is in memory."""
    until: str | None = None
    sections: tuple[str, ...] = ()
    """Empty: all."""
    key: str | None = None
    measures: str = "levels"
    limit: int = 100
    after: str | None = None
    """Go on after this entity, as `SECTION/KEY`."""


class Answer(NamedTuple):
    """Changes as they are sent, up to which place, and whether there is nothing to tell."""

    body: bytes
    to: str
    empty: bool
    after: str | None = None
    """The last entity of it, if there are more."""


class Between(NamedTuple):
    """What may differ between two places: entities before and after, and when each changed."""

    before: Mapping[Id, bytes | None]
    after: Mapping[Id, bytes | None]
    time: Callable[[Id], int | None]


class Timeline:
    """The history of one store since its first snapshot; `file` may know more epochs.

    `feeds` tells the sections that a collector writes, by its name; none: all.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        snapshot: Snapshot,
        limits: Limits,
        feeds: Callable[[str], Collection[str]],
    ) -> None:
        self.recorder = Recorder(shapes, snapshot)
        self.file: Archive | None = None
        self._shapes = shapes
        self._limits = limits
        self._feeds = feeds
        self._system = snapshot.id
        self._epoch = snapshot.epoch
        self._started_at = milliseconds(snapshot.started_at)
        self._memory = Archive(MEMORY, self._system, self._epoch, self._started_at)
        self._open = Steps()
        self._unwritten = Steps()
        self._is_behind = False
        """Whether the file misses steps that are not kept for it, so that it has to begin anew."""
        self._recent = Steps()
        self._before_recent = self.recorder.last
        self._begin(self._memory)

    @property
    def tip(self) -> Place:
        """The newest place."""
        return Place(self._epoch, *self.recorder.last.place)

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

    def _take(self, step: Step) -> None:
        self._recent.append(step)
        while self._recent.exceeds(RECENT_WEIGHT, RECENT_BYTES):
            self._before_recent = self._recent.popleft()
        self._open.append(step)
        if self._open.weight >= OPEN_WEIGHT:
            self._close_open()
        if self.file and not self._is_behind:
            self._unwritten.append(step)
            if self._unwritten.exceeds(UNWRITTEN_WEIGHT, UNWRITTEN_BYTES):
                self._unwritten.taken()
                self._is_behind = True

    def _begin(self, archive: Archive) -> None:
        """An archive that knows nothing of this epoch, or misses some of it."""
        if archive.last != self.recorder.last.place:
            archive.begin(self.recorder.last, self.recorder.bodies)

    def _close_open(self) -> None:
        """What is open goes into the memory's archive."""
        self._memory.append(self._open.taken())
        self._tend(self._memory, self._limits.memory_bytes)

    def _tend(self, archive: Archive, limit_bytes: int) -> None:
        if archive.wants_keyframe(self._limits.max_age):
            archive.keyframe(self.recorder.last, self.recorder.bodies)
        while archive.retain(limit_bytes, self.recorder.last.at - self._limits.max_age):
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
            return self.open_file(self.file)
        steps = list(self._unwritten)
        if steps:
            self.file.append(steps)
            self._unwritten.taken()
            limit = self._limits.file_bytes
            self._tend(self.file, limit - min(LOG_BYTES, limit // 2))
        else:
            self.file.live(at)

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

    def oldest(self) -> Place | None:
        """The oldest place that can be asked for."""
        kept = [archive.oldest() for archive in (self.file, self._memory) if archive]
        return min((place for place in kept if place), default=None)

    # the past

    def snapshot(self, text: str, now: datetime) -> Snapshot:
        """The document as it was, but for measures: those are as last recorded."""
        place, at, started_at = self.resolve(text, now)
        asked = parse(text, now)
        if isinstance(asked, datetime) and place.epoch != self._epoch:
            self._require_life(place, milliseconds(asked))
        change = Change(place.revision, place.revision, moment(at))
        fragments: dict[str, dict[str, Fragment]] = {name: {} for name in self._shapes}
        for (section, key), body in self._state(place).items():
            fragments[section][key] = Fragment(body, None, b"", change)
        faces = {name: Face(_rope(found), change) for name, found in fragments.items()}
        return Snapshot(self._system, place.epoch, moment(started_at), change, faces, place.step)

    def _require_life(self, place: Place, at: int) -> None:
        lived = self._ask(place.epoch, lambda archive: archive.lived_until(place.epoch))
        if at > lived + LIFE_SIGN:
            raise GoneError(f"nobody observed the system then; {place} was the last before")

    def _state(self, place: Place) -> Mapping[Id, bytes]:
        """All entities then."""
        if self._is_recent(place):
            undone, _ = self._undone(place)
            then: dict[Id, bytes | None] = {**self.recorder.bodies, **undone}
            return {id: body for id, body in then.items() if body is not None}
        self._close_open()
        return self._ask(place.epoch, lambda archive: archive.state(place))

    def _is_recent(self, place: Place) -> bool:
        return place.epoch == self._epoch and place.at >= self._before_recent.place

    def _undone(self, place: Place) -> tuple[dict[Id, bytes | None], dict[Id, int]]:
        """What changed since a recent place: as it was then, None: not there; and when last."""
        records: dict[Id, Record | None] = {}
        times: dict[Id, int] = {}
        for step in reversed(self._recent):
            if step.place <= place.at:
                break
            for entry in step.entries:
                times.setdefault(entry.id, step.at)
                self._undo(entry, records)
        return {id: encode(one) if one else None for id, one in records.items()}, times

    def _undo(self, entry: Entry, records: dict[Id, Record | None]) -> None:
        delta = entry.delta
        if delta is None:
            records[entry.id] = decode(entry.old) if entry.old is not None else None
            return
        record = records.get(entry.id)
        if record is None:
            record = records[entry.id] = decode(self.recorder.bodies[entry.id])
        apply(record, inverted(delta))

    # changes

    def changes(self, asked: Asked, now: datetime) -> Answer:
        """What differs between two places, net; raises as `resolve`."""
        oldest = str(self._memory.oldest())
        since = self.resolve(oldest if asked.since is None else asked.since, now)
        until = (
            self._moment(self.recorder.last)
            if asked.until is None
            else self.resolve(asked.until, now)
        )
        if (since.started_at, since.place) > (until.started_at, until.place):
            since, until = until, since
        complete = since.place.epoch == until.place.epoch
        between = self._between(since.place, until.place)
        starting = {} if complete else self._starting(since.place, until.place)
        found = self._found(between, asked, set().union(*starting.values()))
        changes, after = _bounded(found, asked.limit)
        body = {
            "from": str(since.place),
            "from_at": moment(since.at),
            "to": str(until.place),
            "to_at": moment(until.at),
            "complete": complete,
            "starting": sorted(starting),
            "changes": changes,
            "truncated": after is not None,
            "next": after and _next(asked, str(since.place), str(until.place), after),
        }
        # That a start lies in between has to be told, even if nothing else has.
        return Answer(encode(body), str(until.place), complete and not changes, after)

    def after(self, asked: Asked) -> Answer:
        """What has changed since a place until now; GoneError where it is not kept any more."""
        if asked.since == str(self.tip):
            return Answer(b"", asked.since, True)
        return self.changes(asked, moment(0))

    def gap(self, why: str, since: str | None) -> Answer:
        """Says that what happened since then is lost, and what the present place is."""
        body = {"from": since, "to": str(self.tip), "complete": False, "lost": why}
        return Answer(encode(body), str(self.tip), False)

    def _between(self, since: Place, until: Place) -> Between:
        if not self._is_recent(since) or until.epoch != self._epoch:
            states = self._state(since), self._state(until)
            return Between(*states, lambda id: self._last_change(id, until))
        undone, times = self._undone(since)
        later, _ = self._undone(until)
        now = self.recorder.bodies
        after = {id: later[id] if id in later else now.get(id) for id in undone}
        if until == self.tip:
            return Between(undone, after, times.get)
        return Between(undone, after, lambda id: self._last_change(id, until))

    def _last_change(self, id: Id, until: Place) -> int | None:
        self._close_open()
        try:
            return self._ask(until.epoch, lambda archive: archive.last_change(id, until))
        except GoneError:
            return None

    def _starting(self, since: Place, until: Place) -> dict[str, Collection[str]]:
        """The sources that had not observed all of their part by then, and what they feed."""
        rows = self._rows(until)
        if not rows:  # nobody had begun to look: none of those before
            return {row["key"]: self._shapes.keys() for row in self._rows(since)}
        return {
            row["key"]: self._feeds(row["collector"]) or self._shapes.keys() - {SOURCES}
            for row in rows
            if row["status"] not in ("ok", "off") and row["last_ok_at"] is None
        }

    def _rows(self, place: Place) -> list[Record]:
        """What the sources that observe the system said of themselves then."""
        state = self._state(place)
        rows = [decode(body) for (section, _), body in state.items() if section == SOURCES]
        return [row for row in rows if row["collector"] != NAME]

    def _found(self, between: Between, asked: Asked, unsure: Collection[str]) -> Iterator[Json]:
        """The changed entities that are asked for, in the document's order."""
        order = {name: at for at, name in enumerate(self._shapes)}
        ids = [
            id
            for id in between.before.keys() | between.after.keys()
            if between.before.get(id) != between.after.get(id) and _is_asked(id, asked)
        ]
        after = asked.after.partition("/") if asked.after else None
        for id in sorted(ids, key=lambda id: (order[id[0]], id[1])):
            if after and (order[id[0]], id[1]) <= (order.get(after[0], -1), after[2]):
                continue
            before, now = between.before.get(id), between.after.get(id)
            if now is None and id[0] in unsure:
                continue
            change = self._change(id, before, now, MEASURES[asked.measures])
            if id[0] in unsure:
                change = _without_losses(change)
            if change:
                at = between.time(id)
                yield _head(id, change.pop("change"), at) | change

    def _change(self, id: Id, before: bytes | None, after: bytes | None, measures: Any) -> Json:
        """Empty where nothing that counts has changed."""
        if before is None or after is None:
            return _came_or_went(before, after)
        shape = self._shapes[id[0]]
        delta = compare(decode(before), decode(after), shape, measures)
        return self._changed(id, delta, measures)

    def _changed(self, id: Id, delta: Delta, measures: Any) -> Json:
        found = dict(fields(delta, self._shapes[id[0]], measures))
        return {"change": "changed", "fields": found} if found else {}

    # the life of one entity

    def life(self, id: Id, before: str | None, measures: str, limit: int, now: datetime) -> bytes:
        """What happened to one entity, newest first; LookupError: nothing is known of it."""
        bound = None if before is None else self.resolve(before, now).place
        changes: list[Json] = []
        more, complete = None, True
        for lived in self._lived(id, bound):
            if lived is None:
                complete = False
                continue
            place, at, entry = lived
            change = self._lived_through(entry, MEASURES[measures])
            if change and len(changes) == limit:
                more = changes[-1]["place"]
                break
            if change:
                changes.append({"place": str(place), "at": moment(at)} | change)
        present = id in self.recorder.bodies
        if complete and not changes and not present and not bound:
            raise LookupError(id)
        oldest = self.oldest()
        body = {
            "section": id[0],
            "key": id[1],
            "present": present,
            "oldest": oldest and str(oldest),
            "complete": complete,
            "changes": changes,
            "truncated": more is not None,
            "next": more and _next_life(id, more, measures, limit),
        }
        return encode(body)

    def _lived(self, id: Id, bound: Place | None) -> Iterator[Lived | None]:
        """As `Archive.life`: what the memory knows, and before that the file."""
        self._close_open()
        first = self._memory.first()
        if bound is None or first < bound:
            yield from self._memory.life(id, bound)
            if self.file and not self.file.leads_to(first):
                yield None
        if self.file:
            yield from self.file.life(id, min(bound or first, first))

    def _lived_through(self, entry: Entry, measures: Any) -> Json:
        """Empty where nothing that counts has changed."""
        if entry.delta is None:
            return _came_or_went(entry.old, entry.new)
        return self._changed(entry.id, entry.delta, measures)


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


def _rope(fragments: Mapping[str, Fragment]) -> Rope:
    steps = Rope().edited(fragments)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            rope: Rope = done.value
            return rope


def _is_asked(id: Id, asked: Asked) -> bool:
    return (not asked.sections or id[0] in asked.sections) and asked.key in (None, id[1])


def _head(id: Id, change: str, at: int | None) -> Json:
    time = None if at is None else moment(at)
    return {"section": id[0], "key": id[1], "change": change, "at": time}


def _came_or_went(before: bytes | None, after: bytes | None) -> Json:
    if after is not None:
        return {"change": "added", "new": Raw(after)}
    return {"change": "removed", "old": Raw(before or b"null")}


def _without_losses(change: Json) -> Json:
    """Without items that are gone; empty where nothing else has changed."""
    if "fields" not in change:
        return change
    kept = {path: one for path, one in change["fields"].items() if not _is_loss(one)}
    return change | {"fields": kept} if kept else {}


def _is_loss(change: Json) -> bool:
    old, new = change.get("old"), change.get("new")
    if isinstance(old, list) and isinstance(new, list):
        return len(new) < len(old) and all(item in old for item in new)
    return "removed" in change


def _bounded(found: Iterator[Json], limit: int) -> tuple[list[Json], str | None]:
    """As many as may be in one answer, and the last of them if there are more: `SECTION/KEY`."""
    changes: list[Json] = []
    size = 0
    for change in found:
        size += len(encode(change))
        if changes and (len(changes) == limit or size > MAX_ANSWER_BYTES):
            return changes, f"{changes[-1]['section']}/{changes[-1]['key']}"
        changes.append(change)
    return changes, None


def _next(asked: Asked, since: str, until: str, after: str) -> str:
    query = {
        "since": since,
        "until": until,
        "sections": ",".join(asked.sections),
        "key": asked.key,
        "measures": asked.measures,
        "limit": asked.limit,
        "after": after,
    }
    return "/system/changes?" + urlencode({k: v for k, v in query.items() if v})


def _next_life(id: Id, before: str, measures: str, limit: int) -> str:
    query = urlencode({"before": before, "measures": measures, "limit": limit})
    return f"/system/history/{id[0]}/{quote(id[1])}?{query}"
