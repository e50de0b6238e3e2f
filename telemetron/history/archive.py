"""The archive: steps of the history of changes in SQLite, in memory or in a file.

Steps are kept in compressed batches; now and then all entities are kept as they were, a keyframe,
which the steps after it lead on from. One thread opens, uses and closes an archive.
"""

import gc
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from telemetron.history.delta import apply
from telemetron.history.limits import DEFAULTS, HistoryLimits
from telemetron.history.place import Place
from telemetron.history.recorder import Entry, Id, Step, decode, encode, pack

MEMORY = ":memory:"
APPLICATION = 0x7E1E3E70
VERSION = 3
LOG_BYTES = 4 * 1024 * 1024
"""What SQLite may keep in the log beside the file."""
# The batches after a keyframe may take so many times its size before there is another.
KEYFRAME_RATIO = 3
KEYFRAMES = 24
# Of a batch that is kept at hand after it was read.
SMALL_BYTES = 64 * 1024

SCHEMA = """
CREATE TABLE epochs (
    id INTEGER PRIMARY KEY, system TEXT, epoch TEXT, started_at INTEGER, alive_at INTEGER,
    UNIQUE (system, epoch)
);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY, epoch INTEGER, first_revision INTEGER, first_step INTEGER,
    first_at INTEGER, revision INTEGER, step INTEGER, at INTEGER, begins INTEGER, steps BLOB
);
CREATE INDEX batches_by_place ON batches (epoch, revision, step);
CREATE INDEX batches_that_begin ON batches (begins) WHERE begins;
CREATE TABLE keyframes (
    id INTEGER PRIMARY KEY, epoch INTEGER, revision INTEGER, step INTEGER, at INTEGER,
    batch INTEGER, entities BLOB
);
CREATE TABLE touched (entity INTEGER, batch INTEGER, PRIMARY KEY (entity, batch)) WITHOUT ROWID;
"""

_steps = msgspec.msgpack.Decoder(list[Step]).decode
_group = msgspec.msgpack.Decoder(list[tuple[str, str, bytes]]).decode
_groups = msgspec.msgpack.Decoder(list[bytes]).decode


class ArchiveError(Exception):
    """The archive cannot be used, and will not be written to; says why, in a line."""


class DamagedError(ArchiveError):
    """The file is not what was written."""


class GoneError(Exception):
    """What is asked for is not kept; says what to ask for."""


class Moment(NamedTuple):
    """A place that is kept, and its times: milliseconds since 1970."""

    place: Place
    at: int
    started_at: int


class Lived(NamedTuple):
    """Something that happened to an entity: at which place, and when."""

    place: Place
    at: int
    entry: Entry


class Archive:
    """The epochs of one system; `begin`, `append` and `keyframe` write of the present one.

    What is missing in an epoch is a hole: after it the epoch begins again.
    """

    def __init__(
        self,
        path: str,
        system: str,
        epoch: str,
        started_at: int,
        limits: HistoryLimits = DEFAULTS,
    ) -> None:
        self.path = path
        self._limits = limits
        self._system = system
        self._name = epoch
        self._database = sqlite3.connect(path, timeout=limits.busy_seconds, isolation_level=None)
        try:
            self._prepare()
            with self._writing() as database:
                database.execute(
                    "INSERT OR IGNORE INTO epochs (system, epoch, started_at, alive_at)"
                    " VALUES (?, ?, ?, ?)",
                    (system, epoch, started_at, started_at),
                )
            self._epoch = self._find_epoch(epoch).id
        except BaseException:
            self._database.close()
            raise
        self._since_keyframe = 0
        self._keyframe_bytes = limits.keyframe_bytes
        self._keyframe_at = self._last_at = started_at
        self.last = self._find_last()
        """Of the present epoch, the place up to which it is kept; None: it has not begun."""

    def close(self) -> None:
        """No more of it."""
        self._database.close()

    def _prepare(self) -> None:
        """Make the tables of a new file; ArchiveError where it is somebody else's, or damaged."""
        application = self._value("PRAGMA application_id")
        is_empty = self._value("SELECT count(*) FROM sqlite_master") == 0
        if is_empty and application in (0, APPLICATION):
            self._create()
        elif application != APPLICATION:
            raise ArchiveError("the file is a database of another application")
        elif (version := self._value("PRAGMA user_version")) != VERSION:
            raise ArchiveError(
                f"the file has version {version}, but this Telemetron writes version {VERSION};"
                " move the file away to begin a new one"
            )
        elif (found := self._value("PRAGMA quick_check(1)")) != "ok":
            raise DamagedError(f"the file is damaged: {found}")
        if self._value("PRAGMA journal_mode = WAL") not in ("wal", "memory"):
            raise ArchiveError("the file's disk does not let it be used (no WAL)")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")

    def _create(self) -> None:
        """In one transaction: who is killed in between leaves an empty file."""
        # Batches take one to three KB: in larger pages much would stay empty.
        self._database.execute("PRAGMA page_size = 1024")
        self._database.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION};"
            f" PRAGMA user_version = {VERSION}; {SCHEMA} COMMIT;"
        )

    def _find_last(self) -> tuple[int, int] | None:
        row: tuple[int, int] | None = self._database.execute(
            "SELECT revision, step FROM batches WHERE epoch = ?"
            " ORDER BY revision DESC, step DESC LIMIT 1",
            (self._epoch,),
        ).fetchone()
        return row

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _value(self, query: str, values: Sequence[Any] = ()) -> Any:
        return self._database.execute(query, values).fetchone()[0]

    # writing

    def begin(self, step: Step, bodies: Mapping[Id, bytes]) -> None:
        """Keep all entities as they are after this step; what led to it is not kept."""
        with self._writing():
            self._insert_steps([step], begins=True)
            size = self._insert_entities(step, bodies)
        self._reached(step)
        self._led_from(step, size)

    def append(self, steps: Sequence[Step]) -> None:
        """Keep these steps, which follow those before."""
        if not steps:
            return
        with self._writing():
            size = self._insert_steps(steps, begins=False)
        self._reached(steps[-1])
        self._since_keyframe += size

    def _insert_steps(self, steps: Sequence[Step], begins: bool) -> int:
        """Gives their size."""
        first, last = steps[0], steps[-1]
        blob = zlib.compress(pack(steps))
        # Not every step is later than the one before: those of measures may be recorded first.
        first_at = min(step.at for step in steps)
        row = (self._epoch, *first.place, first_at, *last.place, last.at, begins, blob)
        batch = self._database.execute(
            "INSERT INTO batches (epoch, first_revision, first_step, first_at, revision, step,"
            " at, begins, steps) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        ).lastrowid
        touched = _touched(steps)
        self._database.executemany(
            "INSERT INTO touched VALUES (?, ?)", [(entity, batch) for entity in touched]
        )
        self._live(last.at)
        return len(blob)

    def _reached(self, step: Step) -> None:
        self.last = step.place
        self._last_at = step.at

    def live(self, at: int) -> None:
        """The epoch goes on."""
        with self._writing():
            self._live(at)

    def _live(self, at: int) -> None:
        """Raises where another process has forgotten this epoch: its number may be another's."""
        found = self._database.execute(
            "UPDATE epochs SET alive_at = ? WHERE id = ? AND epoch = ?",
            (at, self._epoch, self._name),
        )
        if found.rowcount != 1:
            raise ArchiveError("another process has forgotten what is in the file of this one")

    def wants_keyframe(self, max_age: int) -> bool:
        """Whether much has been appended since the last, or that is a while ago.

        What is too old is forgotten keyframe by keyframe, so there have to be some in that time.
        """
        much = self._since_keyframe > KEYFRAME_RATIO * self._keyframe_bytes
        return much or self._last_at - self._keyframe_at > max_age / KEYFRAMES

    def keyframe(self, step: Step, bodies: Mapping[Id, bytes]) -> None:
        """Keep all entities as they are after this step, the last that was appended."""
        with self._writing():
            size = self._insert_entities(step, bodies)
        self._led_from(step, size)

    def _insert_entities(self, step: Step, bodies: Mapping[Id, bytes]) -> int:
        """Gives their size."""
        entities = ((*id, body) for id, body in bodies.items())
        size = self._limits.keyframe_entities
        groups = [zlib.compress(pack(group)) for group in batched(entities, size)]
        blob = pack(groups)
        batch = self._value("SELECT max(id) FROM batches WHERE epoch = ?", (self._epoch,))
        self._database.execute(
            "INSERT INTO keyframes (epoch, revision, step, at, batch, entities)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (self._epoch, *step.place, step.at, batch, blob),
        )
        return len(blob)

    def _led_from(self, step: Step, size: int) -> None:
        self._since_keyframe = 0
        self._keyframe_at = step.at
        self._keyframe_bytes = max(size, self._limits.keyframe_bytes)

    # retention

    def bytes_used(self) -> int:
        """What it takes, but for what is free to be used again."""
        pages = self._value("PRAGMA page_count") - self._value("PRAGMA freelist_count")
        return int(pages * self._value("PRAGMA page_size"))

    def retain(self, limit_bytes: int, oldest_at: int) -> bool:
        """Forget the oldest keyframe and what follows it, if it may be; whether it did.

        That is where there is another keyframe, and it is too old, or all is too large.
        """
        rows = self._database.execute("SELECT id, batch, at FROM keyframes ORDER BY id LIMIT 2")
        if len(found := rows.fetchall()) < 2:
            return False
        (keyframe, _, _), (_, batch, at) = found
        if at >= oldest_at and self.bytes_used() <= limit_bytes:
            return False
        with self._writing() as database:
            database.execute("DELETE FROM keyframes WHERE id = ?", (keyframe,))
            old = database.execute("SELECT id, steps FROM batches WHERE id < ?", (batch,))
            for id, blob in old.fetchall():
                database.executemany(
                    "DELETE FROM touched WHERE entity = ? AND batch = ?",
                    [(entity, id) for entity in _touched(_read(blob))],
                )
            database.execute("DELETE FROM batches WHERE id < ?", (batch,))
            database.execute(
                "DELETE FROM epochs WHERE id <> ? AND id NOT IN (SELECT epoch FROM batches)",
                (self._epoch,),
            )
        return True

    # reading

    def oldest(self) -> Place | None:
        """The oldest place that can be asked for; None: there is none yet."""
        row = self._database.execute(
            "SELECT e.epoch, k.revision, k.step FROM keyframes k JOIN epochs e ON e.id = k.epoch"
            " WHERE e.system = ? ORDER BY k.id LIMIT 1",
            (self._system,),
        ).fetchone()
        return Place(*row) if row else None

    def find(self, place: Place) -> Moment:
        """The place, with its times; GoneError where it is not kept."""
        epoch = self._find_epoch(place.epoch)
        row = self._database.execute(
            "SELECT steps FROM batches WHERE epoch = ? AND (revision, step) >= (?, ?)"
            " ORDER BY revision, step LIMIT 1",
            (epoch.id, *place.at),
        ).fetchone()
        step = next((one for one in _read(row[0]) if one.place == place.at), None) if row else None
        if step is None:
            raise GoneError(f"{place} is not kept")
        return Moment(place, step.at, epoch.started_at)

    def find_time(self, at: int) -> Moment:
        """The last place that arose by this time; GoneError before all that is kept, or in a hole.

        Where no epoch lived then, it is the last place of the one before.
        """
        row = self._database.execute(
            "SELECT e.id, e.started_at, e.alive_at, e.epoch, b.steps FROM batches b"
            " JOIN epochs e ON e.id = b.epoch"
            " WHERE e.system = ? AND b.first_at <= ? ORDER BY b.id DESC LIMIT 1",
            (self._system, at),
        ).fetchone()
        if row is None:
            raise GoneError("nothing is kept of that time")
        *found, name, blob = row
        epoch, steps = _Epoch(*found), _read(blob)
        last = max(number for number, one in enumerate(steps) if one.at <= at)
        if at > steps[last].at and self._is_in_hole(at, epoch, steps[last:]):
            raise GoneError("what was then is not kept")
        return Moment(Place(name, *steps[last].place), steps[last].at, epoch.started_at)

    def _is_in_hole(self, at: int, epoch: "_Epoch", steps: Sequence[Step]) -> bool:
        """Whether more happened between the first of these, the last of a batch, and this time."""
        if len(steps) > 1:
            return steps[1].skipped > 0
        following = self._database.execute(
            "SELECT begins, steps FROM batches WHERE epoch = ? AND (revision, step) > (?, ?)"
            " ORDER BY revision, step LIMIT 1",
            (epoch.id, *steps[0].place),
        ).fetchone()
        if following:
            return bool(following[0]) or _read(following[1])[0].skipped > 0
        # An epoch that lived then already, and of which nothing is kept until later.
        epochs = (
            "SELECT count(*) FROM epochs WHERE system = ? AND started_at > ? AND started_at <= ?"
        )
        return bool(self._value(epochs, (self._system, epoch.started_at, at)))

    def lived_until(self, epoch: str) -> int:
        """When it was known last that the epoch goes on."""
        return self._find_epoch(epoch).alive_at

    def state(self, place: Place) -> dict[Id, bytes]:
        """All entities then, by section and key; GoneError where it is not kept."""
        epoch = self._find_epoch(place.epoch)
        row = self._database.execute(
            "SELECT revision, step, batch, entities FROM keyframes WHERE epoch = ?"
            " AND (revision, step) <= (?, ?) ORDER BY revision DESC, step DESC LIMIT 1",
            (epoch.id, *place.at),
        ).fetchone()
        if row is None:
            raise GoneError(f"{place} is not kept")
        revision, step, batch, blob = row
        bodies = {
            (section, key): body
            for group in _groups(blob)
            for section, key, body in _group(zlib.decompress(group))
        }
        with _uncollected():
            self._lead_on(bodies, epoch.id, batch, (revision, step), place)
        return bodies

    def held(self, id: Id) -> bool:
        """Whether the entity was there where recording began, in an epoch or after a hole.

        Only the keyframe says so then: no step tells that it came.
        """
        rows = self._database.execute(
            "SELECT k.entities FROM keyframes k JOIN epochs e ON e.id = k.epoch"
            " JOIN batches b ON b.id = k.batch WHERE e.system = ? AND b.begins",
            (self._system,),
        )
        groups = (group for (blob,) in rows for group in _groups(blob))
        return any(id in _names(group) for group in groups)

    def _lead_on(
        self,
        bodies: dict[Id, bytes],
        epoch: int,
        batch: int,
        last: tuple[int, int],
        place: Place,
    ) -> None:
        """`bodies`, which are of `last`, as they are at the place."""
        changed: dict[Id, Any] = {}
        for one in self._between(epoch, batch, last, place.at):
            if not one.follows(last):
                raise GoneError(f"{place} is not kept: some of what led to it is missing")
            last = one.place
            for entry in one.entries:
                _lead_on(changed, bodies, entry)
        if last != place.at:
            raise GoneError(f"{place} is not kept")
        for id, record in changed.items():
            if record is None:
                bodies.pop(id, None)
            else:
                bodies[id] = encode(record)

    def _between(
        self, epoch: int, batch: int, after: tuple[int, int], until: tuple[int, int]
    ) -> Iterator[Step]:
        rows = self._database.execute(
            "SELECT steps FROM batches WHERE epoch = ? AND id >= ?"
            " AND (first_revision, first_step) <= (?, ?) ORDER BY id",
            (epoch, batch, *until),
        )
        return (step for (blob,) in rows for step in _read(blob) if after < step.place <= until)

    def touches(self, id: Id, until: Place, states: bool) -> Iterator[Lived]:
        """What happened to an entity by that place of its epoch, newest first.

        `states`: only what changed more than its measures. Ends where the epoch began, or began
        again after a hole.
        """
        epoch = self._find_epoch(until.epoch)
        newest = self._value(
            "SELECT coalesce((SELECT id FROM batches WHERE epoch = ? AND (revision, step)"
            " >= (?, ?) ORDER BY revision, step LIMIT 1), (SELECT max(id) FROM batches))",
            (epoch.id, *until.at),
        )
        begun = "SELECT max(id) FROM batches WHERE begins AND epoch = ? AND id <= ?"
        begin = self._value(begun, (epoch.id, newest)) or 0
        measures, state = _numbers(id)
        rows = self._database.execute(
            "SELECT DISTINCT b.id, b.steps FROM touched t JOIN batches b ON b.id = t.batch"
            " WHERE t.entity IN (?, ?) AND t.batch BETWEEN ? AND ? AND b.epoch = ?"
            " ORDER BY t.batch DESC",
            (state if states else measures, state, begin, newest, epoch.id),
        )
        for _, blob in rows:
            for step in reversed(_read(blob)):
                place = Place(until.epoch, *step.place)
                if place <= until:
                    yield from (Lived(place, step.at, one) for one in step.entries if one.id == id)

    def life(self, id: Id, before: Place | None) -> Iterator[Lived | None]:
        """What happened to one entity, newest first, before that place.

        None: what happened before what was told last is missing.
        """
        first = self._first_batch()[0]
        for batch, name, begins, blob in self._touching(id, before):
            for step in reversed(_read(blob)):
                place = Place(name, *step.place)
                if not before or name != before.epoch or place < before:
                    yield from (Lived(place, step.at, one) for one in step.entries if one.id == id)
            if begins and batch != first:
                yield None

    def first(self) -> Place:
        """The first that is kept; there has to be one."""
        return Place(*self._first_batch()[1:])

    def leads_to(self, place: Place) -> bool:
        """Whether nothing is missing between that place and what is kept of before."""
        try:
            return self.first() > place or bool(self.find(place))
        except GoneError:
            return False

    def _first_batch(self) -> tuple[int, str, int, int]:
        """Its number, and its first place."""
        row: tuple[int, str, int, int] | None = self._database.execute(
            "SELECT b.id, e.epoch, b.first_revision, b.first_step FROM batches b"
            " JOIN epochs e ON e.id = b.epoch WHERE e.system = ? ORDER BY b.id LIMIT 1",
            (self._system,),
        ).fetchone()
        if row is None:
            raise GoneError("nothing is kept")
        return row

    def _touching(self, id: Id, before: Place | None) -> Iterator[tuple[int, str, int, bytes]]:
        """The batches in which it was touched, or an epoch begins."""
        bound = None
        if before is not None:
            epoch = self._find_epoch(before.epoch)
            bound = self._value(
                "SELECT max(id) FROM batches WHERE epoch = ?"
                " AND (first_revision, first_step) <= (?, ?)",
                (epoch.id, *before.at),
            )
        return self._database.execute(
            "SELECT b.id, e.epoch, b.begins, b.steps FROM batches b"
            " JOIN epochs e ON e.id = b.epoch WHERE e.system = ? AND b.id <= coalesce(?, b.id)"
            " AND b.id IN (SELECT batch FROM touched WHERE entity IN (?, ?) UNION ALL"
            " SELECT id FROM batches WHERE begins) ORDER BY b.id DESC",
            (self._system, bound, *_numbers(id)),
        )

    def _find_epoch(self, epoch: str) -> "_Epoch":
        row = self._database.execute(
            "SELECT id, started_at, alive_at FROM epochs WHERE system = ? AND epoch = ?",
            (self._system, epoch),
        ).fetchone()
        if row is None:
            raise GoneError(f"epoch {epoch} is not known")
        return _Epoch(*row)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage is looked for meanwhile: it would be, over and over, and there is none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Epoch(NamedTuple):
    id: int
    started_at: int
    alive_at: int


def _lead_on(changed: dict[Id, Any], bodies: Mapping[Id, bytes], entry: Entry) -> None:
    """`changed` after this entry too; None: the entity is gone."""
    delta = entry.delta
    if delta is None:
        changed[entry.id] = decode(entry.new) if entry.new is not None else None
        return
    if entry.id not in changed:
        changed[entry.id] = decode(bodies[entry.id])
    apply(changed[entry.id], delta)


def _names(group: bytes) -> set[Id]:
    """The entities of a keyframe's group."""
    return {(section, key) for section, key, _ in _group(zlib.decompress(group))}


def _read(blob: bytes) -> list[Step]:
    """Not to be changed: who asks for one entity's steps often asks for another's next."""
    return _read_small(blob) if len(blob) < SMALL_BYTES else _steps(zlib.decompress(blob))


@lru_cache(maxsize=2)
def _read_small(blob: bytes) -> list[Step]:
    return _steps(zlib.decompress(blob))


def _touched(steps: Iterable[Step]) -> set[int]:
    entries = (entry for step in steps for entry in step.entries)
    return {_numbers(entry.id)[entry.is_state] for entry in entries}


def _numbers(id: Id) -> tuple[int, int]:
    """Numbers for an entity: its measures changed, and its state did.

    If two entities have the same, their keys still differ.
    """
    digest = blake2b("/".join(id).encode(), digest_size=4).digest()
    number = int.from_bytes(digest, "big", signed=True)
    return number & ~1, number | 1


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of so many; the last may be shorter."""
    group: list[Any] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
