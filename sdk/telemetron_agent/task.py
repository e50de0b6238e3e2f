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
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Optional, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

    Node = tuple[weakref.ref["Task"], Optional["Node"]]

KINDS = ("llm", "tool", "queue", "agent", "human", "auth", "other")
MAX_WAITS = 16
"""Open waits of one task that a beat lists."""
_NO_WAITS: dict[Wait, None] = {}
"""Of a task that has not waited yet; never changed."""

_current: ContextVar[Node | None] = ContextVar("telemetron_task", default=None)
"""The task entered last and those around it; those that ended meanwhile are passed over."""


class Task:
    """A task from its start to its end; `Agent.task` makes it.

    As a context manager it is the current task inside, and ends by itself: `completed`;
    `canceled` if a cancellation passes through (see `is_cancellation`); `failed` on any other
    exception, of which it keeps only the class name. The exception propagates. As a decorator
    it makes each call of a function a task. No method raises.

    A copy is the task itself. In another process, a pickled task is a null task with its id.
    """

    __slots__ = (
        "__weakref__",
        "_activity",
        "_id",
        "_loose",
        "_token",
        "_waits",
        "ended",
        "model",
        "offset",
        "parent_id",
        "partition",
        "progressed_at",
        "queue",
        "started_on",
        "step",
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
        self.parent_id = _parent_id(self._id) if parent_id is None else self._other(parent_id)
        self.model = None if model is None else label(model)
        self.queue = None if queue is None else label(queue)
        self.partition = None if partition is None else integer(partition)
        self.offset = None if offset is None else integer(offset)
        self.started_on = time.time()
        self.progressed_at: float | None = self.started_on
        self.step = step
        self._waits = _NO_WAITS
        self._loose: dict[Wait, None] | None = None
        activity.start(self)

    @property
    def id(self) -> str:
        """As given, else a UUID, made when it is first asked for: most tasks are over before."""
        if self._id is None:
            made = str(uuid.uuid4())
            with self._activity.lock:
                self._id = self._id or made
        return self._id

    @property
    def waits(self) -> tuple[Wait, ...]:
        """The open waits, oldest first."""
        waits = list(self._waits)  # in one step, unlike tuple(), in which the collector may run
        return tuple(waits)

    def progress(self, step: object = None) -> None:
        """Report that the task has moved on, and its step; None keeps the last step.

        It ends an open wait of kind `llm` that no `with` block holds.
        """
        if step is not None:
            self.step = text(step)
        self.progressed_at = time.time()
        if self._loose:
            self._end_loose("llm")
        self._activity.changed()

    def wait(self, kind: str, name: object = None, *, task: object = None) -> Wait:
        """Report what the task waits for until the wait ends: `with task.wait("llm", model):`.

        kind: llm, tool, queue, agent, human, auth; anything else is `other`. Without `with`,
        the wait ends by its `end()`, or by the next wait of its kind; `llm` also by `progress()`.
        task: the id of the task waited for, or the task itself.
        """
        known = isinstance(kind, str) and kind in KINDS
        return Wait(self, kind if known else "other", name, task)

    def end(self, status: str = "completed", error: object = None) -> None:
        """End the task: completed, failed or canceled. Of an exception the class name is told."""
        if isinstance(error, BaseException):
            error = type(error).__name__
        self.ended = True
        known = isinstance(status, str) and status in OUTCOMES
        error = None if error is None else text(error)
        self._activity.end(self, status if known else "failed", error)

    def forget(self) -> None:
        """End the task without an outcome: it will go on as another one, or never began."""
        self.ended = True
        self._activity.forget(self)

    def add(self, wait: Wait) -> None:
        """Open a wait in place of the one of its kind that no `with` block holds."""
        if self._loose is None:
            self._begin_waits()
        self._end_loose(wait.kind)
        self._waits[wait] = None  # first, as another thread removes what it finds in the other
        self._loose[wait] = None  # type: ignore[index]
        self._activity.changed()

    def hold(self, wait: Wait) -> None:
        """Keep an open wait until its own end; `with` does it."""
        if self._loose is not None:
            self._loose.pop(wait, None)
            self._waits[wait] = None  # another thread may have replaced it before it was held

    def remove(self, wait: Wait) -> None:
        """Close a wait; `Wait.end` does it."""
        if self._loose is not None:
            self._loose.pop(wait, None)
            self._waits.pop(wait, None)
        self._activity.changed()

    def _begin_waits(self) -> None:
        """Single steps on a dict need no lock, which a signal handler could find half-way."""
        with self._activity.lock:
            if self._loose is None:
                self._waits = {}
                self._loose = {}

    def _end_loose(self, kind: str) -> None:
        """Close the waits of this kind that no `with` block holds.

        Another thread may enter or leave the block at any step of this; it sets `guarded` first.
        """
        for wait in list(self._loose or ()):
            if wait.kind == kind:
                self.remove(wait)
                if wait.guarded:
                    self._waits[wait] = None
                    if not wait.guarded:
                        self._waits.pop(wait, None)

    def given(self) -> dict[str, object]:
        """What the task was started with, for others like it; a current task was not given."""
        return {
            "id": self._id,
            "parent_id": None if self.parent_id == _parent_id(self._id) else self.parent_id,
            "model": self.model,
            "queue": self.queue,
            "partition": self.partition,
            "offset": self.offset,
        }

    def _other(self, id: object) -> str | None:
        """The id of another task; None if it is this one's: whoever walks up would never end."""
        given = label(id)
        return None if given == self._id else given

    def __call__(self, function: Function) -> Function:
        """Decorate a function, as in `@agent.task("nightly")`: each call is a task like this one.

        This task itself never began.
        """
        wrapped: Function = self._activity.wrap(self, function)
        return wrapped

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
        else:
            self.end_with(kind if error is None else error)

    def end_with(self, error: BaseException | type[BaseException]) -> None:
        """End the task as an exception ends it: `canceled` or `failed`."""
        if is_cancellation(error):
            self.end("canceled")
        else:
            self.end("failed", error if isinstance(error, BaseException) else error.__name__)

    def __copy__(self) -> Task:
        return self

    def __deepcopy__(self, memo: object) -> Task:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _elsewhere, (self.id,)


class Wait:
    """An open wait of a task; ends with its `with` block, or by `end()`."""

    __slots__ = ("_task", "guarded", "kind", "name", "since", "task")

    def __init__(self, owner: Task, kind: str, name: object = None, task: object = None) -> None:
        self._task = owner
        self.kind = kind
        self.name = None if name is None else label(name)
        self.task = None if task is None else label(task.id if isinstance(task, Task) else task)
        """The id of the task waited for."""
        self.since = time.time()
        self.guarded = False
        """Whether somebody is sure to end it, so that several of a kind may be open."""
        owner.add(self)

    def end(self) -> None:
        """The task no longer waits for this."""
        self.guarded = False
        self._task.remove(self)

    def __enter__(self) -> Wait:
        self.guarded = True
        self._task.hold(self)
        return self

    def __copy__(self) -> Wait:
        return self

    def __deepcopy__(self, memo: object) -> Wait:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


class NullTask(Task):
    """What `current()` is outside of any task: takes every call, and tells nobody."""

    __slots__ = ()

    def __init__(self, id: object = None) -> None:
        super().__init__(Activity(nothing), id)
        self.progressed_at = None

    def progress(self, step: object = None) -> None:
        """Nothing."""

    def add(self, wait: Wait) -> None:
        """Nothing."""

    def hold(self, wait: Wait) -> None:
        """Nothing."""

    def forget(self) -> None:
        """Nothing."""

    def __call__(self, function: Function) -> Function:
        return function

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


def _parent_id(id: str | None) -> str | None:
    """The id of the innermost task around that has another id than `id`."""
    node = _current.get()
    while node is not None:
        task = node[0]()
        if task is not None and not task.ended and task.id != id:
            return task.id
        node = node[1]
    return None


CANCELLATIONS = {"CancelledError", "GeneratorExit", "KeyboardInterrupt", "GreenletExit"}
"""asyncio, concurrent.futures, anyio and curio each have their own CancelledError; gevent."""


def is_cancellation(error: BaseException | type[BaseException]) -> bool:
    """Whether an exception, or one of that class, means that the task was told to stop.

    The classes are recognised by name, as nothing here imports the libraries. A SystemExit
    without an error code counts too, and a group of nothing but cancellations.
    """
    kind = error if isinstance(error, type) else type(error)
    names = {base.__name__ for base in kind.__mro__}
    if not names.isdisjoint(CANCELLATIONS) or _is_of_trio(kind):
        return True
    if "SystemExit" in names:
        return getattr(error, "code", 1) in (None, 0)
    parts = getattr(error, "exceptions", None) if "BaseExceptionGroup" in names else None
    return bool(parts) and all(is_cancellation(part) for part in parts)  # type: ignore[union-attr]


def _is_of_trio(kind: type[BaseException]) -> bool:
    """trio.Cancelled: no Exception, unlike what a program may give that name."""
    return kind.__name__ == "Cancelled" and not issubclass(kind, Exception)


def _elsewhere(id: str) -> Task:
    """What a pickled task is: it has the id, as for a child's `parent_id`, and reports nothing."""
    return NullTask(id)


NULL = NullTask()
