"""One task of an agent, its waits, and the current task."""

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
"""The most open waits of one task that a beat lists."""
_NO_WAITS: dict[Wait, None] = {}
"""The waits of a task that has not waited yet; never changed."""

_current: ContextVar[Node | None] = ContextVar("telemetron_task", default=None)
"""The task entered last and its outer tasks; ended ones are skipped."""


class Task:
    """A task from its start to its end; `Agent.task` makes it.

    A `with` block makes it the current task and ends it: as `completed`, as `canceled` on a
    cancellation (see `is_cancellation`), or as `failed` on any other exception, of which it keeps
    only the class name. The exception propagates. As a decorator it makes each call of a function
    a task. No method raises.

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
        """The given id, or a UUID, made only on demand: most tasks end before a beat needs it."""
        if self._id is None:
            made = str(uuid.uuid4())
            with self._activity.lock:
                self._id = self._id or made
                self._activity.name(self)
        return self._id

    @property
    def given_id(self) -> str | None:
        """The id, or None if no one needed it so far."""
        return self._id

    @property
    def waits(self) -> tuple[Wait, ...]:
        """The open waits, oldest first."""
        waits = list(
            self._waits
        )  # atomic, unlike tuple(), during which the garbage collector may run
        return tuple(waits)

    def progress(self, step: object = None) -> None:
        """Report progress and a new step; None keeps the last step.

        This ends an open wait of kind `llm` that no `with` block holds.
        """
        if step is not None:
            self.step = text(step)
        self.progressed_at = time.time()
        if self._loose:
            self._end_loose("llm")
        self._activity.changed()

    def wait(self, kind: str, name: object = None, *, task: object = None) -> Wait:
        """Report a wait of the task until it ends: `with task.wait("llm", model):`.

        kind: llm, tool, queue, agent, human, auth; anything else is `other`. Without `with`,
        its `end()` or the next wait of its kind ends it; for `llm` also `progress()`.
        task: the id of the task that it waits for, or that task itself.
        """
        known = isinstance(kind, str) and kind in KINDS
        return Wait(self, kind if known else "other", name, task)

    def end(self, status: str = "completed", error: object = None) -> None:
        """End the task: completed, failed or canceled. Of an exception only the class is sent."""
        if isinstance(error, BaseException):
            error = type(error).__name__
        self.ended = True
        known = isinstance(status, str) and status in OUTCOMES
        error = None if error is None else text(error)
        self._activity.end(self, status if known else "failed", error)

    def forget(self) -> None:
        """End the task without an outcome: another task continues it, or it never began."""
        self.ended = True
        self._activity.forget(self)

    def add(self, wait: Wait) -> None:
        """Open a wait; it ends an open wait of its kind that no `with` block holds."""
        if self._loose is None:
            self._begin_waits()
        self._end_loose(wait.kind)
        self._waits[wait] = None  # first, as another thread removes waits that it finds in _loose
        self._loose[wait] = None  # type: ignore[index]
        self._activity.changed()

    def hold(self, wait: Wait) -> None:
        """Keep an open wait until its own end; a `with` block calls this."""
        if self._loose is not None:
            self._loose.pop(wait, None)
            self._waits[wait] = None  # another thread may have ended it before it was held

    def remove(self, wait: Wait) -> None:
        """Close a wait; `Wait.end` calls this."""
        if self._loose is not None:
            self._loose.pop(wait, None)
            self._waits.pop(wait, None)
        self._activity.changed()

    def _begin_waits(self) -> None:
        """Create the dicts; later operations on them are atomic and need no lock."""
        with self._activity.lock:
            if self._loose is None:
                self._waits = {}
                self._loose = {}

    def _end_loose(self, kind: str) -> None:
        """Close the waits of this kind that no `with` block holds.

        Another thread may enter or leave the block at any time; it sets `guarded` first.
        """
        for wait in list(self._loose or ()):
            if wait.kind == kind:
                self.remove(wait)
                if wait.guarded:
                    self._waits[wait] = None
                    if not wait.guarded:
                        self._waits.pop(wait, None)

    def given(self) -> dict[str, object]:
        """Return the arguments of the task, for others like it; without an implicit parent."""
        return {
            "id": self._id,
            "parent_id": None if self.parent_id == _parent_id(self._id) else self.parent_id,
            "model": self.model,
            "queue": self.queue,
            "partition": self.partition,
            "offset": self.offset,
        }

    def _other(self, id: object) -> str | None:
        """Return another task's id; None for its own, as a loop over parents would never end."""
        given = label(id)
        return None if given == self._id else given

    def __call__(self, function: Function) -> Function:
        """Decorate a function, as in `@agent.task("nightly")`: each call is a task like this one.

        This task itself is forgotten.
        """
        wrapped: Function = self._activity.wrap(self, function)
        return wrapped

    def enter(self) -> Token[Node | None]:
        """Make it the current task of this context until `leave(token)`."""
        return _current.set((weakref.ref(self), _live_node()))

    def __enter__(self) -> Task:
        if self._token is None:  # if entered twice, it stays current until the first exit
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
        """End the task because of an exception, as `canceled` or `failed`."""
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
        """The id of the task that it waits for."""
        self.since = time.time()
        self.guarded = False
        """Whether a `with` block will end it, so that several of a kind may be open."""
        owner.add(self)

    def end(self) -> None:
        """End the wait."""
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
    """The task outside of any task, from `current()`: accepts every call, reports nothing."""

    __slots__ = ()

    def __init__(self, id: object = None) -> None:
        super().__init__(Activity(nothing), id)
        self.progressed_at = None

    def progress(self, step: object = None) -> None:
        """Do nothing."""

    def add(self, wait: Wait) -> None:
        """Do nothing."""

    def hold(self, wait: Wait) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Do nothing."""

    def __call__(self, function: Function) -> Function:
        return function

    def remove(self, wait: Wait) -> None:
        """Do nothing."""

    def end(self, status: str = "completed", error: object = None) -> None:
        """Do nothing."""

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing."""


def current() -> Task:
    """Return the innermost task of this context that has not ended, or the null task."""
    node = _live_node()
    return (node[0]() if node else None) or NULL


def leave(token: Token[Node | None]) -> None:
    """Undo `Task.enter`; do nothing in another context, in which a generator may be closed."""
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
    """Return the id of the innermost current task with another id than `id`."""
    node = _current.get()
    while node is not None:
        task = node[0]()
        if task is not None and not task.ended and task.id != id:
            return task.id
        node = node[1]
    return None


CANCELLATIONS = {"CancelledError", "GeneratorExit", "KeyboardInterrupt", "GreenletExit"}
"""Classes of asyncio, concurrent.futures, anyio, curio and gevent, and of Python itself."""


def is_cancellation(error: BaseException | type[BaseException]) -> bool:
    """Return whether an exception, or one of that class, is a cancellation.

    Classes are recognised by name, as the SDK does not import the libraries. A SystemExit without
    an error code counts too, and a group of only cancellations.
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
    """Return whether it is trio.Cancelled, which is no Exception, unlike a program's own class."""
    return kind.__name__ == "Cancelled" and not issubclass(kind, Exception)


def _elsewhere(id: str) -> Task:
    """Return a pickled task: it has the id, for a child's `parent_id`, and reports nothing."""
    return NullTask(id)


NULL = NullTask()
