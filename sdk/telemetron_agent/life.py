"""The tasks and the reporter that the `Agent`s of one instance in a process share."""

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
    """Agents of a process with the same key are one instance; `instance` is the argument."""

    name: str
    namespace: str | None
    place: str | None
    instance: str | None


class Life:
    """An instance of an agent from its start to its goodbye; a fork begins another life.

    facts: fields of each beat from the agent's arguments. host: how the id of a child begins.
    given: the arguments of the first agent, for other processes.
    pickled: whether another process may have the given instance id, so that this needs another.
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
        """Add an agent to this instance, with its models and queues."""
        self.holders.add(holder)
        for name, value in facts.items():
            known = self._facts.get(name)
            if isinstance(known, list):
                self._facts[name] = list(dict.fromkeys([*known, *value]))[:LIST]
            elif known is None:
                self._facts[name] = value

    def start(self) -> None:
        """Start to report now, not with the first task."""
        if self.reporter:
            self.reporter.start()

    def begin_task(self, id: object = None, **facts: Any) -> Task:
        """Start a task."""
        if getpid() != self._pid:
            self.restart()
        reporter = self.reporter
        task = Task(self.activity, id, **facts)
        if reporter and not reporter.started:
            reporter.start()  # after a fork it starts with the first task
        return task

    def flush(self, timeout: float) -> bool:
        """Send a beat now; return whether the server accepted it in time."""
        if getpid() != self._pid:
            self.restart()
        return self.reporter.flush(timeout) if self.reporter else False

    def leave(self, holder: Agent, timeout: float) -> None:
        """Close one of its agents; the last of them sends the goodbye."""
        self.holders.discard(holder)
        if not self.holders:
            self.close(timeout)

    def close(self, timeout: float) -> None:
        """Send the goodbye; wait at most `timeout` seconds for it."""
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
        """Begin another instance in a forked process, without tasks."""
        self._pid = getpid()
        self.activity.detach()
        if _lives.get(self.key) is not self:
            return  # closed before the fork
        if self._forked:
            self._forked[0] = 1
        self._begin(self._process())

    def rest(self) -> None:
        """Send a goodbye until the first task, because a parent that only forks does no work."""
        if self.reporter and self.reporter.started and not self.activity.used:
            self.reporter.close(0)
            self._begin(self.instance, self.reporter.done)

    def wrap(self, task: Task, function: Any) -> Any:
        """Make each call of `function` a task like `task`, which is forgotten."""
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
        """Begin a life; an old reporter keeps the state of its own life."""
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
        """Return a beat's head and the `most` oldest tasks."""
        if forked and forked[0] and forked is self._forked:
            self.rest()  # a fork outside of Python runs no hook in the parent
        tasks, fields = activity.snapshot(most)
        return {**head, **self._facts, **fields}, tasks

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
            ends=self.activity.ends,
            accept=self.activity.accept,
            after=after,
        )


def _load(name: str, given: dict[str, Any]) -> Life:
    """Return the life of this process's agent for a pickled life, as of a decorated function."""
    from .agent import load

    return load(name, given)._life


def _shared_byte() -> mmap | None:
    """Return a byte that a forked process can set and its parent can read."""
    try:
        return mmap(-1, 1)
    except OSError:  # no memory, or a sandbox
        return None


_lives: dict[Key, Life] = {}
"""The lives that the end of the process closes and a fork restarts."""
_farewells: dict[Key, Once] = {}
"""Goodbyes for which the next life of the same instance waits."""


def find(key: Key) -> Life | None:
    """Return the life of that instance in this process, if there is one."""
    return _lives.get(key)


def share(life: Life) -> Life:
    """Register `life`; return another thread's life of the same instance if that came first."""
    return _lives.setdefault(life.key, life)


def _at_exit() -> None:
    """Send all goodbyes in parallel, within one second in all."""
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
    """Register a finalizer: children of multiprocessing run these, but no atexit functions."""
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
