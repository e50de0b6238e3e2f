"""What frameworks tell by an id, at its beginning and its end: runs, calls of models and tools."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from .agent import Agent
from .task import NULL, Task, Wait, current, leave
from .text import text

MAX_RUNS = 10_000
"""Runs open at once; of more the oldest is over. A framework may forget to tell an end."""


class Run:
    """Something that began: the task it belongs to, and what its end ends."""

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
        """What a later run has in common with it, if that goes on where it was interrupted."""
        self.own = own
        """Whether the task ends with it."""
        self.token = token
        self.wait = wait
        self.parts: dict[object, None] = {}
        """The open runs within it, which end with it at the latest."""
        self.interrupted = False
        """Whether something within it asked for a human."""


class Runs:
    """Open runs by their id, of any threads.

    Without a lock, as single steps on a dict are safe: after a fork, or where the garbage
    collector closes a run in the midst of another's beginning, a lock would be held for ever.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._open: dict[object, Run] = {}
        self._paused: dict[object, Run] = {}

    def begin(
        self, id: object, parent: object = None, step: object = None, thread: object = None
    ) -> Task:
        """A run: a step of the task its `parent` belongs to, or of the current one, else a task.

        If a run of that `thread` waits for a human, its task goes on.
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
        """A call of a model or a tool: its task waits for it.

        A bare one is a task by itself, which True says; not the current one: nothing runs in it.
        """
        task = self.task(parent)
        bare = task is NULL
        if bare:
            task = self._agent.task(model=name if kind == "llm" else None)
        self._add(id, Run(task, parent=parent, own=bare, wait=task.wait(kind, name).__enter__()))
        return bare

    def end(self, id: object, error: BaseException | None = None) -> None:
        """The end of either and of its parts; an error of a task's own run is the task's.

        The task of a run that was interrupted waits for a human.
        """
        run = self._pop(id, error)
        if run is None:
            return
        if run.interrupted and run.thread is not None and error is None:
            self._pause(run)
        else:
            self._end(run, error)

    def interrupt(self, id: object) -> None:
        """The end of a run that asks for a human, and so does each that it is a part of."""
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
        """Keep a run until the next one of its thread begins."""
        if run.token is not None:
            leave(run.token)
        run.wait = run.task.wait("human")
        self._paused[run.thread] = run
        if len(self._paused) > MAX_RUNS:
            self._end(self._paused.pop(next(iter(self._paused))), KeyboardInterrupt())

    def _pop(self, id: object, error: BaseException | None) -> Run | None:
        """Take a run out of its parent, after the parts of it that are still open ended."""
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
        """The task of an open run, else the current one, else the null task."""
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
    """Open calls of frameworks that give them no id: waits by a group that ends with its owner."""

    def __init__(self) -> None:
        self._open: dict[Any, list[tuple[object, Wait]]] = {}

    def begin(self, group: object, key: object, wait: Wait) -> None:
        """Hold the wait of a call until its end, or its group's."""
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
        """End the calls of a group: as of a tool that failed, whose end the framework hides."""
        for _, wait in self._open.pop(group, ()):
            wait.end()

    @property
    def groups(self) -> list[Any]:
        """The groups that have had calls, and have not ended."""
        return list(self._open)


def end_loose(task: Task, kept: tuple[Wait, ...] = ()) -> None:
    """End waits that no `with` block holds, but not those `kept`: the program's own."""
    for wait in task.waits:
        if not wait.guarded and wait not in kept:
            wait.end()


def here() -> tuple[int, int]:
    """Which of the program's flows this is: thread and asyncio task."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs
        task = None
    return threading.get_ident(), id(task)
