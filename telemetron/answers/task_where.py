"""The one word for where a task is: `active`, `lost`, `waiting`, `ended` or `unknown`."""

from collections.abc import Iterator, Sequence
from typing import Any

from telemetron.answers import task_doubts
from telemetron.answers.task_sightings import Found, Pending, Run, Sightings, record_of
from telemetron.answers.task_steps import Past, Step
from telemetron.search import QueueRecord, TaskSighting

ENDED = ("ended", "left")


def where(
    active: Sequence[Run], lost: Sequence[Run], found: Found, sightings: Sightings, past: Past
) -> str:
    """Return where a task is now, by its sightings and its past."""
    if active:
        return "active"
    last = past.last
    if lost and not _is_taken_over(lost, sightings, last):
        return "lost"
    if any(not has_ended(one, found, past) for one in found.pending):
        return "waiting"
    if last is not None and last.event == "lost":
        return "lost"
    if found.outcomes or (last is not None and last.event == "ended"):
        return "ended"
    if last is not None and last.event == "left" and not _is_cut(sightings, last.key):
        return "ended"
    return "unknown"


def _is_taken_over(lost: Sequence[Run], sightings: Sightings, last: Step | None) -> bool:
    """Return whether another run has begun since and has ended."""
    if last is None or last.event not in ENDED:
        return False
    runs = [(run.agent.key, run.task.instance) for run in lost]
    if (last.key, last.item.get("instance")) in runs:
        return False
    return last.event == "ended" or not _is_cut(sightings, last.key)


def _is_cut(sightings: Sightings, key: str) -> bool:
    fragment = sightings.snapshot.sections["agents"].rope.get(key)
    return fragment is not None and task_doubts.cut(fragment.entity) > 0


def has_ended(one: Pending | TaskSighting, found: Found, past: Past) -> bool:
    """Return whether a pending record is of a run that has ended, and only is not committed yet.

    If the record of the run is not known, its end must be later than the record's submission.
    """
    queue = one.queue.name if isinstance(one, Pending) else one.queue
    place = one.task if isinstance(one, Pending) else one
    record = (queue, place.partition, place.offset)
    if record in (fates := past.fates()):
        return fates[record] in ENDED
    submitted_at = one.task.submitted_at if one.task else None
    for ended, at in _ends(found, past):
        if ended is None and at and (submitted_at is None or submitted_at <= at):
            return True
        if ended == record:
            return True
    return False


def _ends(found: Found, past: Past) -> Iterator[tuple[QueueRecord | None, Any]]:
    """Yield the record and the time of each end; of the past only the last end counts."""
    last = past.last
    if last is not None and last.event not in ENDED:
        return
    for one in found.outcomes:
        task = one.task
        yield record_of(task), getattr(task, "ended_at", None) or getattr(task, "at", None)
    if last is not None:
        yield last.record, last.at
