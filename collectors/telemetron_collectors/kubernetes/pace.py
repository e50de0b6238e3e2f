"""Splits long work into slices of time, so that the event loop can run other tasks between."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

SLICE_SECONDS = 0.004

T = TypeVar("T")


async def paced(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items, and let other tasks run after each slice."""
    until = time.perf_counter() + SLICE_SECONDS
    for item in items:
        yield item
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            until = time.perf_counter() + SLICE_SECONDS
