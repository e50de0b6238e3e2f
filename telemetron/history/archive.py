"""The archive: steps in SQLite, in memory or in a file.

Steps are stored in compressed batches. A keyframe has all entities as they were after a step; the
state at any later place is that keyframe with the following steps replayed on it. One thread opens,
uses and closes an archive.
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
from telemetron.history.tasks import INDEXED, has_mention, mentions, number, numbers

MEMORY = ":memory:"
APPLICATION = 0x7E1E3E70
VERSION = 3
LOG_BYTES = 4 * 1024 * 1024
"""Maximum size of the write-ahead log beside the file."""
# A new keyframe is due once the batches after the last one take this many times its size.
KEYFRAME_RATIO = 3
KEYFRAMES_PER_AGE = 24
# Decoded batches are cached if they are smaller than this, compressed.
CACHED_BYTES = 64 * 1024

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
# Files of the first release lack it: batches without the number `INDEXED` are not indexed.
TASKS = (
    "CREATE TABLE IF NOT EXISTS tasks (task INTEGER, batch INTEGER, PRIMARY KEY (task, batch))"
    " WITHOUT ROWID"
)
NOTES = (
    "CREATE TABLE IF NOT EXISTS notes (system TEXT, name TEXT, body BLOB,"
    " PRIMARY KEY (system, name))"
)

NOT_KEPT = "{} is not in the history"

_steps = msgspec.msgpack.Decoder(list[Step]).decode
_group = msgspec.msgpack.Decoder(list[tuple[str, str, bytes]]).decode
_groups = msgspec.msgpack.Decoder(list[bytes]).decode


class ArchiveError(Exception):
    """The archive cannot be used and will not be written; the message says why, in one line."""


class DamagedError(ArchiveError):
    """The content of the file differs from the content that was written."""


class GoneError(Exception):
    """The requested place or time is not in the history."""


class Moment(NamedTuple):
    """A place in the history, its time, and the start of its epoch: milliseconds since 1970."""

    place: Place
    at: int
    started_at: int


class HoleError(GoneError):
    """The time is in a hole of the history; `before` is the last moment before the hole."""

    def __init__(self, before: Moment) -> None:
        super().__init__("the history has a hole at that time")
        self.before = before


class PlacedEntry(NamedTuple):
    """An entry with its place and its time."""

    place: Place
    at: int
    entry: Entry


class Archive:
    """The epochs of one system; `begin`, `append` and `add_keyframe` write the current one.

    An epoch may have holes: steps that were never stored. After a hole a keyframe begins it again.
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
        """The last stored step of the current epoch; None if nothing of it is stored."""

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _prepare(self) -> None:
        """Create the tables of a new file; raise ArchiveError for a file that cannot be used."""
        application = self._value("PRAGMA application_id")
        is_empty = self._value("SELECT count(*) FROM sqlite_master") == 0
        if is_empty and application in (0, APPLICATION):
            self._create()
        elif application != APPLICATION:
            raise ArchiveError(
                "the file is a database of another application; configure another file"
            )
        elif (version := self._value("PRAGMA user_version")) != VERSION:
            raise ArchiveError(
                f"the file has version {version}, but this Telemetron needs version {VERSION};"
                " move the file away, and Telemetron creates a new one"
            )
        elif (found := self._value("PRAGMA quick_check(1)")) != "ok":
            raise DamagedError(f"the file is damaged: {found}")
        if self._value("PRAGMA journal_mode = WAL") not in ("wal", "memory"):
            raise ArchiveError(
                "the file system does not support SQLite's write-ahead log; use a local disk"
            )
        self._database.execute(TASKS)
        self._database.execute(NOTES)
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")

    def _create(self) -> None:
        """Create the tables in one transaction: a killed process leaves an empty file."""
        # Batches take one to three KB; larger pages would stay half empty.
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
        """Begin the epoch, or begin it again after a hole, with all entities after this step."""
        with self._writing():
            self._insert_steps([step], begins=True)
            size = self._insert_entities(step, bodies)
        self._set_last(step)
        self._set_keyframe(step, size)

    def append(self, steps: Sequence[Step]) -> None:
        """Store steps that directly follow the last one."""
        if not steps:
            return
        with self._writing():
            size = self._insert_steps(steps, begins=False)
        self._set_last(steps[-1])
        self._since_keyframe += size

    def _insert_steps(self, steps: Sequence[Step], begins: bool) -> int:
        """Store one batch; return its compressed size."""
        first, last = steps[0], steps[-1]
        blob = zlib.compress(pack(steps))
        # Times are not ordered: a step of measures may be recorded before an earlier publication.
        first_at = min(step.at for step in steps)
        row = (self._epoch, *first.place, first_at, *last.place, last.at, begins, blob)
        batch = self._database.execute(
            "INSERT INTO batches (epoch, first_revision, first_step, first_at, revision, step,"
            " at, begins, steps) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        ).lastrowid
        # One statement for all numbers: SQLite's module lets go of the GIL in each, and has to wait
        # for it afterwards. Sorted, they go into neighbouring places of the tree.
        for table, found in (("touched", _touched(steps)), ("tasks", _tasks_in(steps))):
            self._database.execute(
                f"INSERT INTO {table} SELECT value, ? FROM json_each(?)",  # noqa: S608
                (batch, encode(sorted(found)).decode()),
            )
        self._mark_alive(last.at)
        return len(blob)

    def _set_last(self, step: Step) -> None:
        self.last = step.place
        self._last_at = step.at

    def mark_alive(self, at: int) -> None:
        """Store that the epoch was still running at this time."""
        with self._writing():
            self._mark_alive(at)

    def _mark_alive(self, at: int) -> None:
        """Raise ArchiveError if another process has deleted this epoch: its id may be reused."""
        found = self._database.execute(
            "UPDATE epochs SET alive_at = ? WHERE id = ? AND epoch = ?",
            (at, self._epoch, self._name),
        )
        if found.rowcount != 1:
            raise ArchiveError(
                "another process has deleted this epoch from the file;"
                " give each process its own file"
            )

    def wants_keyframe(self, max_age: int) -> bool:
        """Return whether a keyframe is due, by the size of the batches since or by its age.

        `drop_oldest` drops up to the next keyframe, so `max_age` milliseconds must hold several.
        """
        much = self._since_keyframe > KEYFRAME_RATIO * self._keyframe_bytes
        return much or self._last_at - self._keyframe_at > max_age / KEYFRAMES_PER_AGE

    def add_keyframe(self, step: Step, bodies: Mapping[Id, bytes]) -> None:
        """Store all entities as they are after this step, the last that was appended."""
        with self._writing():
            size = self._insert_entities(step, bodies)
        self._set_keyframe(step, size)

    def _insert_entities(self, step: Step, bodies: Mapping[Id, bytes]) -> int:
        """Store a keyframe; return its compressed size."""
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

    def _set_keyframe(self, step: Step, size: int) -> None:
        self._since_keyframe = 0
        self._keyframe_at = step.at
        self._keyframe_bytes = max(size, self._limits.keyframe_bytes)

    # notes

    def put_note(self, name: str, body: bytes) -> None:
        """Keep a few bytes of the system beside its epochs; they replace those of that name."""
        with self._writing() as database:
            row = self._system, name, body
            database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", row)

    def notes(self, prefix: str) -> dict[str, bytes]:
        """Return the notes of the system whose names begin so, by name."""
        rows = self._database.execute(
            "SELECT name, body FROM notes WHERE system = ? AND substr(name, 1, ?) = ?",
            (self._system, len(prefix), prefix),
        )
        return dict(rows.fetchall())

    def drop_note(self, name: str) -> None:
        """Delete one note of the system."""
        with self._writing() as database:
            row = self._system, name
            database.execute("DELETE FROM notes WHERE system = ? AND name = ?", row)

    # retention

    def bytes_used(self) -> int:
        """Return the size of the database without its free pages."""
        pages = self._value("PRAGMA page_count") - self._value("PRAGMA freelist_count")
        return int(pages * self._value("PRAGMA page_size"))

    def drop_oldest(self, limit_bytes: int, oldest_at: int) -> bool:
        """Drop the oldest keyframe and its steps if they are too old, or everything is too large.

        The only keyframe is never dropped. Return whether one was.
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
                steps = _read(blob)
                database.executemany(
                    "DELETE FROM touched WHERE entity = ? AND batch = ?",
                    [(entity, id) for entity in _touched(steps)],
                )
                database.executemany(
                    "DELETE FROM tasks WHERE task = ? AND batch = ?",
                    [(task, id) for task in _tasks_in(steps)],
                )
            database.execute("DELETE FROM batches WHERE id < ?", (batch,))
            database.execute(
                "DELETE FROM epochs WHERE id <> ? AND id NOT IN (SELECT epoch FROM batches)",
                (self._epoch,),
            )
        return True

    # reading

    def oldest(self) -> Place | None:
        """Return the oldest place that `state` can answer; None if there is none yet."""
        row = self._database.execute(
            "SELECT e.epoch, k.revision, k.step FROM keyframes k JOIN epochs e ON e.id = k.epoch"
            " WHERE e.system = ? ORDER BY k.id LIMIT 1",
            (self._system,),
        ).fetchone()
        return Place(*row) if row else None

    def find(self, place: Place) -> Moment:
        """Return the place with its times; raise GoneError if it is not stored."""
        epoch = self._find_epoch(place.epoch)
        row = self._database.execute(
            "SELECT steps FROM batches WHERE epoch = ? AND (revision, step) >= (?, ?)"
            " ORDER BY revision, step LIMIT 1",
            (epoch.id, *place.at),
        ).fetchone()
        step = next((one for one in _read(row[0]) if one.place == place.at), None) if row else None
        if step is None:
            raise GoneError(NOT_KEPT.format(place))
        return Moment(place, step.at, epoch.started_at)

    def find_time(self, at: int) -> Moment:
        """Return the last place at or before this time.

        If no epoch was running then, that is the last place of the epoch before. Raise GoneError
        for a time in a hole, or before everything that is stored.
        """
        row = self._database.execute(
            "SELECT e.id, e.started_at, e.alive_at, e.epoch, b.steps FROM batches b"
            " JOIN epochs e ON e.id = b.epoch"
            " WHERE e.system = ? AND b.first_at <= ? ORDER BY b.id DESC LIMIT 1",
            (self._system, at),
        ).fetchone()
        if row is None:
            raise GoneError("the history does not reach back to that time")
        *found, name, blob = row
        epoch, steps = _Epoch(*found), _read(blob)
        last = max(number for number, one in enumerate(steps) if one.at <= at)
        found_at = Moment(Place(name, *steps[last].place), steps[last].at, epoch.started_at)
        if at > steps[last].at and self._is_in_hole(at, epoch, steps[last:]):
            raise HoleError(found_at)
        return found_at

    def _is_in_hole(self, at: int, epoch: "_Epoch", steps: Sequence[Step]) -> bool:
        """Return whether steps are missing between the first of these and this time.

        `steps` are the rest of a batch.
        """
        if len(steps) > 1:
            return steps[1].skipped > 0
        following = self._database.execute(
            "SELECT begins, steps FROM batches WHERE epoch = ? AND (revision, step) > (?, ?)"
            " ORDER BY revision, step LIMIT 1",
            (epoch.id, *steps[0].place),
        ).fetchone()
        if following:
            return bool(following[0]) or _read(following[1])[0].skipped > 0
        # An epoch that was running by then, but whose first stored step is later.
        epochs = (
            "SELECT count(*) FROM epochs WHERE system = ? AND started_at > ? AND started_at <= ?"
        )
        return bool(self._value(epochs, (self._system, epoch.started_at, at)))

    def alive_until(self, epoch: str) -> int:
        """Return when the epoch was last known to be running, in milliseconds since 1970."""
        return self._find_epoch(epoch).alive_at

    def state(self, place: Place) -> dict[Id, bytes]:
        """Return all entities at a place; raise GoneError if it is not stored."""
        epoch = self._find_epoch(place.epoch)
        row = self._database.execute(
            "SELECT revision, step, batch, entities FROM keyframes WHERE epoch = ?"
            " AND (revision, step) <= (?, ?) ORDER BY revision DESC, step DESC LIMIT 1",
            (epoch.id, *place.at),
        ).fetchone()
        if row is None:
            raise GoneError(NOT_KEPT.format(place))
        revision, step, batch, blob = row
        bodies = {
            (section, key): body
            for group in _groups(blob)
            for section, key, body in _group(zlib.decompress(group))
        }
        with _uncollected():
            self._replay(bodies, epoch.id, batch, (revision, step), place)
        return bodies

    def had_at_start(self, id: Id) -> bool:
        """Return whether the entity existed when an epoch began, also again after a hole.

        Only the keyframe has such an entity: no step says that it was added.
        """
        rows = self._database.execute(
            "SELECT k.entities FROM keyframes k JOIN epochs e ON e.id = k.epoch"
            " JOIN batches b ON b.id = k.batch WHERE e.system = ? AND b.begins",
            (self._system,),
        )
        groups = (group for (blob,) in rows for group in _groups(blob))
        return any(id in _ids(group) for group in groups)

    def _replay(
        self,
        bodies: dict[Id, bytes],
        epoch: int,
        batch: int,
        last: tuple[int, int],
        place: Place,
    ) -> None:
        """Change `bodies`, which are of `last`, into those of the place."""
        changed: dict[Id, Any] = {}
        for one in self._between(epoch, batch, last, place.at):
            if not one.follows(last):
                raise GoneError(f"{place} is in the history, but some steps before it are missing")
            last = one.place
            for entry in one.entries:
                _apply_entry(changed, bodies, entry)
        if last != place.at:
            raise GoneError(NOT_KEPT.format(place))
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

    def entries_until(self, id: Id, until: Place, states: bool) -> Iterator[PlacedEntry]:
        """Yield the entries of one entity in the epoch of `until`, newest first.

        `states`: skip entries that changed only measures. It ends at the start of the epoch or at
        a hole.
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
                    yield from (
                        PlacedEntry(place, step.at, one) for one in step.entries if one.id == id
                    )

    def entries(self, id: Id, before: Place | None) -> Iterator[PlacedEntry | None]:
        """Yield the entries of one entity before that place, of all epochs, newest first.

        None stands for entries that are missing there.
        """
        first = self._first_batch()[0]
        for batch, name, begins, blob in self._touching(id, before):
            for step in reversed(_read(blob)):
                place = Place(name, *step.place)
                if not before or name != before.epoch or place < before:
                    yield from (
                        PlacedEntry(place, step.at, one) for one in step.entries if one.id == id
                    )
            if begins and batch != first:
                yield None

    def task_entries(
        self, id: str, before: Place | None, newest: int, oldest: int
    ) -> Iterator[PlacedEntry | None]:
        """Yield the entries before that place that name a task, of all epochs, newest first.

        They are those of the `newest` batches and of the `oldest` ones; None stands for batches in
        between that were left out.
        """
        query = (
            "SELECT b.id, e.epoch, b.steps FROM tasks t JOIN batches b ON b.id = t.batch"
            " JOIN epochs e ON e.id = b.epoch WHERE t.task = ? AND e.system = ? AND b.id <= ?"
        )
        given = number(id), self._system, self._last_batch_before(before)
        rows = self._database.execute(f"{query} ORDER BY t.batch DESC LIMIT ?", (*given, newest))
        found = rows.fetchall()
        yield from self._naming(found, id, before)
        if len(found) < newest:
            return
        rows = self._database.execute(
            f"{query} AND t.batch < ? ORDER BY t.batch LIMIT ?", (*given, found[-1][0], oldest)
        )
        first = rows.fetchall()
        if len(first) == oldest:
            yield None
        yield from self._naming(first[::-1], id, before)

    def _naming(
        self, rows: Iterable[tuple[int, str, bytes]], id: str, before: Place | None
    ) -> Iterator[PlacedEntry]:
        needles = mentions(id)
        for _, epoch, blob in rows:
            for step in reversed(_read(blob)):
                place = Place(epoch, *step.place)
                if not before or epoch != before.epoch or place < before:
                    yield from (
                        PlacedEntry(place, step.at, one)
                        for one in step.entries
                        if has_mention(one, needles)
                    )

    def indexes_all(self) -> bool:
        """Return whether nothing was dropped, and the tasks of all that is stored are indexed."""
        first = self._value("SELECT min(id) FROM batches")
        indexed = "SELECT min(batch) FROM tasks WHERE task = ?"
        return first is None or first == self._value(indexed, (INDEXED,)) == 1

    def first(self) -> Place:
        """Return the first stored place; raise GoneError if there is none."""
        return Place(*self._first_batch()[1:])

    def has_all_before(self, place: Place) -> bool:
        """Return whether no steps are missing between this archive and that place."""
        try:
            return self.first() > place or bool(self.find(place))
        except GoneError:
            return False

    def _first_batch(self) -> tuple[int, str, int, int]:
        """Return the id of the first batch, and its place."""
        row: tuple[int, str, int, int] | None = self._database.execute(
            "SELECT b.id, e.epoch, b.first_revision, b.first_step FROM batches b"
            " JOIN epochs e ON e.id = b.epoch WHERE e.system = ? ORDER BY b.id LIMIT 1",
            (self._system,),
        ).fetchone()
        if row is None:
            raise GoneError("the history is empty")
        return row

    def _touching(self, id: Id, before: Place | None) -> Iterator[tuple[int, str, int, bytes]]:
        """Select the batches that have entries of the entity, or that begin an epoch."""
        return self._database.execute(
            "SELECT b.id, e.epoch, b.begins, b.steps FROM batches b"
            " JOIN epochs e ON e.id = b.epoch WHERE e.system = ? AND b.id <= ?"
            " AND b.id IN (SELECT batch FROM touched WHERE entity IN (?, ?) UNION ALL"
            " SELECT id FROM batches WHERE begins) ORDER BY b.id DESC",
            (self._system, self._last_batch_before(before), *_numbers(id)),
        )

    def _last_batch_before(self, place: Place | None) -> int:
        """Return the id of the last batch that may have steps before the place; None: of all."""
        if place is None:
            return self._value("SELECT coalesce(max(id), 0) FROM batches")  # type: ignore[no-any-return]
        epoch = self._find_epoch(place.epoch)
        return self._value(  # type: ignore[no-any-return]
            "SELECT coalesce((SELECT max(id) FROM batches WHERE epoch = ?"
            " AND (first_revision, first_step) <= (?, ?)), (SELECT max(id) FROM batches), 0)",
            (epoch.id, *place.at),
        )

    def _find_epoch(self, epoch: str) -> "_Epoch":
        row = self._database.execute(
            "SELECT id, started_at, alive_at FROM epochs WHERE system = ? AND epoch = ?",
            (self._system, epoch),
        ).fetchone()
        if row is None:
            raise GoneError(f"epoch {epoch} is not in the history")
        return _Epoch(*row)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause garbage collection: many new objects would start it again and again, in vain."""
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


def _apply_entry(changed: dict[Id, Any], bodies: Mapping[Id, bytes], entry: Entry) -> None:
    """Apply an entry to the decoded entities in `changed`; None there: the entity was removed."""
    delta = entry.delta
    if delta is None:
        changed[entry.id] = decode(entry.new) if entry.new is not None else None
        return
    if entry.id not in changed:
        changed[entry.id] = decode(bodies[entry.id])
    apply(changed[entry.id], delta)


def _ids(group: bytes) -> set[Id]:
    """Return the ids of the entities in one group of a keyframe."""
    return {(section, key) for section, key, _ in _group(zlib.decompress(group))}


def _read(blob: bytes) -> list[Step]:
    """Decode a batch. Do not change the steps: queries for several entities share them."""
    return _read_cached(blob) if len(blob) < CACHED_BYTES else _steps(zlib.decompress(blob))


@lru_cache(maxsize=2)
def _read_cached(blob: bytes) -> list[Step]:
    return _steps(zlib.decompress(blob))


def _touched(steps: Iterable[Step]) -> set[int]:
    """Return the numbers under which the batch of these steps is found."""
    entries = (entry for step in steps for entry in step.entries)
    return {_numbers(entry.id)[entry.is_state] for entry in entries}


def _tasks_in(steps: Iterable[Step]) -> set[int]:
    """Return the numbers of the tasks under which the batch of these steps is found."""
    return {INDEXED, *numbers(entry for step in steps for entry in step.entries)}


@lru_cache(maxsize=4096)  # the same entities are in every batch
def _numbers(id: Id) -> tuple[int, int]:
    """Return two numbers of an entity: for changes of its measures only, and of its state.

    Entities may share a number; queries compare the ids of the entries too.
    """
    digest = blake2b("/".join(id).encode(), digest_size=4).digest()
    number = int.from_bytes(digest, "big", signed=True)
    return number & ~1, number | 1


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` items; the last may be shorter."""
    group: list[Any] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
