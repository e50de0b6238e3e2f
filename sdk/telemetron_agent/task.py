"""One task of an agent, what it waits for, and which one is the current."""

from __future__ import annotations

import time
import uuid
import weakref
from contextvars import ContextVar, Token

from .activity import OUTCOMES, Activity, nothing
from .text import integer, label, text

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Optional

    Node = tuple[weakref.ref["Task"], Optional["Node"]]

KINDS = ("llm", "tool", "queue", "agent", "human", "auth", "other")
MAX_WAITS = 16
"""Open waits of one task that are told; further ones are not."""

_current: ContextVar[Node | None] = ContextVar("telemetron_task", default=None)
"""The task entered last and those around it; those that ended meanwhile are passed over."""


class Task:
    """A task from its start to its end; `Agent.task` makes it.

    As a context manager it is the current task inside, and ends by itself: `completed`;
    `canceled` when a KeyboardInterrupt, a GeneratorExit or a CancelledError passes through;
    `failed` on any other exception, of which the class name alone is told. The exception
    goes on. No method raises.
    """

    __slots__ = (
        "__weakref__",
        "_activity",
        "_id",
        "_token",
        "ended",
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
        step: str | None = None,
    ) -> None:
        self._activity = activity
        self._id = None if id is None else label(id)
        self._token: Token[Node | None] | None = None
        self.ended = False
        self.parent_id = _parent_id() if parent_id is None else label(parent_id)
        self.model = None if model is None else label(model)
        self.queue = None if queue is None else label(queue)
        self.partition = None if partition is None else integer(partition)
        self.offset = None if offset is None else integer(offset)
        self.started_on = time.time()
        self.progressed_at: float | None = None
        self.step = step
        self.waits: tuple[Wait, ...] = ()
        activity.start(self)

    @property
    def id(self) -> str:
        """As given, else a UUID, made when it is first asked for: most tasks are over before."""
        if self._id is None:
            made = str(uuid.uuid4())
            with self._activity.lock:
                self._id = self._id or made
        return self._id

    def progress(self, step: object = None) -> None:
        """Say that the task moves on, and in which step; None keeps the step told last.

        Who moves on waits for no model any more: open waits of kind `llm` are over.
        """
        if step is not None:
            self.step = text(step)
        self.progressed_at = time.time()
        if self.waits:
            with self._activity.lock:
                self.waits = tuple(wait for wait in self.waits if wait.kind != "llm")
        self._activity.changed()

    def wait(self, kind: str, name: object = None) -> Wait:
        """Say what the task waits for until the wait ends: `with task.wait("llm", model):`.

        kind: llm, tool, queue, agent, human, auth; anything else is `other`. Without `with`,
        the wait ends by its `end()`, or by the next wait of its kind.
        """
        known = isinstance(kind, str) and kind in KINDS
        return Wait(self, kind if known else "other", None if name is None else label(name))

    def end(self, status: str = "completed", error: object = None) -> None:
        """End the task: completed, failed or canceled. Of an exception the class name is told."""
        if isinstance(error, BaseException):
            error = type(error).__name__
        self.ended = True
        known = isinstance(status, str) and status in OUTCOMES
        error = None if error is None else text(error)
        self._activity.end(self, status if known else "failed", error)

    def add(self, wait: Wait) -> None:
        """Let an open wait be seen, instead of what it follows; `Task.wait` does it."""
        with self._activity.lock:
            open = self.waits
            if open:
                open = tuple(one for one in open if one.guarded or one.kind != wait.kind)
            if len(open) < MAX_WAITS:
                open = (*open, wait)
            self.waits = open
        self._activity.changed()

    def remove(self, wait: Wait) -> None:
        """Let a wait be seen no more; `Wait.end` does it."""
        with self._activity.lock:
            self.waits = tuple(one for one in self.waits if one is not wait)
        self._activity.changed()

    def enter(self) -> Token[Node | None]:
        """Make it the current task of this context; `leave(token)` ends that."""
        return _current.set((weakref.ref(self), _live_node()))

    def __enter__(self) -> Task:
        if self._token is None:  # entered twice it stays current until the first exit
            self._token = self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            leave(self._token)
            self._token = None
        if kind is None:
            self.end("completed")
        elif is_cancellation(kind):
            self.end("canceled")
        else:
            self.end("failed", kind.__name__)


class Wait:
    """An open wait of a task; ends with its `with` block, or by `end()`."""

    __slots__ = ("_task", "guarded", "kind", "name", "since")

    def __init__(self, task: Task, kind: str, name: str | None) -> None:
        self._task = task
        self.kind = kind
        self.name = name
        self.since = time.time()
        self.guarded = False
        """Whether somebody is sure to end it, so that several of a kind may be open."""
        task.add(self)

    def end(self) -> None:
        """What was waited for is there, or is waited for no more."""
        self._task.remove(self)

    def __enter__(self) -> Wait:
        self.guarded = True
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


class NullTask(Task):
    """What `current()` is outside of any task: takes every call, and tells nobody."""

    __slots__ = ()

    def progress(self, step: object = None) -> None:
        """Nothing."""

    def add(self, wait: Wait) -> None:
        """Nothing."""

    def remove(self, wait: Wait) -> None:
        """Nothing."""

    def end(self, status: str = "completed", error: object = None) -> None:
        """Nothing."""

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing."""


def current() -> Task:
    """The innermost task entered in this context that is not over; outside of all a null task."""
    node = _live_node()
    return (node[0]() if node else None) or NULL


def leave(token: Token[Node | None]) -> None:
    """End what `Task.enter` began; in another context, as where a generator is closed, nothing."""
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        return


def _live_node() -> Node | None:
    node = _current.get()
    while node is not None:
        task = node[0]()
        if task is not None and not task.ended:
            return node
        node = node[1]
    return None


def _parent_id() -> str | None:
    node = _live_node()
    parent = node[0]() if node else None
    return parent.id if parent else None


def is_cancellation(kind: type[BaseException]) -> bool:
    """By name: asyncio, concurrent.futures and anyio each have their own CancelledError."""
    names = {base.__name__ for base in kind.__mro__}
    return not names.isdisjoint({"CancelledError", "GeneratorExit", "KeyboardInterrupt"})


NULL = NullTask(Activity(nothing))
