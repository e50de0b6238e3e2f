"""The tasks in an entry of the history: their ids, to find it, and how each of them changed."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from telemetron.history.recorder import Entry, decode, encode

ACTIVE, ENDED, FAILURE, WAITING = "active_task_ids", "ended", "last_failure", "tasks"
INDEXED = 0
"""The number of every batch whose tasks are indexed; no task has it."""

Item = dict[str, Any]


class TaskChange(NamedTuple):
    """One task in one list of an entity, before and after an entry."""

    section: str
    key: str
    of: str
    """The list: `ACTIVE`, `ENDED` or `WAITING`; `FAILURE` is a list of one ended task."""
    old: list[Item]
    new: list[Item]
    """Items with the id: none, one, or several that share it."""
    fields: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    """By name the old and new value of each changed field, if the item was there and stayed."""


class _Named(Struct, frozen=True, gc=False):
    id: str = ""
    parent_id: str | None = None


class _Activity(Struct, frozen=True, gc=False):
    active_task_ids: list[_Named] = []
    ended: list[_Named] = []


class _Body(Struct, frozen=True, gc=False):
    """The tasks of an agent or a queue."""

    activity: _Activity = _Activity()
    tasks: list[_Named] = []


_body = msgspec.json.Decoder(_Body).decode


@lru_cache(maxsize=4096)  # a long task is in many batches
def number(id: str) -> int:
    """Return the number under which batches with this task are found. Tasks may share a number."""
    digest = blake2b(id.encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") or 1


def numbers(entries: Iterable[Entry]) -> set[int]:
    """Return the numbers of the tasks in these entries, and of their parents.

    Measures of an agent's tasks do not count: a long task would be in each batch.
    """
    return {number(id) for id in {id for entry in entries for id in _ids(entry)}}


def _ids(entry: Entry) -> Iterator[str]:
    if entry.section != "queues" and not (entry.section == "agents" and entry.is_state):
        return
    if entry.packed is None:
        body = _body(entry.new or entry.old or b"{}")
        for named in (*body.activity.active_task_ids, *body.activity.ended, *body.tasks):
            yield named.id
            if named.parent_id:
                yield named.parent_id
        return
    for _, change in _lists(entry.delta or {}):
        for item in _items(change):
            yield item["id"]
            if parent := item.get("parent_id"):
                yield parent


def _lists(delta: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the changed lists of tasks in a delta."""
    activity = delta.get("activity", {})
    for name in (ACTIVE, ENDED):
        if isinstance(activity, dict) and name in activity:
            yield name, activity[name]
    if isinstance(activity, dict) and FAILURE in activity:
        yield FAILURE, _failures(activity[FAILURE])
    if WAITING in delta:
        yield WAITING, delta[WAITING]


def _failures(change: Any) -> list[list[Item]]:
    """Return the change of an agent's last failure as that of a list of ended tasks.

    `brief` marks it: the list of ended tasks may say more about the same end.
    """
    if isinstance(change, dict):
        if "task_id" not in change:
            return [[], []]
        new = {name: pair[1] for name, pair in change.items()}
    else:
        new = change[1] or {}
    failed = {
        "id": new.get("task_id"),
        "status": "failed",
        "error": new.get("error"),
        "brief": True,
    }
    return [[], [failed | {"ended_at": new.get("at")}] if failed["id"] else []]


def _items(change: Any) -> Iterator[Item]:
    """Yield every item of a changed list, old and new; of a changed item only its id."""
    if len(change) == 2:
        yield from change[0] or ()
        yield from change[1] or ()
        return
    _, changed, removed, added, _ = change
    yield from ({"id": _task(one)} for one, _ in changed if isinstance(one, str))
    yield from (item for _, item in (*removed, *added))


def mentions(id: str) -> tuple[bytes, bytes]:
    """Return the id as the deltas and as the bodies of entries contain it."""
    return id.encode(), encode(id)[1:-1]


def has_mention(entry: Entry, needles: tuple[bytes, bytes]) -> bool:
    """Return whether an entry may name the id with these `mentions`; it is not decoded."""
    raw = entry.packed if entry.packed is not None else entry.new or entry.old or b""
    return entry.section in ("agents", "queues") and needles[entry.packed is None] in raw


def task_changes(entry: Entry, id: str) -> Iterator[TaskChange]:
    """Yield how an entry changed the tasks with this id, and those with this parent."""
    if entry.packed is None:
        yield from _of_body(entry, id)
        return
    for name, change in _lists(entry.delta or {}):
        yield from _of_list(entry, name, change, id)


def _of_body(entry: Entry, id: str) -> Iterator[TaskChange]:
    body = decode(entry.new or entry.old or b"{}")
    activity = body.get("activity") or {}
    lists = {ACTIVE: activity.get(ACTIVE), ENDED: activity.get(ENDED), WAITING: body.get(WAITING)}
    for name, items in lists.items():
        if found := [item for item in items or () if _is_about(item, id)]:
            old, new = ([], found) if entry.new is not None else (found, [])
            yield TaskChange(entry.section, entry.key, name, old, new)


def _of_list(entry: Entry, name: str, change: Any, id: str) -> Iterator[TaskChange]:
    at = entry.section, entry.key, name
    if len(change) == 2:
        old, new = ([item for item in side or () if _is_about(item, id)] for side in change)
        if old != new:
            yield TaskChange(*at, old, new)
        return
    _, changed, removed, added, _ = change
    old, new = ([item for _, item in side if _is_about(item, id)] for side in (removed, added))
    if old or new:
        yield TaskChange(*at, old, new)
    for one, delta in changed:
        if id in (one, _task(one)):
            yield TaskChange(*at, [], [], delta)


def _task(identity: str) -> str:
    """Return the id of an ended task, whose identity in the list is `ID@TIME`."""
    return identity.rpartition("@")[0] or identity


def _is_about(item: Item, id: str) -> bool:
    return item["id"] == id or item.get("parent_id") == id
