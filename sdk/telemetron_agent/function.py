"""A function as a task: `@agent.task` on a sync, async, generator or async generator function."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from functools import wraps
from typing import Any

from .task import Task, leave

Start = Callable[..., Task]
"""Starts a task with a `step`."""


def wrap(start: Start, function: Any) -> Any:
    """`function`, each call of which is a task whose first step is the function's name."""
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(wrap(start, function.__func__))
    step = getattr(function, "__qualname__", None)
    for fits, make in (
        (inspect.isasyncgenfunction, _async_generator),
        (inspect.isgeneratorfunction, _generator),
        (inspect.iscoroutinefunction, _coroutine),
    ):
        if fits(function):
            return make(lambda: start(step=step), function)
    return _plain(lambda: start(step=step), function)


def _plain(start: Start, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def task(*args: Any, **kwargs: Any) -> Any:
        with start():
            return function(*args, **kwargs)

    return task


def _coroutine(start: Start, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def task(*args: Any, **kwargs: Any) -> Any:
        with start():
            return await function(*args, **kwargs)

    return task


def _generator(start: Start, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def task(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with _Steps(start()) as steps:
            steps.inner = function(*args, **kwargs)
            return (yield from steps)

    return task


class _Steps:
    """A generator of which each step runs with the task as the current one.

    Between two steps its caller goes on, in the same context: there the task is not current.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.inner: Any = None

    def __enter__(self) -> _Steps:
        return self

    def __exit__(self, *error: Any) -> None:
        self._task.__exit__(*error)

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> Any:
        return self._step(next, self.inner)

    def send(self, value: Any) -> Any:
        return self._step(self.inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self.inner.throw, *error)

    def close(self) -> None:
        self._step(self.inner.close)

    def _step(self, go: Callable[..., Any], *arguments: Any) -> Any:
        token = self._task.enter()
        try:
            return go(*arguments)
        finally:
            leave(token)

    async def step(self, go: Callable[..., Any], *arguments: Any) -> Any:
        token = self._task.enter()
        try:
            return await go(*arguments)
        finally:
            leave(token)


def _async_generator(start: Start, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def task(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with _Steps(start()) as steps:
            inner = function(*args, **kwargs)
            go, argument = inner.asend, None
            while True:
                try:
                    value = await steps.step(go, argument)
                except StopAsyncIteration:
                    return
                try:
                    argument = yield value
                    go = inner.asend
                except GeneratorExit:
                    await steps.step(inner.aclose)
                    raise
                except BaseException as error:
                    go, argument = inner.athrow, error

    return task
