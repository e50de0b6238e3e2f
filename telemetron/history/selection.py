"""Selections: which of the changes of an entity a client sees, and in which form."""

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from msgspec import Raw

from telemetron.history.delta import (
    ALL_KINDS,
    MEASURES,
    Delta,
    Shape,
    compare,
    fields,
    is_measure,
    sections,
)
from telemetron.history.recorder import Entry, decode
from telemetron.history.turnover import Turnover, turnover

Json = dict[str, Any]

COUNTED = "agents"
"""The section whose changes of the kind `tasks` are counted."""
TASKS: Set[str] = frozenset({"tasks"})


class Shown(NamedTuple):
    """A change as clients see it."""

    change: Json
    """Empty: none of it was asked for."""
    timed: Mapping[str, Any] | None = None
    """The fields whose times are those of the change; None: the entity came or went.

    The tasks count only if no other state changed, so that they do not hide when it did.
    """
    turnover: Turnover | None = None
    """Set if the change is only that of counted tasks."""


NOTHING = Shown({})


class Selection(NamedTuple):
    """The measures and kinds that a client asks for."""

    measures: Set[str]
    kinds: Set[str] = ALL_KINDS
    counts_tasks: bool = False
    """Whether an agent has counts in place of its changes of the kind `tasks`."""

    def between(
        self,
        section: str,
        before: bytes | None,
        after: bytes | None,
        shape: Shape,
        is_sure: bool = True,
    ) -> Shown:
        """Return how an entity changed; `is_sure`: what is missing afterwards has gone."""
        if before is None or after is None:
            return self._added_or_removed(section, before, after)
        # The levels have the outcomes of tasks.
        measures = self.measures | MEASURES["levels"] if self.counts_tasks else self.measures
        delta = compare(decode(before), decode(after), shape, measures)
        return self._changed(section, delta, shape, is_sure)

    def of_entry(self, section: str, entry: Entry, shape: Shape) -> Shown:
        """Return the change of an entry."""
        if (delta := entry.delta) is None:
            return self._added_or_removed(section, entry.old, entry.new)
        return self._changed(section, delta, shape)

    def _added_or_removed(self, section: str, before: bytes | None, after: bytes | None) -> Shown:
        if sections()[section].kind not in self.kinds:
            return NOTHING
        if after is not None:
            return Shown({"change": "added", "new": Raw(after)})
        return Shown({"change": "removed", "old": Raw(before or b"null")})

    def _changed(self, section: str, delta: Delta, shape: Shape, is_sure: bool = True) -> Shown:
        counts = self.counts_tasks and section == COUNTED
        kinds = self.kinds - TASKS if counts else self.kinds
        listed = self._listed(delta, shape, kinds, is_sure)
        tasks = self._listed(delta, shape, TASKS, is_sure) if counts else {}
        if not listed and not tasks:
            return NOTHING
        change: Json = {"change": "changed"} | ({"fields": listed} if listed else {})
        if not tasks:
            return Shown(change, listed)
        counted = turnover(delta, is_sure)
        change["tasks"] = counted._asdict()
        is_state = any(not is_measure(p.split("/"), one, shape) for p, one in listed.items())
        return Shown(change, listed if is_state else listed | tasks, None if listed else counted)

    def _listed(self, delta: Delta, shape: Shape, kinds: Set[str], is_sure: bool) -> Json:
        found = fields(delta, shape, self.measures, kinds)
        if is_sure:
            return dict(found)
        kept = ((path, _without_removal(change)) for path, change in found)
        return {path: change for path, change in kept if change}


def selection(measures: str, kinds: Sequence[str]) -> Selection:
    """Return the selection of these parameters; no kinds: all, with the tasks counted."""
    return Selection(MEASURES[measures], frozenset(kinds) or ALL_KINDS, counts_tasks=not kinds)


def _without_removal(change: Json) -> Json | None:
    """Return a changed field without removed items; None if nothing else changed."""
    old, new = change.get("old"), change.get("new")
    if isinstance(old, list) and isinstance(new, list):
        both = [item for item in old if item in new]
        return {"old": both, "new": new} if both != new else None
    return None if "removed" in change else change
