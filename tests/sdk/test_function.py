"""Functions as tasks: `@agent.task`."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import types
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from functools import partial, partialmethod

import pytest

from telemetron_agent import Agent, current


@pytest.fixture
def agent(stand_in) -> Iterator[Agent]:
    with Agent("x", url=stand_in.url, interval=60) as agent:
        yield agent


def outcomes(stand_in, agent: Agent) -> tuple[int, ...]:
    assert agent.flush(10)
    return tuple(stand_in.beats[-1]["outcomes"].values())


def test_a_function(stand_in, agent: Agent) -> None:
    @agent.task
    def add(a: int, b: int = 0) -> int:
        """Adds."""
        assert current().step.endswith("add")
        if b < 0:
            raise ValueError("a secret")
        return a + b

    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    assert add(1, b=2) == 3
    with pytest.raises(ValueError, match="a secret"):
        add(1, -1)
    assert outcomes(stand_in, agent) == (1, 1, 0)


def test_methods(stand_in, agent: Agent) -> None:
    class Worker:
        @agent.task
        def a(self) -> object:
            return self

        @agent.task
        @classmethod
        def b(cls) -> object:
            return cls

        @agent.task
        @staticmethod
        def c() -> str:
            return current().step

    worker = Worker()
    assert worker.a() is worker
    assert Worker.b() is worker.b() is Worker
    assert Worker.c().endswith("Worker.c")
    assert outcomes(stand_in, agent) == (4, 0, 0)


def test_other_callables(stand_in, agent: Agent) -> None:
    assert agent.task(partial(int, "7"))() == 7
    assert agent.task(len)("four") == 4
    assert outcomes(stand_in, agent) == (2, 0, 0)


async def test_a_coroutine_function(stand_in, agent: Agent) -> None:
    @agent.task
    async def work(event: asyncio.Event) -> str:
        event.set()
        await asyncio.sleep(0)
        return current().id

    assert inspect.iscoroutinefunction(work)
    ids = await asyncio.gather(*(work(asyncio.Event()) for _ in range(10)))
    assert len(set(ids)) == 10
    started = asyncio.Event()
    canceled = asyncio.create_task(work(started))
    await started.wait()
    canceled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await canceled
    assert await asyncio.to_thread(outcomes, stand_in, agent) == (10, 0, 1)


def test_a_generator_function(stand_in, agent: Agent) -> None:
    @agent.task
    def numbers() -> Iterator[int]:
        got = []
        try:
            got.append((yield current().id))
            got.append((yield current().id))
        except KeyError:
            yield "caught"
        return got

    assert inspect.isgeneratorfunction(numbers)
    outside = current()
    first = numbers()
    id = next(first)
    assert current() is outside  # between the steps it is not current
    assert first.send("a") == id
    with pytest.raises(StopIteration) as stop:
        first.send("b")
    assert stop.value.value == ["a", "b"]

    second = numbers()
    next(second)
    assert second.throw(KeyError()) == "caught"
    with pytest.raises(ZeroDivisionError):
        second.throw(ZeroDivisionError())
    assert outcomes(stand_in, agent) == (1, 1, 0)


def test_generators_that_are_left(stand_in, agent: Agent) -> None:
    closed = []

    @agent.task
    def numbers() -> Iterator[int]:
        try:
            yield 1
        finally:
            closed.append(current().step)

    context = contextvars.copy_context()
    generator = numbers()
    context.run(next, generator)
    contextvars.copy_context().run(generator.close)
    abandoned = numbers()
    next(abandoned)
    del abandoned
    gc.collect()
    numbers()  # never began
    assert len(closed) == 2
    assert closed[0].endswith("numbers")
    assert outcomes(stand_in, agent) == (0, 0, 2)


def test_generators_that_take_turns(agent: Agent) -> None:
    @agent.task
    def ids() -> Iterator[str]:
        while True:
            yield current().id

    with agent.task("outer") as outer:
        first, second = ids(), ids()
        turns = [(next(first), next(second)) for _ in range(3)]
        assert len(set(turns)) == 1
        assert turns[0][0] != turns[0][1]
        assert current() is outer


async def test_an_async_generator_function(stand_in, agent: Agent) -> None:
    @agent.task
    async def numbers() -> AsyncIterator[str]:
        try:
            got = yield current().id
            await asyncio.sleep(0)
            yield (got, current().id)
        except KeyError:
            yield "caught"

    assert inspect.isasyncgenfunction(numbers)
    outside = current()
    first = numbers()
    id = await first.asend(None)
    assert current() is outside
    assert await first.asend("a") == ("a", id)
    with pytest.raises(StopAsyncIteration):
        await first.asend(None)

    second = numbers()
    await second.asend(None)
    assert await second.athrow(KeyError()) == "caught"
    with pytest.raises(ZeroDivisionError):
        await second.athrow(ZeroDivisionError())

    third = numbers()
    await asyncio.create_task(third.asend(None))  # each step in a context of its own
    await asyncio.create_task(third.aclose())
    assert await asyncio.to_thread(outcomes, stand_in, agent) == (1, 1, 1)


def test_an_async_generator_that_is_abandoned(stand_in, agent: Agent) -> None:
    @agent.task
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def main() -> None:
        async for _ in numbers():
            break

    asyncio.run(main())
    gc.collect()
    assert outcomes(stand_in, agent) == (0, 0, 1)


class Caller:
    """An object whose call is a coroutine."""

    async def __call__(self, answer: str) -> str:
        await asyncio.sleep(0)
        return f"{answer} {current().step}"

    async def method(self) -> str:
        await asyncio.sleep(0)
        return current().id

    def __repr__(self) -> str:
        return "a caller"


def running(stand_in, agent: Agent) -> int:
    assert agent.flush(10)
    return int(stand_in.beats[-1]["task_count"])


async def test_an_object_with_an_async_call(stand_in, agent: Agent) -> None:
    called = agent.task(Caller())
    assert inspect.iscoroutinefunction(called)
    assert await called("yes") == "yes Caller.__call__"
    assert await agent.task(partial(Caller(), "no"))() == "no Caller.__call__"
    assert await agent.task(partial(Caller.method, Caller()))() != ""
    assert await asyncio.to_thread(outcomes, stand_in, agent) == (3, 0, 0)


@pytest.mark.parametrize("error", [None, KeyError(), asyncio.CancelledError()])
async def test_a_function_that_returns_a_coroutine(stand_in, agent: Agent, error) -> None:
    go = asyncio.Event()

    async def work() -> str:
        await go.wait()
        if error:
            raise error
        return current().id

    @agent.task
    def begin() -> object:
        return work()

    job = asyncio.ensure_future(begin())
    assert await asyncio.to_thread(running, stand_in, agent) == 1
    go.set()
    await asyncio.wait([job])
    told = {None: (1, 0, 0), KeyError: (0, 1, 0), asyncio.CancelledError: (0, 0, 1)}
    expected = told[type(error) if error else None]
    assert await asyncio.to_thread(outcomes, stand_in, agent) == expected


def test_a_function_that_returns_a_generator(stand_in, agent: Agent) -> None:
    def numbers() -> Iterator[str]:
        yield current().id
        yield current().id

    outside = current()
    made = agent.task(lambda: numbers())()
    first = next(made)
    assert current() is outside
    assert running(stand_in, agent) == 1
    assert list(made) == [first]
    agent.task(lambda: numbers())()  # which nobody iterates
    gc.collect()
    assert outcomes(stand_in, agent) == (1, 0, 1)


async def test_a_coroutine_that_returns_an_async_generator(stand_in, agent: Agent) -> None:
    async def words() -> AsyncIterator[str]:
        yield current().id
        yield current().id

    @agent.task
    async def ask() -> AsyncIterator[str]:
        return words()

    stream = await ask()
    first = await stream.__anext__()
    assert await asyncio.to_thread(running, stand_in, agent) == 1
    assert [each async for each in stream] == [first]
    assert [each async for each in agent.task(lambda: words())()] != []
    assert await asyncio.to_thread(outcomes, stand_in, agent) == (2, 0, 0)


async def test_a_function_that_returns_a_future(stand_in, agent: Agent) -> None:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(3)]
    for future in futures:
        assert agent.task(lambda future=future: future)() is future
    pending: Future[int] = Future()
    assert agent.task(lambda: pending)() is pending
    assert await asyncio.to_thread(running, stand_in, agent) == 4
    futures[0].set_result(1)
    futures[1].set_exception(KeyError())
    futures[2].cancel()
    pending.set_result(1)
    await asyncio.wait(futures)
    assert isinstance(futures[1].exception(), KeyError)
    assert await asyncio.to_thread(outcomes, stand_in, agent) == (2, 1, 1)


async def test_an_exception_of_a_future_that_nothing_asks_for_is_logged(agent: Agent) -> None:
    logged: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: logged.append(context["exception"]))
    error = KeyError()
    future = agent.task(loop.create_future)()
    future.set_exception(error)
    await asyncio.sleep(0)
    del future
    gc.collect()
    assert logged == [error]


async def test_a_generator_based_coroutine(stand_in, agent: Agent) -> None:
    @types.coroutine
    def old() -> Iterator[None]:
        yield
        return current().id

    assert await agent.task(old)() != ""
    assert await agent.task(lambda: old())() != ""
    assert await asyncio.to_thread(outcomes, stand_in, agent) == (2, 0, 0)


def test_a_decorator_with_arguments(stand_in, agent: Agent) -> None:
    @agent.task()
    def unnamed() -> tuple[str, str | None]:
        return current().id, current().step

    @agent.task("nightly", queue="q", parent_id="p")
    def nightly() -> tuple[object, ...]:
        task = current()
        return task.id, task.queue, task.parent_id

    assert running(stand_in, agent) == 0
    assert outcomes(stand_in, agent) == (0, 0, 0)
    assert len({unnamed()[0] for _ in range(3)}) == 3
    assert unnamed()[1].endswith("unnamed")
    assert nightly() == nightly() == ("nightly", "q", "p")
    assert outcomes(stand_in, agent) == (6, 0, 0)


def test_a_decorator_with_arguments_in_a_task(agent: Agent) -> None:
    with agent.task("around"):

        @agent.task()
        def work() -> str | None:
            return current().parent_id

        assert work() == "around"
    assert work() is None


def test_more_methods(stand_in, agent: Agent) -> None:
    class Worker:
        @classmethod
        @agent.task()
        def a(cls) -> type:
            return cls

        @staticmethod
        @agent.task("b")
        def b() -> str:
            return current().id

        def c(self, number: int) -> int:
            return number

        d = agent.task(partialmethod(c, 4))

    assert Worker.a() is Worker
    assert Worker().b() == "b"
    assert Worker().d() == 4
    assert outcomes(stand_in, agent) == (3, 0, 0)


def test_outside_of_a_task_the_decorator_changes_nothing() -> None:
    def work() -> int:
        return 1

    assert current()(work) is work
