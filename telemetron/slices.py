"""Long work in slices of time, so that others get the event loop, or the processor, in between."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar

SLICE_SECONDS = 0.002
"""Several tasks take a slice in one turn of the event loop: together they must stay below 20 ms,
even if a garbage collection comes on top."""

T = TypeVar("T")


def sliced(steps: Iterable[object], seconds: float = SLICE_SECONDS) -> Iterator[None]:
    """Run all steps; yield each time a slice of so many seconds is over."""
    until = time.perf_counter() + seconds
    for _ in steps:
        if time.perf_counter() > until:
            yield
            until = time.perf_counter() + seconds


async def paced(items: Iterable[T], seconds: float = SLICE_SECONDS) -> AsyncIterator[T]:
    """Yield all items; after each slice of so many seconds the event loop runs others first.

    The slice counts the time that the caller spends on the items.
    """
    until = time.perf_counter() + seconds
    for item in items:
        yield item
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            until = time.perf_counter() + seconds
