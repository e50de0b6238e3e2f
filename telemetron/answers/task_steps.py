"""The steps of a task: its past, from the entries of the history that name it."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

from telemetron.history.archive import PlacedEntry
from telemetron.history.place import Place, moment
from telemetron.history.recorder import Entry
from telemetron.history.tasks import ACTIVE, ENDED, FAILURE, TaskChange, task_changes
from telemetron.history.timeline import Timeline
from telemetron.search import QueueRecord

MAX_STEPS = 20
# Each batch takes up to 2 ms to read. A task that ran for hours is in hundreds of them.
NEWEST, OLDEST = 16, 4
SHOWN = ("instance", "step", "status", "stalled", "error", "queue", "partition", "offset")
STARTS = ("taken", "retried", "moved")
PROGRESS = ("step", "status", "stalled", "waits", "progressed_at")

SILENT = "its instance is silent"
LEFT = "its agent no longer lists it"
RESTARTED = "its instance restarted"
REMOVED = "its instance ended or was forgotten"
GONE = "its agent is no longer in the document"


class Step(NamedTuple):
    """One event in the life of a task."""

    at: datetime
    event: str
    """`submitted`, `taken`, `progressed`, `retried`, `moved`, `ended`, `lost` or `left`."""
    key: str
    """The entity: of an agent, or of a queue if the task was submitted."""
    place: Place | None
    item: Mapping[str, Any]
    """The fields of the task that the event sets."""
    why: str | None = None

    @property
    def record(self) -> QueueRecord | None:
        """The record that the task came from, if all of it is known."""
        queue, partition, offset = map(self.item.get, QueueRecord._fields)
        if queue is None or partition is None or offset is None:
            return None
        return QueueRecord(queue, partition, offset)


class Past(NamedTuple):
    """All that the history has of one task."""

    steps: list[Step]
    """Oldest first."""
    children: dict[str, str]
    """The tasks that it caused, with one word each for where they were last."""
    is_complete: bool
    """Whether no entry was left out or dropped."""

    @property
    def last(self) -> Step | None:
        """The last step of the newest run, or the last end of any, if it ever ran."""
        return next(reversed([*self._newest()]), None)

    def fates(self) -> dict[QueueRecord | None, str]:
        """Return the last event of the runs of each record, as far as records are known."""
        runs = [one for one in self._newest() if one.event != "progressed"]
        return {one.record: one.event for one in runs if one.record is not None}

    def _newest(self) -> Iterator[Step]:
        """Yield the steps of runs, each only until another run begins, and every reported end.

        A silent instance may be lost long after another one took over its task and ended it.
        """
        newest: tuple[str, Any] | None = None
        for one in self.steps:
            run = one.key, one.item.get("instance")
            if one.event in STARTS:
                newest = run
            is_old = run[1] is not None and newest not in (None, run)
            if one.event == "ended" or not (is_old or one.event == "submitted"):
                yield one


NOTHING = Past([], {}, False)


def past(timeline: Timeline, id: str) -> Past:
    """Return the past of a task. Call it in the history's thread."""
    entries = list(timeline.task_entries(id, NEWEST, OLDEST))
    life = _Life(id)
    for placed in reversed(entries):
        if placed is not None:
            life.read(placed)
    return Past(life.steps, life.children, None not in entries and timeline.is_whole())


class _Life:
    """Reads the entries of one task, oldest first."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.steps: list[Step] = []
        self.children: dict[str, str] = {}
        self._runs: dict[tuple[str, Any], None] = {}
        """Agent and instance of each run that is active."""
        self._last: tuple[str, Any] | None = None
        self._taken: dict[tuple[str, Any], dict[str, Any]] = {}
        """The record of the last run of each instance, and under None of each agent."""

    def read(self, placed: PlacedEntry) -> None:
        changes = list(task_changes(placed.entry, self.id))
        for change in changes:  # outcomes first: they explain why a task left its agent
            if change.of in (ENDED, FAILURE):
                self._read_ended(placed, change)
        for change in changes:
            if change.of == ACTIVE:
                self._read_active(placed, change)
            elif change.section == "queues":
                self._read_pending(placed, change)

    def _read_pending(self, placed: PlacedEntry, change: TaskChange) -> None:
        old = [_record(item) for item in change.old]
        for item in change.new:
            if item["id"] == self.id and _record(item) not in old:
                at = _time(item.get("submitted_at")) or moment(placed.at)
                queue = change.key.split("/")[1]
                self._add(placed, "submitted", change, item | {"queue": queue}, at=at)

    def _read_ended(self, placed: PlacedEntry, change: TaskChange) -> None:
        for item in change.new:
            if item in change.old:
                continue
            if item["id"] != self.id:
                self.children[item["id"]] = "ended"
            elif not (change.of == FAILURE and self._has_ended(change.key)):
                self._forget_end(change.key)
                known = self._taken.get((change.key, item.get("instance")))
                known = known or self._taken.get((change.key, None), {})
                values = {name: one for name, one in item.items() if one is not None}
                self._add(placed, "ended", change, known | values)

    def _has_ended(self, key: str) -> bool:
        """Return whether its run by this agent has ended, and no other run has begun since."""
        return bool(self.steps) and self.steps[-1].event == "ended" and self.steps[-1].key == key

    def _forget_end(self, key: str) -> None:
        """Drop an end that says less than a report of the same end: these may come later."""
        last = self.steps[-1] if self.steps else None
        if last and last.key == key and (last.event == "left" or last.item.get("brief")):
            self.steps.pop()

    def _read_active(self, placed: PlacedEntry, change: TaskChange) -> None:
        for item in (*change.old, *change.new):
            if item["id"] != self.id:
                there = item in change.new
                was = self.children.get(item["id"])
                self.children[item["id"]] = "active" if there else was if was == "ended" else "left"
        old = {item.get("instance"): item for item in change.old if item["id"] == self.id}
        new = {item.get("instance"): item for item in change.new if item["id"] == self.id}
        if change.fields:
            self._read_fields(placed, change)
        for instance, item in old.items():
            if instance not in new:
                self._leave(placed, change, item)
        for instance, item in new.items():
            if instance not in old:
                self._take(placed, change, item)
            elif item.get("last_known") and not old[instance].get("last_known"):
                self._add(placed, "lost", change, item, why=SILENT)
            elif any(item.get(name) != old[instance].get(name) for name in PROGRESS):
                self._add(placed, "progressed", change, item)

    def _read_fields(self, placed: PlacedEntry, change: TaskChange) -> None:
        """Read the changed fields of a task that stayed in the list."""
        fields = {name: pair[1] for name, pair in change.fields.items() if _is_pair(pair)}
        if "instance" in fields:
            before = {"id": self.id, "instance": change.fields["instance"][0]}
            self._leave(placed, change, before)
            self._take(placed, change, {"id": self.id} | fields)
        elif fields.get("last_known"):
            known = self._taken.get((change.key, self._instance(change.key)), {})
            self._add(placed, "lost", change, {**known, **fields}, why=SILENT)
        elif any(name in change.fields for name in PROGRESS):
            instance = self._instance(change.key)
            self._add(placed, "progressed", change, {"instance": instance} | fields)

    def _instance(self, key: str) -> Any:
        """Return the instance of the agent's first run that is active."""
        return next((one for agent, one in self._runs if agent == key), None)

    def _take(self, placed: PlacedEntry, change: TaskChange, item: Mapping[str, Any]) -> None:
        event = "taken"
        if self._last is not None:
            event = "retried" if self._last[0] == change.key else "moved"
        self._last = change.key, item.get("instance")
        self._runs[self._last] = None
        taken = {name: item.get(name) for name in ("instance", *QueueRecord._fields)}
        self._taken[self._last] = self._taken[change.key, None] = taken
        self._add(placed, event, change, item)

    def _leave(self, placed: PlacedEntry, change: TaskChange, item: Mapping[str, Any]) -> None:
        self._runs.pop((change.key, item.get("instance")), None)
        if self._has_ended(change.key):
            return
        why = lost(placed.entry, item.get("instance"))
        self._add(placed, "lost" if why else "left", change, item, why=why or LEFT)

    def _add(
        self,
        placed: PlacedEntry,
        event: str,
        change: TaskChange,
        item: Mapping[str, Any],
        at: datetime | None = None,
        why: str | None = None,
    ) -> None:
        step = Step(at or moment(placed.at), event, change.key, placed.place, item, why)
        self.steps.append(step)


def lost(entry: Entry, instance: str | None) -> str | None:
    """Return why a task that left an agent in this entry was lost; None if its instance goes on."""
    delta = entry.delta
    if delta is None:
        return GONE if entry.new is None else None
    change = delta.get("instances")
    if change is None:
        return None
    if len(change) == 2:
        old, new = ({one["id"]: one for one in side or ()} for side in change)
        if instance in old and instance not in new:
            return REMOVED
        lives = [side.get(instance, {}).get("lives") for side in (old, new)]
        return RESTARTED if lives[0] != lives[1] and instance in new else None
    _, changed, removed, _, _ = change
    if any(item["id"] == instance for _, item in removed):
        return REMOVED
    return RESTARTED if any(id == instance and "lives" in one for id, one in changed) else None


def shown(steps: list[Step]) -> tuple[list[dict[str, Any]], int]:
    """Return the steps of an answer, oldest first, and how many there are.

    If there are too many, progress is left out first, then the oldest steps.
    """
    steps = sorted(steps, key=attrgetter("at"))
    room = MAX_STEPS - sum(one.event != "progressed" for one in steps)
    progress = [one for one in steps if one.event == "progressed"]
    kept = {id(one) for one in progress[max(0, len(progress) - max(room, 0)) :]}
    some = [one for one in steps if one.event != "progressed" or id(one) in kept]
    return [*map(_shown, some[-MAX_STEPS:])], len(steps)


def _shown(step: Step) -> dict[str, Any]:
    section = "queues" if step.event == "submitted" else "agents"
    fields = {name: step.item[name] for name in SHOWN if step.item.get(name) is not None}
    head: dict[str, Any] = {"at": step.at, "event": step.event, "in": f"{section}/{step.key}"}
    tail = {"why": step.why, "place": step.place and str(step.place)}
    return head | fields | {name: one for name, one in tail.items() if one}


def _record(item: Mapping[str, Any]) -> tuple[Any, Any]:
    return item.get("partition"), item.get("offset")


def _is_pair(change: Any) -> bool:
    return isinstance(change, list) and len(change) == 2


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def whole(parts: Iterable[Past]) -> Past:
    """Return one past of a task that has several ids."""
    steps: list[Step] = []
    children: dict[str, str] = {}
    complete = True
    for part in parts:
        steps += part.steps
        children |= part.children
        complete = complete and part.is_complete
    return Past(sorted(steps, key=attrgetter("at")), children, complete)
