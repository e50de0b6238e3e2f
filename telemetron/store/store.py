"""The store: parts in, one published snapshot out.

`put` validates a part and marks its group dirty. A flush merges and encodes the dirty groups,
compares their bytes with the published ones, and publishes one new revision if any differ. Readers
use `store.snapshot`, which is immutable.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from loguru import logger
from msgspec import Struct

from telemetron.clock import Clock, Timer
from telemetron.collector import Put
from telemetron.document import SourceRow
from telemetron.slices import SLICE_SECONDS, sliced
from telemetron.store.changeset import Changeset
from telemetron.store.group import NO_SOURCES, Group, Groups
from telemetron.store.measure import same_state
from telemetron.store.part import Part
from telemetron.store.rope import CHUNK_BYTES, Change, Rope
from telemetron.store.section import SECTIONS, Section
from telemetron.store.snapshot import SectionSnapshot, Snapshot, encode
from telemetron.store.source import Source
from telemetron.store.validation import validated

MAX_GAP_SECONDS = 0.025
COST_TO_GAP = 10


class Publication(NamedTuple):
    """One published revision and its changes."""

    snapshot: Snapshot
    changed: Mapping[str, Mapping[str, bool]]
    """Section → key → whether more than measures changed."""
    new_bytes: int
    """Size of the entities that were encoded for it."""


class Store:
    """All parts of all sources, and the snapshot published of them.

    Not thread-safe: everything runs on one event loop, and only `replace` awaits.
    """

    def __init__(
        self,
        id: str,
        clock: Clock | None = None,
        sections: Mapping[str, Section] = SECTIONS,
        slice_seconds: float = SLICE_SECONDS,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.clock = clock or Clock()
        self.sources: dict[str, Source] = {}
        self.watchers: list[Callable[[Publication], None]] = []
        self._slice_seconds = slice_seconds
        self._groups = Groups(sections)
        self._same_row = same_state(SourceRow)
        self._dirty: dict[Group, None] = {}
        self._dirty_sources: dict[Source, None] = {}
        self._timer: Timer | None = None
        self._flush: Iterator[None] | None = None
        self._holds = 0
        """Replacements that are half done: no flush may begin."""
        self._flushed: asyncio.Event = asyncio.Event()
        self._earliest = 0.0
        started_at = self.clock.now()
        change = Change(1, 1, started_at)
        empty = SectionSnapshot(Rope(chunk_bytes=chunk_bytes), change)
        names = "sources", *sections
        self.snapshot = Snapshot(
            id, epoch(started_at), started_at, change, dict.fromkeys(names, empty)
        )

    # written by sources

    def add(self, name: str, collector: str) -> Source:
        """Add and return a new source; it is `off` until it is started."""
        source = Source(name, collector, self.clock, self._mark_source)
        self.sources[name] = source
        self._mark_source(source)
        return source

    def put(
        self,
        source: Source,
        section: str,
        group: str,
        id: str,
        value: Struct,
        scope: str = "",
        is_checked: bool = False,
    ) -> None:
        """Add or replace one part of a source; see `Output.put`."""
        try:
            part = self._validated(source, section, group, id, value, scope, is_checked)
        except Exception as error:
            what = f"{section} {id}"
            source.report("part", what, scope, "Refused", f"{what}: {error}")
            return
        if source.problem_count:
            source.resolve("part", f"{section} {id}")
        if part is not None:
            self._add(source, part)

    def remove(self, source: Source, section: str, id: str) -> None:
        """Remove one part; see `Output.remove`."""
        source.resolve("part", f"{section} {id}")
        part = source.parts.pop((section, id), None)
        if part is not None:
            self._mark(self._groups.remove(part))

    async def replace(self, source: Source, puts: Iterable[Put], scope: str = "") -> None:
        """Replace all parts of a scope; see `Output.replace`.

        Works in slices, but readers see the whole replacement or nothing.
        """
        replacement = Replacement(dict(source.parts))
        for _ in self._sliced(self._validate_all(source, puts, scope, replacement)):
            await asyncio.sleep(0)
        while self._flush is not None:  # a running flush would show half of it
            await self._flushed.wait()
        self._holds += 1
        steps = self._apply(source, scope, replacement)
        try:
            for _ in self._sliced(steps):
                await asyncio.sleep(0)
        finally:  # a cancelled caller must not leave half of it
            for _ in steps:
                pass
            self._holds -= 1
            self._schedule()

    def _validate_all(
        self, source: Source, puts: Iterable[Put], scope: str, replacement: "Replacement"
    ) -> Iterator[None]:
        for put in puts:
            what = f"{put.section} {put.id}"
            replacement.listed.add(what)
            try:
                if part := self._validated(source, *put, scope):
                    replacement.new[what] = part
                else:
                    replacement.new.pop(what, None)
            except Exception as error:
                replacement.refused[what] = f"{what}: {error}"
            yield

    def _apply(self, source: Source, scope: str, replacement: "Replacement") -> Iterator[None]:
        """Apply it, except to parts that were put or removed since `replace` began: they are newer.

        Yields after each part.
        """
        for part in replacement.new.values():
            at = part.section, part.id
            if source.parts.get(at) is replacement.old.pop(at, None):
                self._add(source, part)
            yield
        while replacement.old:
            at, part = replacement.old.popitem()
            listed = f"{part.section} {part.id}" in replacement.listed
            if part.scope == scope and not listed and source.parts.get(at) is part:
                self.remove(source, *at)
            yield
        source.replace_refusals(scope, replacement.listed, replacement.refused)
        source.confirm(scope)

    def _validated(
        self,
        source: Source,
        section: str,
        group: str,
        id: str,
        value: Any,
        scope: str,
        is_checked: bool = False,
    ) -> Part | None:
        """Return the part to keep, None if it changes nothing; raise if it does not fit."""
        if not isinstance(group, str) or not isinstance(id, str):
            raise TypeError("group and id must be str")
        if is_checked:  # nor is it compared: it is new, and bytes that are published cost little
            return Part(source.name, section, group, id, scope, value, source.agent_rank)
        old = source.parts.get((section, id))
        if old and old.value == value and old.group == group and old.scope == scope:
            return None
        value = validated(value, self._groups.sections[section].decoder)
        return Part(source.name, section, group, id, scope, value, source.agent_rank)

    def _add(self, source: Source, part: Part) -> None:
        at = part.section, part.id
        old = source.parts.get(at)
        if old and old.group != part.group:
            self._mark(self._groups.remove(old))
        source.parts[at] = part
        self._mark(self._groups.add(part))

    # when a flush runs

    def flush(self) -> None:
        """Publish all changes now, in one slice; for tests and the start."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in self._flush or ():
            pass
        for _ in self._steps():
            pass
        self._end(0.0)

    @property
    def is_flush_due(self) -> bool:
        """Whether a flush is about to run: in the next turn of the event loop, or already late."""
        return self._timer is not None and self._earliest <= self.clock.monotonic()

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
        self._flush = self._sliced(self._steps())
        self._flushed.clear()
        self._step(0.0)

    def _sliced(self, steps: Iterable[object]) -> Iterator[None]:
        return sliced(steps, self._slice_seconds)

    def _step(self, cost: float) -> None:
        """Run one slice of the flush and schedule the next, so that readers run in between.

        `cost`: the processor time of the flush so far, in seconds.
        """
        if self._flush is None:
            return
        start = time.thread_time()  # not wall time: it would include other threads and processes
        more = False
        try:
            more = next(self._flush, True) is None
        finally:  # a bug must end this flush, not prevent all later ones
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
        """Merge the dirty groups and publish a revision if bytes differ; yield after each step."""
        revision = self.snapshot.change.revision + 1
        changeset = Changeset(self.snapshot.sections, revision, self.clock.now())
        dirty, self._dirty = self._dirty, {}
        while dirty:
            for rival in self._merge(dirty.popitem()[0], changeset):
                dirty[rival] = None
            yield
        self._stage_sources(changeset)
        changed = changeset.changed()
        yield
        if changed:
            sections = yield from changeset.apply(changed)
            garbage = [
                chunk for name in changed for chunk in self.snapshot.sections[name].rope.chunks
            ]
            self._publish(sections, changed, changeset.new_bytes)
            del changeset
            while garbage:  # freeing many chunks at once would take longer than a slice
                garbage.pop()
                yield

    def _merge(self, group: Group, changeset: Changeset) -> list[Group]:
        """Merge and stage one group; return the groups that must be merged because of it."""
        try:
            entities = self._groups.merge(group)
        except Exception as error:
            logger.opt(exception=error).error("a group of {} parts cannot be merged", group.section)
            self._blame(group, "Refused", f"cannot be merged: {type(error).__name__}")
            return []
        rivals = list(self._groups.stage(group, entities, changeset))
        if group.hidden:
            keys = ", ".join(group.hidden[:3])
            self._blame(group, "DuplicateKey", f"has keys that are already taken: {keys}")
        elif group.blamed:
            self._blame(group)
        return rivals

    def _blame(self, group: Group, reason: str | None = None, message: str = "") -> None:
        """Report a problem of a group to its sources; without a reason, end the problem."""
        what = f"{group.section} group {group.id}"
        guilty = {part.source for part in group.parts.values()} if reason else NO_SOURCES
        for name in group.blamed - guilty:
            self.sources[name].resolve("group", what)
        for name in guilty:
            self.sources[name].report("group", what, "", reason or "", f"{what} {message}")
        group.blamed = guilty

    def _stage_sources(self, changeset: Changeset) -> None:
        for name, delta in changeset.entities.items():
            if delta:
                self.sources[name].entities += delta
                self._dirty_sources[self.sources[name]] = None
        sources, self._dirty_sources = self._dirty_sources, {}
        for source in sources:
            row = source.row()
            changeset.put("sources", row, encode(row), self._same_row)

    def _publish(
        self,
        sections: Mapping[str, SectionSnapshot],
        changed: Mapping[str, Mapping[str, bool]],
        new_bytes: int,
    ) -> None:
        """Replace the snapshot in one step: readers see the whole revision or nothing."""
        old = self.snapshot
        change = reduce(or_, (section.change for section in sections.values()))
        self.snapshot = Snapshot(old.id, old.epoch, old.started_at, change, sections)
        publication = Publication(self.snapshot, changed, new_bytes)
        for watcher in self.watchers:
            try:
                watcher(publication)
            except Exception as error:
                logger.opt(exception=error).error("a watcher of the store failed")


class Replacement(Struct):
    """The changes of one `replace`; parts are named by section and id."""

    old: dict[tuple[str, str], Part]
    """The parts of the source when `replace` was called."""
    listed: set[str] = set()
    new: dict[str, Part] = {}
    """Listed parts that differ from the old ones."""
    refused: dict[str, str] = {}
    """Listed parts that did not validate, with the message."""


def epoch(at: datetime) -> str:
    """Return a new epoch: the time, so that epochs sort, and random digits against repeats."""
    return f"{int(at.timestamp() * 1000):x}{secrets.token_hex(4)}"
