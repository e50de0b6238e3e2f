"""Slices of time."""

import asyncio
from collections.abc import Iterator

from telemetron.slices import paced, sliced


def test_every_step_is_run_in_order() -> None:
    done: list[int] = []
    assert list(sliced(map(done.append, range(5)), 60)) == []
    assert done == [0, 1, 2, 3, 4]


def test_it_yields_when_a_slice_is_over() -> None:
    done: list[int] = []
    slices = sliced(map(done.append, range(3)), -1)
    next(slices)
    assert done == [0]
    assert len(list(slices)) == 2
    assert done == [0, 1, 2]


def test_the_rest_of_the_steps_can_be_run_without_slices() -> None:
    steps: Iterator[int] = iter(range(3))
    next(sliced(steps, -1))
    assert list(steps) == [1, 2]


async def test_others_run_between_the_slices_of_paced_items() -> None:
    order: list[object] = []

    async def work(seconds: float) -> None:
        async for item in paced("abc", seconds):
            order.append(item)

    async def other() -> None:
        for at in range(3):
            order.append(at)
            await asyncio.sleep(0)

    await asyncio.gather(work(-1), other())
    assert order == ["a", 0, "b", 1, "c", 2]
    order.clear()
    await asyncio.gather(work(60), other())
    assert order == ["a", "b", "c", 0, 1, 2]
