"""Encodes one heartbeat: the full state of one instance, within the server's limits."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Iterable

from .task import MAX_WAITS, Task, Wait
from .text import rfc3339

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import
if TYPE_CHECKING:
    from .activity import End, Facts

MAX_BYTES = 256 * 1024
"""A body must be smaller than this."""
MAX_TASKS = 1_000


def encode(
    head: dict[str, object],
    tasks: Iterable[weakref.ref[Task]],
    limit: int = MAX_BYTES,
    ended: bytes = b"",
) -> bytes:
    """Return a beat's JSON: `head`, and as many `tasks`, oldest first, as fit in `limit` bytes.

    Of two tasks with the same id only the older is listed. `head` must not be empty. `ended` is
    the JSON of that field, or empty.
    """
    start = _json(head)[:-1] + (b',"ended":' + ended if ended else b"") + b',"tasks":['
    listed: dict[str, bytes] = {}
    size = len(start) + len(b"]}")
    for ref in tasks:
        task = ref()
        if task is None or task.id in listed:
            continue
        piece = _json(_task(task))
        size += len(piece) + 1
        if size >= limit:
            break
        listed[task.id] = piece
        if len(listed) % 20 == 0:
            time.sleep(0)  # let working threads run first
    return start + b",".join(listed.values()) + b"]}"


def encode_ends(ends: list[End], limit: int = MAX_BYTES) -> tuple[bytes, list[End]]:
    """Return the JSON of the field `ended`, and the ends in it.

    It has as many ends, oldest first, as fit in a quarter of a beat of `limit` bytes, and at least
    one; empty if there are none.
    """
    while ends:
        body = _json([_end(*end) for end in ends])
        if len(body) <= limit // 4 or len(ends) == 1:
            return body, ends
        ends = ends[: len(ends) // 2]
    return b"", ends


def _end(
    number: int, task: Task | Facts, status: str, error: str | None, at: float
) -> dict[str, object]:
    """Return the fields of an end without nulls."""
    fields = {
        "id": task.id,
        "parent_id": task.parent_id,
        "status": status,
        "error": error,
        "started_on": rfc3339(task.started_on),
        "ended_at": rfc3339(at),
        "queue": task.queue,
        "partition": task.partition,
        "offset": task.offset,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _task(task: Task) -> dict[str, object]:
    """Return the task's fields without nulls, which would only take space."""
    waits = task.waits
    fields = {
        "id": task.id,
        "parent_id": task.parent_id,
        "status": "waiting" if waits else "running",
        "started_on": rfc3339(task.started_on),
        "progressed_at": rfc3339(task.progressed_at),
        "step": task.step,
        "waits": [_wait(wait) for wait in waits[:MAX_WAITS]] or None,
        "wait_count": len(waits) if len(waits) > MAX_WAITS else None,
        "queue": task.queue,
        "partition": task.partition,
        "offset": task.offset,
        "model": task.model,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _wait(wait: Wait) -> dict[str, object]:
    fields: dict[str, object] = {"kind": wait.kind, "name": wait.name, "since": rfc3339(wait.since)}
    if wait.task is not None:
        fields["task"] = wait.task
    return fields


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
