"""What frameworks tell by an id, at its beginning and its end: runs, calls of models and tools."""

from __future__ import annotations

from typing import Any, NamedTuple

from .agent import Agent
from .task import NULL, Task, Wait, current, is_cancellation, leave
from .text import label, text

MAX_RUNS = 10_000
"""Runs open at once; of more the oldest is over. A framework may forget to tell an end."""


class Run(NamedTuple):
    """Something that began: the task it belongs to, and what its end ends."""

    task: Task
    own: bool = False
    """Whether the task ends with it."""
    token: Any = None
    wait: Wait | None = None
    kept: tuple[Wait, ...] = ()
    """What the task waited for before: the program's own."""


class Runs:
    """Open runs by their id, of any threads.

    Without a lock, as single steps on a dict are safe: after a fork, or where the garbage
    collector closes a run in the midst of another's beginning, a lock would be held for ever.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._open: dict[object, Run] = {}

    def begin(self, id: object, parent: object = None, step: object = None) -> Task:
        """A run: a step of the task its `parent` belongs to, or of the current one, else a task."""
        task = self.task(parent)
        if task is NULL:
            task = self._agent.task()
            task.step = text(step)
            self._add(id, Run(task, own=True, token=task.enter()))
        else:
            self._add(id, Run(task, kept=task.waits))
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
        self._add(id, Run(task, own=bare, wait=task.wait(kind, name).__enter__()))
        return bare

    def end(self, id: object, error: BaseException | None = None) -> None:
        """The end of either; an error of a task's own run is the task's."""
        run = self._open.pop(id, None)
        if run is not None:
            self._end(run, error)

    def task(self, id: object) -> Task:
        """The task of an open run, else the current one, else the null task."""
        run = self._open.get(id) if id is not None else None
        return run.task if run and not run.task.ended else current()

    def close_waits(self, id: object) -> None:
        """End the waits that began in an open run, and whose end nobody told."""
        run = self._open.get(id)
        if run is not None:
            close_waits(run.task, run.kept)

    def _add(self, id: object, run: Run) -> None:
        self._open[id] = run
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
        elif is_cancellation(type(error)):
            run.task.end("canceled")
        else:
            run.task.end("failed", error)


def close_wait(task: Task, kind: str, name: object) -> None:
    """End one wait of that kind and name: the oldest, where several calls go on."""
    for wait in task.waits:
        if (wait.kind, wait.name) == (kind, label(name)):
            wait.end()
            return


def close_waits(task: Task, kept: tuple[Wait, ...] = ()) -> None:
    """End waits whose end nobody told, as of a tool that failed; but not those `kept`."""
    for wait in task.waits:
        if wait not in kept:
            wait.end()
