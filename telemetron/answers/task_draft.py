"""The draft of an answer about one task: all that a snapshot and the history know of it.

A draft is made in the history's thread. If it does not know the task well enough, the collectors
are asked with its `query`, and `answer` adds what they found.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from telemetron.answers import task_doubts, task_relations, task_steps
from telemetron.answers.task_places import Json
from telemetron.answers.task_sightings import Found, Run, Sightings
from telemetron.answers.task_steps import NOTHING, Past
from telemetron.answers.task_where import has_ended, where
from telemetron.history.timeline import Timeline
from telemetron.search import QueueRecord, SearchResult, TaskQuery, TaskSighting
from telemetron.text import strip_controls

MAX_ID = 256
MAX_RECORDS = 8
KNOWN = ("pending", "consumed")
MAX_LOOKUPS = 8
"""Other tasks that are looked up in the history."""

_RECORD = re.compile(r"(.+)/([0-9]{1,9})/([0-9]{1,18})", re.DOTALL)


class Sought(NamedTuple):
    """The task that a reader asks for; a text such as `sections/0/1042` is an id and a record."""

    id: str
    record: QueueRecord | None

    @classmethod
    def parse(cls, text: str) -> "Sought":
        """Return the task that a text names, cut as ids are (docs/tasks.md)."""
        id = strip_controls(text[:MAX_ID])
        match = _RECORD.fullmatch(id)
        return cls(id, QueueRecord(match[1], int(match[2]), int(match[3])) if match else None)


class Draft:
    """Everything that a snapshot and the history know of one task."""

    def __init__(
        self,
        sought: Sought,
        sightings: Sightings,
        timeline: Timeline | None,
        feeds: task_doubts.Feeds,
        more: Iterable[TaskSighting] = (),
    ) -> None:
        """`more`: sightings of a search, which may give the task another id or record."""
        self.sought = sought
        self.sightings = sightings
        self._timeline = timeline
        self._words: dict[str, str] = {}
        self._lookups = 0
        self.found = sightings.find(*_names(sought, more))
        self.past = self._past(self.found.ids)
        self.active, self.lost = self._runs(self.found)
        self.parents = task_relations.parents(self._with_past(), self.word)
        self.children = task_relations.children(
            sightings, self.found, self.past.children, self.word
        )
        blockers = task_relations.blocked_by(sightings, self.found, self.word)
        self.blocked_by = _first(blockers, task_relations.MAX_BLOCKERS)
        concerned = task_relations.findings(sightings, self.found)
        self.findings = _first(concerned, task_relations.MAX_FINDINGS)
        self.doubts = [*self._doubts(feeds)]

    def _past(self, ids: Iterable[str]) -> Past:
        if self._timeline is None:
            return NOTHING
        some = sorted(ids, key=lambda id: id != self.sought.id)[:MAX_LOOKUPS]
        return task_steps.whole([task_steps.past(self._timeline, id) for id in some])

    def _with_past(self) -> Found:
        """Return the sightings, with the parent that only the history knows."""
        items = [one.item for one in self.past.steps if one.item.get("parent_id")]
        return self.found._replace(parents=frozenset(item["parent_id"] for item in items))

    def _runs(self, found: Found) -> tuple[list[Run], list[Run]]:
        """Return the runs that go on, and the lost ones."""
        lost = [run for run in found.runs if self._is_lost(run)]
        return [run for run in found.runs if run not in lost], lost

    def _is_lost(self, run: Run) -> bool:
        workload, pod = self.sightings.home(run)
        return run.task.last_known or (workload is not None and pod is None)

    def word(self, id: str) -> str:
        """Return one word for where another task is; few are looked up in the history."""
        if id not in self._words:
            found = self.sightings.find([id], ())
            word = where(*self._runs(found), found, self.sightings, NOTHING)
            if word == "unknown" and self._timeline and self._lookups < MAX_LOOKUPS:
                self._lookups += 1
                word = where([], [], found, self.sightings, task_steps.past(self._timeline, id))
            self._words[id] = word
        return self._words[id]

    def _doubts(self, feeds: task_doubts.Feeds) -> Iterator[Json]:
        yield from task_doubts.of_sources(self.sightings.rows(), feeds)
        yield from task_doubts.of_agents(self.sightings)
        if self._timeline is None:
            yield {"of": "history", "why": "it did not answer in time"}
        else:
            yield from task_doubts.of_history(self._timeline, self.past.is_complete)

    # the search

    def query(self, look: int) -> TaskQuery | None:
        """Return what to ask the collectors; None: the snapshot and the history suffice."""
        word = self.where(())
        is_open = word in ("unknown", "lost") and not self.lost
        records = tuple(sorted(self.found.records)) if word != "active" else ()
        if not records and not (is_open and look):
            return None
        return TaskQuery(
            id=self.sought.id, records=records[:MAX_RECORDS], look=look if is_open else 0
        )

    def news(self, results: Mapping[str, SearchResult]) -> list[TaskSighting]:
        """Return the sightings of a search if this draft was made without one of their names.

        Another draft with them then finds the runs, the ends and the past under those names.
        """
        seen = [one for result in results.values() for one in result.sightings if one.task]
        ids, records = _names(self.sought, seen)
        return [] if ids <= self.found.ids and records <= self.found.records else seen

    def where(self, seen: Sequence[TaskSighting]) -> str:
        """Return the one word; `seen` are the sightings of a search."""
        word = where(self.active, self.lost, self.found, self.sightings, self.past)
        if word in ("unknown", "ended") or (word == "lost" and not self.lost):
            for one in seen:
                if one.status == "pending" and not has_ended(one, self.found, self.past):
                    return "waiting"
        return word

    def knows(self, seen: Sequence[TaskSighting]) -> bool:
        """Return whether anything at all is known of the task."""
        return bool(
            self.found.runs
            or self.found.pending
            or self.found.outcomes
            or self.past.steps
            or any(one.task or one.status in KNOWN for one in seen)
        )


def _names(sought: Sought, more: Iterable[TaskSighting]) -> tuple[set[str], set[QueueRecord]]:
    ids, records = {sought.id}, {sought.record} if sought.record else set()
    for one in more:
        if one.task:
            ids.add(one.task.id)
        if one.partition is not None and one.offset is not None:
            records.add(QueueRecord(one.queue, one.partition, one.offset))
    return ids, records


def _first(items: Iterator[Any], most: int) -> tuple[list[Any], bool]:
    """Return the first items, and whether there are more."""
    found = [one for _, one in zip(range(most + 1), items, strict=False)]
    return found[:most], len(found) > most
