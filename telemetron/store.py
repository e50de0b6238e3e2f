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

from telemetron.check import checked
from telemetron.clock import Clock, Timer
from telemetron.collector import Put
from telemetron.document import SourceRow
from telemetron.edition import Edition
from telemetron.group import Group, Groups
from telemetron.measure import state_of
from telemetron.part import Part
from telemetron.rope import Change, Fragment
from telemetron.section import SECTIONS, Section
from telemetron.snapshot import Face, Snapshot
from telemetron.source import Source

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
        self._rows: dict[str, Fragment] = {}
        self._row_state = state_of(SourceRow)
        self._dirty: dict[Group, None] = {}
        self._dirty_sources: dict[Source, None] = {}
        self._timer: Timer | None = None
        self._flush: Iterator[None] | None = None
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
        part = self._checked(source, Put(section, group, id, value), scope)
        if part is not None:
            self._place(source, part)

    def remove(self, source: Source, section: str, id: str) -> None:
        """Forget one part; see `Output.remove`."""
        part = source.parts.pop((section, id), None)
        if part is not None:
            self._mark(self._groups.take(part))
            source.accept(part.scope, f"{section} {id}")

    async def replace(self, source: Source, puts: Iterable[Put], scope: str = "") -> None:
        """All parts of a scope at once; see `Output.replace`. Sliced, but shown in one step."""
        known = dict(source.parts)
        gone = {at for at, part in known.items() if part.scope == scope}
        new: dict[tuple[str, str], Part | None] = {}
        until = time.perf_counter() + SLICE_SECONDS
        for put in puts:
            gone.discard((put.section, put.id))
            new[put.section, put.id] = self._checked(source, put, scope)
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE_SECONDS
        while self._flush is not None:  # a running flush would show half of it
            await self._flushed.wait()
        for at, part in new.items():
            if part and source.parts.get(at) is known.get(at):
                self._place(source, part)
        for at in gone:
            if source.parts.get(at) is known[at]:
                self.remove(source, *at)
        source.confirm(scope)

    def _checked(self, source: Source, put: Put, scope: str) -> Part | None:
        """The part as it will be kept; None when it changes nothing or is refused."""
        old = source.parts.get((put.section, put.id))
        if old and old.value == put.part and old.group == put.group and old.scope == scope:
            return None
        what = f"{put.section} {put.id}"
        try:
            value = checked(put.part, self._groups.kinds[put.section].decoder)
        except Exception as error:
            source.refuse(scope, what, "Refused", f"{what}: {error}")
            return None
        source.accept(scope, what)
        return Part(source.name, put.section, put.group, put.id, scope, value)

    def _place(self, source: Source, part: Part) -> None:
        old = source.parts.get((part.section, part.id))
        if old and old.group != part.group:
            self._mark(self._groups.take(old))
        source.parts[part.section, part.id] = part
        self._mark(self._groups.place(part))

    # when a flush runs

    def flush(self) -> None:
        """Publish all that was put, now and in one go: for tests."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in self._flush or self._pass():
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
        self._flush = self._pass()
        self._flushed.clear()
        self._step(0.0)

    def _step(self, cost: float) -> None:
        """One slice; readers get their turn before the next."""
        if self._flush is None:
            return
        start = time.perf_counter()
        more = next(self._flush, True) is None
        cost += time.perf_counter() - start
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

    def _pass(self) -> Iterator[None]:
        """Merge what is dirty and publish it, if bytes differ; yields after each slice."""
        edition = Edition(self.snapshot.change.revision + 1, self.clock.now())
        dirty, self._dirty = self._dirty, {}
        until = time.perf_counter() + SLICE_SECONDS
        while dirty:
            dirty |= dict.fromkeys(self._merge(dirty.popitem()[0], edition))
            if time.perf_counter() > until:
                yield
                until = time.perf_counter() + SLICE_SECONDS
        self._show_sources(edition)
        self._publish(edition)

    def _merge(self, group: Group, edition: Edition) -> list[Group]:
        """Merge one group anew; gives those that have to be merged because of it."""
        try:
            entities = self._groups.merged(group)
            rivals = list(self._groups.show(group, entities, edition))
        except Exception as error:
            self._judge(group, "Refused", f"cannot be merged: {type(error).__name__}")
            logger.opt(exception=error).error("a group of {} cannot be merged", group.section)
            return []
        lost = self._groups.rivals(group)
        self._judge(group, "DuplicateKey" if lost else None, f"claims {', '.join(lost[:3])} too")
        return rivals

    def _judge(self, group: Group, reason: str | None, message: str) -> None:
        """Say of the sources of a group what hinders it, or that nothing does."""
        what = f"{group.section} group {group.id}"
        for name in {part.source for part in group.parts.values()}:
            source = self.sources[name]
            if reason is None:
                source.accept("", what)
            else:
                source.refuse("", what, reason, f"{what} {message}")

    def _show_sources(self, edition: Edition) -> None:
        for name, delta in edition.entities.items():
            if delta:
                self.sources[name].entities += delta
                self._dirty_sources[self.sources[name]] = None
        sources, self._dirty_sources = self._dirty_sources, {}
        for source in sources:
            old = self._rows.get(source.name)
            new = edition.show("sources", source.row(), old, self._row_state, lambda row: ())
            self._rows[source.name] = new

    def _publish(self, edition: Edition) -> None:
        """One step: a reader sees all of the edition or nothing."""
        old = self.snapshot
        faces = {name: edition.applied(name, face) for name, face in old.faces.items()}
        change = reduce(or_, (face.change for face in faces.values()))
        if change.revision == old.change.revision:
            return
        self.snapshot = Snapshot(old.id, old.epoch, old.started_at, change, faces)
        publication = Publication(self.snapshot, edition.changed, edition.new_bytes)
        for watcher in self.watchers:
            watcher(publication)


def epoch(at: datetime) -> str:
    """A new epoch: its time, so that epochs sort, and chance, so that none comes twice."""
    return f"{int(at.timestamp() * 1000):x}{secrets.token_hex(4)}"
