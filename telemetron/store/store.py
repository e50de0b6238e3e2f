"""The store: parts in, one published snapshot out.

`put` checks a part and marks its group dirty. A flush merges and encodes the dirty groups, compares
with what is published, and takes one revision if, and only if, bytes differ. Readers take
`store.snapshot`, a reference to something immutable.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import reduce
from operator import or_
from typing import NamedTuple

from loguru import logger
from msgspec import Struct

from telemetron.clock import Clock, Timer
from telemetron.collector import Put
from telemetron.document import SourceRow
from telemetron.store.check import checked
from telemetron.store.edition import Edition, encode
from telemetron.store.group import NOBODY, Group, Groups
from telemetron.store.measure import same_state
from telemetron.store.part import Part
from telemetron.store.rope import Change
from telemetron.store.section import SECTIONS, Section
from telemetron.store.snapshot import Face, Snapshot
from telemetron.store.source import Source

SLICE_SECONDS = 0.005
MAX_GAP_SECONDS = 0.025
COST_TO_GAP = 10


class Publication(NamedTuple):
    """One revision, and what changed in it."""

    snapshot: Snapshot
    changed: Mapping[str, Mapping[str, bool]]
    """Section → key → whether more than measures changed."""
    new_bytes: int
    """Size of what was encoded anew."""


class Store:
    """All parts of all sources, and the snapshot that is published of them.

    Not thread-safe: everything happens on one event loop, and no method but `replace` awaits.
    """

    def __init__(
        self, id: str, clock: Clock | None = None, sections: Mapping[str, Section] = SECTIONS
    ) -> None:
        self.clock = clock or Clock()
        self.sources: dict[str, Source] = {}
        self.watchers: list[Callable[[Publication], None]] = []
        self._groups = Groups(sections)
        self._same_row = same_state(SourceRow)
        self._dirty: dict[Group, None] = {}
        self._dirty_sources: dict[Source, None] = {}
        self._timer: Timer | None = None
        self._flush: Iterator[None] | None = None
        self._holds = 0
        """Replacements that are half placed: no flush begins."""
        self._flushed: asyncio.Event = asyncio.Event()
        self._earliest = 0.0
        started_at = self.clock.now()
        self.snapshot = Snapshot(
            id,
            epoch(started_at),
            started_at,
            Change(1, 1, started_at),
            {name: Face(change=Change(1, 1, started_at)) for name in ("sources", *sections)},
        )

    # what sources write

    def add(self, name: str, collector: str) -> Source:
        """A new source, `off` until it is started."""
        source = Source(name, collector, self.clock, self._mark_source)
        self.sources[name] = source
        self._mark_source(source)
        return source

    def put(
        self, source: Source, section: str, group: str, id: str, value: Struct, scope: str = ""
    ) -> None:
        """One part of a source; see `Output.put`."""
        try:
            part = self._checked(source, Put(section, group, id, value), scope)
        except Exception as error:
            what = f"{section} {id}"
            source.refuse("part", what, scope, "Refused", f"{what}: {error}")
            return
        if source.problem_count:
            source.accept("part", f"{section} {id}")
        if part is not None:
            self._place(source, part)

    def remove(self, source: Source, section: str, id: str) -> None:
        """Forget one part; see `Output.remove`."""
        source.accept("part", f"{section} {id}")
        part = source.parts.pop((section, id), None)
        if part is not None:
            self._mark(self._groups.take(part))

    async def replace(self, source: Source, puts: Iterable[Put], scope: str = "") -> None:
        """All parts of a scope at once; see `Output.replace`. Sliced, but shown in one step."""
        change = Replacement(dict(source.parts))
        for _ in sliced(self._check_all(source, puts, scope, change)):
            await asyncio.sleep(0)
        while self._flush is not None:  # a running flush would show half of it
            await self._flushed.wait()
        self._holds += 1
        steps = self._place_all(source, scope, change)
        try:
            for _ in sliced(steps):
                await asyncio.sleep(0)
        finally:  # whoever is cancelled here leaves all of it, not half
            for _ in steps:
                pass
            self._holds -= 1
            self._schedule()

    def _check_all(
        self, source: Source, puts: Iterable[Put], scope: str, change: "Replacement"
    ) -> Iterator[None]:
        for put in puts:
            what = f"{put.section} {put.id}"
            change.listed.add(what)
            try:
                if part := self._checked(source, put, scope):
                    change.new[what] = part
                else:
                    change.new.pop(what, None)
            except Exception as error:
                change.refused[what] = f"{what}: {error}"
            yield

    def _place_all(self, source: Source, scope: str, change: "Replacement") -> Iterator[None]:
        """What was put or removed since `replace` was called is newer, and stays."""
        for part in change.new.values():
            at = part.section, part.id
            if source.parts.get(at) is change.known.pop(at, None):
                self._place(source, part)
            yield
        while change.known:
            at, part = change.known.popitem()
            listed = f"{part.section} {part.id}" in change.listed
            if part.scope == scope and not listed and source.parts.get(at) is part:
                self.remove(source, *at)
            yield
        source.settle(scope, change.listed, change.refused)
        source.confirm(scope)

    def _checked(self, source: Source, put: Put, scope: str) -> Part | None:
        """The part as it will be kept, None where it changes nothing; raises what is wrong."""
        if not isinstance(put.group, str) or not isinstance(put.id, str):
            raise TypeError("its group and its id must be str")
        old = source.parts.get((put.section, put.id))
        if old and old.value == put.part and old.group == put.group and old.scope == scope:
            return None
        value = checked(put.part, self._groups.kinds[put.section].decoder)
        return Part(source.name, put.section, put.group, put.id, scope, value)

    def _place(self, source: Source, part: Part) -> None:
        at = part.section, part.id
        old = source.parts.get(at)
        if old and old.group != part.group:
            self._mark(self._groups.take(old))
        source.parts[at] = part
        self._mark(self._groups.place(part))

    # when a flush runs

    def flush(self) -> None:
        """Publish all that was put, now and in one go: for tests."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in self._flush or ():
            pass
        for _ in self._steps():
            pass
        self._end(0.0)

    def _mark(self, group: Group) -> None:
        self._dirty[group] = None
        self._schedule()

    def _mark_source(self, source: Source) -> None:
        self._dirty_sources[source] = None
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is None and self._flush is None:
            delay = max(0.0, self._earliest - self.clock.monotonic())
            self._timer = self.clock.call_later(delay, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._holds:
            return
        self._flush = sliced(self._steps())
        self._flushed.clear()
        self._step(0.0)

    def _step(self, cost: float) -> None:
        """One slice; readers get their turn before the next."""
        if self._flush is None:
            return
        start = time.thread_time()  # what others take of the processor is not the flush's cost
        more = False
        try:
            more = next(self._flush, True) is None
        finally:  # a bug of ours costs one flush, not all to come
            cost += time.thread_time() - start
            if more:
                self.clock.call_later(0, self._step, cost)
            else:
                self._end(cost)

    def _end(self, cost: float) -> None:
        self._flush = None
        self._flushed.set()
        self._earliest = self.clock.monotonic() + min(COST_TO_GAP * cost, MAX_GAP_SECONDS)
        if self._dirty or self._dirty_sources:
            self._schedule()

    # what a flush does

    def _steps(self) -> Iterator[None]:
        """Merge what is dirty and publish it, if bytes differ; yields after each step."""
        revision = self.snapshot.change.revision + 1
        edition = Edition(self.snapshot.faces, revision, self.clock.now())
        dirty, self._dirty = self._dirty, {}
        while dirty:
            for rival in self._merge(dirty.popitem()[0], edition):
                dirty[rival] = None
            yield
        self._show_sources(edition)
        changed = edition.changed()
        yield
        if changed:
            faces = yield from edition.applied(changed)
            garbage = [chunk for name in changed for chunk in self.snapshot.faces[name].rope.chunks]
            self._publish(faces, changed, edition.new_bytes)
            del edition
            while garbage:  # freeing takes its time too
                garbage.pop()
                yield

    def _merge(self, group: Group, edition: Edition) -> list[Group]:
        """Merge one group anew; gives those that have to be merged because of it."""
        try:
            entities = self._groups.merged(group)
        except Exception as error:
            logger.opt(exception=error).error("a group of {} cannot be merged", group.section)
            self._blame(group, "Refused", f"cannot be merged: {type(error).__name__}")
            return []
        rivals = list(self._groups.show(group, entities, edition))
        if group.hidden:
            self._blame(group, "DuplicateKey", f"claims {', '.join(group.hidden[:3])} too")
        elif group.blamed:
            self._blame(group)
        return rivals

    def _blame(self, group: Group, reason: str | None = None, message: str = "") -> None:
        """Tell the sources of a group what hinders it, or that nothing does any more."""
        what = f"{group.section} group {group.id}"
        guilty = {part.source for part in group.parts.values()} if reason else NOBODY
        for name in group.blamed - guilty:
            self.sources[name].accept("group", what)
        for name in guilty:
            self.sources[name].refuse("group", what, "", reason or "", f"{what} {message}")
        group.blamed = guilty

    def _show_sources(self, edition: Edition) -> None:
        for name, delta in edition.entities.items():
            if delta:
                self.sources[name].entities += delta
                self._dirty_sources[self.sources[name]] = None
        sources, self._dirty_sources = self._dirty_sources, {}
        for source in sources:
            row = source.row()
            edition.show("sources", row, encode(row), self._same_row)

    def _publish(
        self,
        faces: Mapping[str, Face],
        changed: Mapping[str, Mapping[str, bool]],
        new_bytes: int,
    ) -> None:
        """One step: a reader sees all of an edition or nothing."""
        old = self.snapshot
        change = reduce(or_, (face.change for face in faces.values()))
        self.snapshot = Snapshot(old.id, old.epoch, old.started_at, change, faces)
        publication = Publication(self.snapshot, changed, new_bytes)
        for watcher in self.watchers:
            try:
                watcher(publication)
            except Exception as error:
                logger.opt(exception=error).error("a watcher of the store failed")


class Replacement(Struct):
    """What a replacement of a scope will change."""

    known: dict[tuple[str, str], Part]
    """The parts of the source when it began."""
    listed: set[str] = set()
    new: dict[str, Part] = {}
    refused: dict[str, str] = {}


def sliced(steps: Iterable[object]) -> Iterator[None]:
    """Take all steps; yields whenever a slice of time is over, for others to have their turn."""
    until = time.perf_counter() + SLICE_SECONDS
    for _ in steps:
        if time.perf_counter() > until:
            yield
            until = time.perf_counter() + SLICE_SECONDS


def epoch(at: datetime) -> str:
    """A new epoch: its time, so that epochs sort, and chance, so that none comes twice."""
    return f"{int(at.timestamp() * 1000):x}{secrets.token_hex(4)}"
