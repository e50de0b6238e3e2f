"""Runs of frameworks and their calls of models and tools, which begin and end with an id."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from .agent import Agent
from .task import NULL, Task, Wait, current, leave
from .text import text

MAX_RUNS = 10_000
"""The most open runs; then the oldest is ended. A framework may not report every end."""


class Run:
    """An open run: its task, and the wait or task that its end ends."""

    __slots__ = ("interrupted", "own", "parent", "parts", "task", "thread", "token", "wait")

    def __init__(
        self,
        task: Task,
        *,
        parent: object = None,
        own: bool = False,
        token: Any = None,
        wait: Wait | None = None,
        thread: object = None,
    ) -> None:
        self.task = task
        self.parent = parent
        self.thread = thread
        """The framework's thread: a later run of the same thread continues an interrupted one."""
        self.own = own
        """Whether the task ends with the run."""
        self.token = token
        self.wait = wait
        self.parts: dict[object, None] = {}
        """The open runs inside it, which end with it at the latest."""
        self.interrupted = False
        """Whether a run inside it waits for a human."""


class Runs:
    """Open runs by their id, of any threads.

    There is no lock, because single operations on a dict are atomic: a lock could be held for ever
    after a fork, or if the garbage collector ends a run while another one begins.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._open: dict[object, Run] = {}
        self._paused: dict[object, Run] = {}

    def begin(
        self, id: object, parent: object = None, step: object = None, thread: object = None
    ) -> Task:
        """Begin a run: a step of its parent's task or of the current task, or else a new task.

        If a run of that `thread` waits for a human, continue its task.
        """
        paused = self._paused.pop(thread, None)
        if paused is not None and not paused.task.ended:
            return self._resume(id, paused)
        task = self.task(parent)
        if task is NULL:
            task = self._agent.task()
            task.step = text(step)
            self._add(id, Run(task, own=True, token=task.enter(), thread=thread))
        else:
            self._add(id, Run(task, parent=parent, thread=thread))
            if step is not None:
                task.progress(step)
        return task

    def wait(self, id: object, parent: object, kind: str, name: object) -> bool:
        """Begin a call of a model or a tool, for which its task waits.

        Return True if the call is outside of any task and becomes one, but not the current task.
        """
        task = self.task(parent)
        bare = task is NULL
        if bare:
            task = self._agent.task(model=name if kind == "llm" else None)
        self._add(id, Run(task, parent=parent, own=bare, wait=task.wait(kind, name).__enter__()))
        return bare

    def end(self, id: object, error: BaseException | None = None) -> None:
        """End a run or a call and its parts; an error fails a task that belongs to the run.

        The task of an interrupted run waits for a human.
        """
        run = self._pop(id, error)
        if run is None:
            return
        if run.interrupted and run.thread is not None and error is None:
            self._pause(run)
        else:
            self._end(run, error)

    def interrupt(self, id: object) -> None:
        """End a run that waits for a human; its outer runs then wait too."""
        parent: object = id
        while (run := self._open.get(parent)) is not None:
            run.interrupted = True
            parent = run.parent
        self.end(id)

    def _resume(self, id: object, run: Run) -> Task:
        if run.wait is not None:
            run.wait.end()
        run.task.progress()
        token = run.task.enter() if run.own else None
        self._add(id, Run(run.task, own=run.own, token=token, thread=run.thread))
        return run.task

    def _pause(self, run: Run) -> None:
        """Keep a run until the next run of its thread begins."""
        if run.token is not None:
            leave(run.token)
        run.wait = run.task.wait("human")
        self._paused[run.thread] = run
        if len(self._paused) > MAX_RUNS:
            self._end(self._paused.pop(next(iter(self._paused))), KeyboardInterrupt())

    def _pop(self, id: object, error: BaseException | None) -> Run | None:
        """Remove a run from its parent, and end its open parts."""
        run = self._open.pop(id, None)
        if run is None:
            return None
        around = self._open.get(run.parent)
        if around is not None:
            around.parts.pop(id, None)
        for part in list(run.parts):
            self.end(part, error)
        return run

    def task(self, id: object) -> Task:
        """Return the task of an open run, else the current task, else the null task."""
        run = self._open.get(id) if id is not None else None
        return run.task if run and not run.task.ended else current()

    def _add(self, id: object, run: Run) -> None:
        self._open[id] = run
        around = self._open.get(run.parent)
        if around is not None:
            around.parts[id] = None
        if len(self._open) > MAX_RUNS:
            self.end(next(iter(self._open)), KeyboardInterrupt())

    def _end(self, run: Run, error: BaseException | None) -> None:
        if run.wait:
            run.wait.end()
            run.task.progress()
        if run.token is not None:
            leave(run.token)
        if not run.own:
            return
        if error is None:
            run.task.end()
        else:
            run.task.end_with(error)


class Calls:
    """Open calls of frameworks that give them no id: waits in groups that end with their run."""

    def __init__(self) -> None:
        self._open: dict[Any, list[tuple[object, Wait]]] = {}

    def begin(self, group: object, key: object, wait: Wait) -> None:
        """Hold the wait of a call until it ends, or its group."""
        self._open.setdefault(group, []).append((key, wait.__enter__()))
        if len(self._open) > MAX_RUNS:
            self.end_all(next(iter(self._open)))

    def end(self, group: object, key: object) -> None:
        """End the oldest call of that key."""
        calls = self._open.get(group, [])
        for call in list(calls):
            if call[0] == key:
                calls.remove(call)
                call[1].end()
                return

    def end_all(self, group: object) -> None:
        """End the calls of a group; some frameworks do not report the end of a failed tool."""
        for _, wait in self._open.pop(group, ()):
            wait.end()

    @property
    def groups(self) -> list[Any]:
        """The groups that have had calls and have not ended."""
        return list(self._open)


def end_loose(task: Task, kept: tuple[Wait, ...] = ()) -> None:
    """End waits that no `with` block holds, except `kept`: the program's own."""
    for wait in task.waits:
        if not wait.guarded and wait not in kept:
            wait.end()


def here() -> tuple[int, int]:
    """Return the thread and the asyncio task in which the program runs now."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs
        task = None
    return threading.get_ident(), id(task)
