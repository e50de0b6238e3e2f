"""One task of an agent, and what it waits for."""

from __future__ import annotations

import time
import uuid

from .activity import OUTCOMES, Activity
from .text import integer, label, text

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import
if TYPE_CHECKING:
    from types import TracebackType

KINDS = ("llm", "tool", "queue", "agent", "human", "auth", "other")
MAX_WAITS = 16
"""Open waits of one task that are told; further ones are not."""


class Task:
    """A task from its start to its end; `Agent.task` makes it.

    As a context manager it ends by itself: `completed`; `canceled` when a
    KeyboardInterrupt, a GeneratorExit or a CancelledError passes through; `failed` on any
    other exception, of which the class name alone is told. The exception goes on.
    """

    __slots__ = (
        "__weakref__",
        "_activity",
        "id",
        "model",
        "offset",
        "parent_id",
        "partition",
        "progressed_at",
        "queue",
        "started_on",
        "step",
        "waits",
    )

    def __init__(
        self,
        activity: Activity,
        id: object = None,
        *,
        parent_id: object = None,
        model: object = None,
        queue: object = None,
        partition: object = None,
        offset: object = None,
    ) -> None:
        self._activity = activity
        self.id = label(id) or str(uuid.uuid4())
        self.parent_id = label(parent_id)
        self.model = label(model)
        self.queue = label(queue)
        self.partition = integer(partition)
        self.offset = integer(offset)
        self.started_on = time.time()
        self.progressed_at: float | None = None
        self.step: str | None = None
        self.waits: tuple[Wait, ...] = ()
        activity.start(self)

    def progress(self, step: object = None) -> None:
        """Say that the task moves on, and in which step; None keeps the step told last."""
        if step is not None:
            self.step = text(step)
        self.progressed_at = time.time()
        self._activity.changed()

    def wait(self, kind: str, name: object = None) -> Wait:
        """Say what the task waits for until the wait ends: `with task.wait("llm", model):`.

        kind: llm, tool, queue, agent, human, auth; anything else is `other`.
        """
        return Wait(self, kind if kind in KINDS else "other", label(name))

    def end(self, status: str = "completed", error: object = None) -> None:
        """End the task: completed, failed or canceled. Of an exception the class name is told."""
        if isinstance(error, BaseException):
            error = type(error).__name__
        self._activity.end(self, status if status in OUTCOMES else "failed", text(error))

    def add(self, wait: Wait) -> None:
        """Let an open wait be seen; `Task.wait` does it."""
        with self._activity.lock:
            if len(self.waits) < MAX_WAITS:
                self.waits = (*self.waits, wait)
        self._activity.changed()

    def remove(self, wait: Wait) -> None:
        """Let a wait be seen no more; `Wait.end` does it."""
        with self._activity.lock:
            self.waits = tuple(one for one in self.waits if one is not wait)
        self._activity.changed()

    def __enter__(self) -> Task:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.end("completed")
        elif _is_cancellation(kind):
            self.end("canceled")
        else:
            self.end("failed", kind.__name__)


class Wait:
    """An open wait of a task; ends with its `with` block, or by `end()`."""

    __slots__ = ("_task", "kind", "name", "since")

    def __init__(self, task: Task, kind: str, name: str | None) -> None:
        self._task = task
        self.kind = kind
        self.name = name
        self.since = time.time()
        task.add(self)

    def end(self) -> None:
        """What was waited for is there, or is waited for no more."""
        self._task.remove(self)

    def __enter__(self) -> Wait:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


def _is_cancellation(kind: type[BaseException]) -> bool:
    # By name: asyncio, concurrent.futures and anyio each have their own CancelledError.
    names = {base.__name__ for base in kind.__mro__}
    return not names.isdisjoint({"CancelledError", "GeneratorExit", "KeyboardInterrupt"})
