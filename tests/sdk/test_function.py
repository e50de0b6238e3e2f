"""Functions as tasks: `@agent.task`."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
from collections.abc import AsyncIterator, Iterator
from functools import partial

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
