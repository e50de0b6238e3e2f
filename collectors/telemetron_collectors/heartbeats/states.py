"""The states of a task, by their names in A2A."""

from functools import lru_cache

from telemetron_collectors.heartbeats.beat import BeatTask

# The active states: the status in the document, and the kind of wait that the state implies.
STATES = {
    "submitted": ("waiting", None),
    "working": ("running", None),
    "input-required": ("waiting", "human"),
    "auth-required": ("waiting", "auth"),
    "running": ("running", None),
    "waiting": ("waiting", None),
}
# The final states, and the outcome in the document.
OUTCOMES = {
    "completed": "completed",
    "canceled": "canceled",
    "failed": "failed",
    "rejected": "failed",
}
SPELLINGS = {name.replace("-", ""): name for name in (*STATES, *OUTCOMES)} | {
    "cancelled": "canceled"
}


@lru_cache(maxsize=256)
def state_of(status: str) -> str:
    """Return the state by its name in A2A 0.x, for any spelling of it.

    A2A 1.0 writes `TASK_STATE_INPUT_REQUIRED`, an enum of Python `TaskState.input_required`.
    """
    letters = "".join(filter(str.isalpha, status)).lower().replace("taskstate", "")
    return SPELLINGS.get(letters, letters)


def is_over(task: BeatTask) -> bool:
    """Return whether the task has ended."""
    return bool(task.status) and state_of(task.status) in OUTCOMES


def outcome(status: str | None) -> str | None:
    """Return the outcome of a task that ended; None if it is not known."""
    return OUTCOMES.get(state_of(status or ""))
