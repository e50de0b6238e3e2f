"""A function as a task: `@agent.task` on any callable.

The task lasts as long as the coroutine, generator or future that the call returns.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial, partialmethod, wraps
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from .task import Task, leave

Start = Callable[..., Task]
"""Starts a task with a `step`."""


def wrap(start: Start, function: Any) -> Any:
    """Return `function` so that each call is a task; its first step is the function's name."""
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(wrap(start, function.__func__))
    if isinstance(function, partialmethod):
        return partialmethod(wrap(start, function.func), *function.args, **function.keywords)
    called = _called(function)
    step = getattr(called, "__qualname__", None)
    for fits, make in (
        (_is_coroutine_function, _coroutine),
        (inspect.isasyncgenfunction, _async_generator),
        (inspect.isgeneratorfunction, _generator),
    ):
        if fits(called):
            return make(lambda: start(step=step), function)
    return _plain(lambda: start(step=step), function)


def _called(function: Any) -> Any:
    """Return the function whose code runs: inside partials, or `__call__` of an object."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(function, "__call__", function)  # noqa: B004  not whether there is one


def _is_coroutine_function(function: Any) -> bool:
    """Return whether it is a coroutine function, also one made by `types.coroutine`."""
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return inspect.iscoroutinefunction(function) or bool(flags & inspect.CO_ITERABLE_COROUTINE)


def _plain(start: Start, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def task(*args: Any, **kwargs: Any) -> Any:
        task = start()
        token = task.enter()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            task.end_with(error)
            raise
        finally:
            leave(token)
        return _last(task, result)

    return task


def _last(task: Task, result: Any) -> Any:
    """Return `result`; end the task now, or when the coroutine, generator or future ends."""
    make = LASTING.get(type(result))
    if make is not None:
        if inspect.isawaitable(result):
            make = _coroutine  # types.coroutine makes awaitable generators
        return make(lambda: task, lambda: result)()
    if result is not None and hasattr(type(result), "add_done_callback"):
        result.add_done_callback(partial(_done, task))
    else:
        task.end()
    return result


def _done(task: Task, future: Any) -> None:
    """End the task with a future of asyncio or concurrent.futures.

    Don't call result(): asyncio would no longer log an exception that no one else retrieves.
    """
    error = getattr(future, "_exception", None)
    if future.cancelled():
        task.end("canceled")
    elif error is not None:
        task.end_with(error)
    else:
        task.end()


def _coroutine(start: Start, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def task(*args: Any, **kwargs: Any) -> Any:
        task = start()
        token = task.enter()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            task.end_with(error)
            raise
        finally:
            leave(token)
        return _last(task, result)

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


LASTING = {
    CoroutineType: _coroutine,
    GeneratorType: _generator,
    AsyncGeneratorType: _async_generator,
}
"""Results that continue after the call has returned them."""
