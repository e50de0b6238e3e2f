"""One heartbeat as bytes: the full state of one instance, within the server's bounds."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Iterable

from .task import MAX_WAITS, Task, Wait
from .text import rfc3339

MAX_BYTES = 256 * 1024
"""A body must stay under this."""
MAX_TASKS = 1_000


def encode(
    head: dict[str, object], tasks: Iterable[weakref.ref[Task]], limit: int = MAX_BYTES
) -> bytes:
    """The JSON body of a beat: `head` and as many `tasks`, oldest first, as fit in under `limit`.

    An id that is active twice is told once. `head` is not empty.
    """
    start = _json(head)[:-1] + b',"tasks":['
    told: dict[str, bytes] = {}
    size = len(start) + len(b"]}")
    for ref in tasks:
        task = ref()
        if task is None or task.id in told:
            continue
        piece = _json(_task(task))
        size += len(piece) + 1
        if size >= limit:
            break
        told[task.id] = piece
        if len(told) % 20 == 0:
            time.sleep(0)  # lets the threads that work go first
    return start + b",".join(told.values()) + b"]}"


def _task(task: Task) -> dict[str, object]:
    """What is known of it; a null would only take room."""
    waits = task.waits
    told = {
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
    return {name: value for name, value in told.items() if value is not None}


def _wait(wait: Wait) -> dict[str, object]:
    told: dict[str, object] = {"kind": wait.kind, "name": wait.name, "since": rfc3339(wait.since)}
    if wait.task is not None:
        told["task"] = wait.task
    return told


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
