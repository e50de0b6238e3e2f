"""What the `Agent`s of one process that are the same instance share: their tasks and reporter."""

from __future__ import annotations

import atexit
import os
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from mmap import mmap
from os import getpid
from typing import Any, NamedTuple
from weakref import WeakSet

from .activity import Activity, nothing
from .task import Task
from .text import LIST, rfc3339

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import
if TYPE_CHECKING:
    from .agent import Agent
    from .endpoint import Endpoint
    from .once import Once
    from .reporter import Reporter, State

EXIT_TIMEOUT = 1.0
"""Seconds that all goodbyes of a process may take together."""


class Key(NamedTuple):
    """What makes two agents of a process the same instance; `instance` as it was given."""

    name: str
    namespace: str | None
    place: str | None
    instance: str | None


class Life:
    """An instance of an agent from its start to its goodbye; a fork begins another.

    facts: what each beat has besides the life's own. host: what a child's instance begins with.
    given: the arguments of its first agent, for other processes.
    pickled: whether another process may be the given instance, so that this one needs its own.
    """

    def __init__(
        self,
        key: Key,
        endpoint: Endpoint | None,
        *,
        host: str,
        facts: dict[str, Any],
        token: Callable[[], str | None],
        given: dict[str, Any],
        pickled: bool = False,
    ) -> None:
        self.holders: WeakSet[Agent] = WeakSet()
        """The agents that are not closed."""
        self.key = key
        self._endpoint = endpoint
        self._host = host
        self._facts = facts
        self._token = token
        self._given = given
        instance = None if pickled else key.instance
        self._begin(instance or self._process(), _farewells.pop(key, None))

    def join(self, holder: Agent, facts: dict[str, Any]) -> None:
        """One more agent is this instance: its models and queues count too."""
        self.holders.add(holder)
        for name, value in facts.items():
            known = self._facts.get(name)
            if isinstance(known, list):
                self._facts[name] = list(dict.fromkeys([*known, *value]))[:LIST]
            elif known is None:
                self._facts[name] = value

    def start(self) -> None:
        """Report from now on, not from the first task on."""
        if self.reporter:
            self.reporter.start()

    def begin_task(self, id: object = None, **facts: Any) -> Task:
        """Start a task."""
        if getpid() != self._pid:
            self.restart()
        reporter = self.reporter
        task = Task(self.activity, id, **facts)
        if reporter and not reporter.started:
            reporter.start()  # after a fork it runs from the first task on
        return task

    def flush(self, timeout: float) -> bool:
        """Beat now; whether the server accepted it in time."""
        if getpid() != self._pid:
            self.restart()
        return self.reporter.flush(timeout) if self.reporter else False

    def leave(self, holder: Agent, timeout: float) -> None:
        """Close one of its agents; the last one's close says goodbye."""
        self.holders.discard(holder)
        if not self.holders:
            self.close(timeout)

    def close(self, timeout: float) -> None:
        """Say goodbye, and wait for that `timeout` seconds at most."""
        if _lives.get(self.key) is self:
            _lives.pop(self.key, None)
        if self.reporter is None or getpid() != self._pid:
            return
        if self.reporter.last:
            _farewells[self.key] = self.reporter.last
        self.reporter.close(timeout)
        for key, done in list(_farewells.items()):
            if done.happened:
                _farewells.pop(key, None)

    def restart(self) -> None:
        """In a forked process: an instance of its own, with no tasks."""
        self._pid = getpid()
        self.activity.detach()
        if _lives.get(self.key) is not self:
            return  # closed before the fork
        if self._forked:
            self._forked[0] = 1
        self._begin(self._process())

    def rest(self) -> None:
        """A process that only forks does not work itself: goodbye until its first task."""
        if self.reporter and self.reporter.started and not self.activity.used:
            self.reporter.close(0)
            self._begin(self.instance, self.reporter.done)

    def wrap(self, task: Task, function: Any) -> Any:
        """Make each call of `function` a task like `task`, which itself never began."""
        from .function import wrap

        task.forget()
        return wrap(partial(self.begin_task, **task.given()), function)

    def __copy__(self) -> Life:
        return self

    def __deepcopy__(self, memo: object) -> Life:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (self.key.name, self._given)

    def _process(self) -> str:
        return f"{self._host[:240]}-{os.getpid()}"

    def _begin(self, instance: str, after: Once | None = None) -> None:
        """What a reporter tells is its own life's, even while the next one begins."""
        self._pid = getpid()
        self.instance = instance
        self.boot_id = uuid.uuid4().hex
        self.activity = Activity(nothing, self.wrap)
        head = {
            "instance": instance,
            "boot_id": self.boot_id,
            "started_at": rfc3339(time.time()),
        }
        self._forked = _shared_byte() if self._endpoint else None
        state = partial(self._state, head, self.activity, self._forked)
        self.reporter = self._new_reporter(state, after)
        if self.reporter:
            self.activity.changed = self.reporter.change
            _say_goodbye_in_multiprocessing()

    def _state(
        self, head: dict[str, str | None], activity: Activity, forked: mmap | None, most: int
    ) -> tuple[dict[str, object], Any]:
        """A beat's head, and the `most` oldest tasks."""
        if forked and forked[0] and forked is self._forked:
            self.rest()  # where the fork was outside of Python, nobody else tells
        tasks, told = activity.snapshot(most)
        return {**head, **self._facts, **told}, tasks

    def _new_reporter(self, state: State, after: Once | None) -> Reporter | None:
        if self._endpoint is None:
            return None
        from .reporter import Reporter

        return Reporter(
            self._endpoint,
            name=self.key.name,
            instance=self.instance,
            namespace=self.key.namespace,
            interval=self._facts["interval_seconds"],
            token=self._token,
            state=state,
            after=after,
        )


def _load(name: str, given: dict[str, Any]) -> Life:
    """A pickled life, as of a decorated function: that of the process's own agent."""
    from .agent import load

    return load(name, given)._life


def _shared_byte() -> mmap | None:
    """A byte that a forked process can set, for its parent to see."""
    try:
        return mmap(-1, 1)
    except OSError:  # no memory, or a sandbox
        return None


_lives: dict[Key, Life] = {}
"""What the end of the process closes, and a fork restarts."""
_farewells: dict[Key, Once] = {}
"""Goodbyes that the next life of the same instance waits for."""


def find(key: Key) -> Life | None:
    """The life of that instance in this process."""
    return _lives.get(key)


def share(life: Life) -> Life:
    """The life of its instance: `life`, unless another thread was faster."""
    return _lives.setdefault(life.key, life)


def _at_exit() -> None:
    """All goodbyes side by side, in one second in all."""
    until = time.monotonic() + EXIT_TIMEOUT
    lives = list(_lives.values())
    for life in lives:
        life.close(0)
    for life in lives:
        life.close(max(0.0, until - time.monotonic()))


def _after_fork_in_child() -> None:
    _farewells.clear()
    for life in list(_lives.values()):
        life.restart()


def _after_fork_in_parent() -> None:
    for life in list(_lives.values()):
        life.rest()


_registered: set[str] = set()


def _say_goodbye_in_multiprocessing() -> None:
    """Its children end without running what atexit holds; they run their finalizers instead."""
    for name in ("multiprocessing.util", "multiprocess.util", "billiard.util"):
        util = sys.modules.get(name)
        if util is not None and name not in _registered:
            _registered.add(name)
            util.register_after_fork(_at_exit, partial(_finalize, util))
            _finalize(util)


def _finalize(util: Any, *callback: object) -> None:
    util.Finalize(None, _at_exit, exitpriority=-1)


atexit.register(_at_exit)
getattr(os, "register_at_fork", dict)(  # not on Windows
    after_in_child=_after_fork_in_child, after_in_parent=_after_fork_in_parent
)
