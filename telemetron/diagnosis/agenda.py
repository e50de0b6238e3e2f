"""An agenda: at which time to look at what."""

import heapq
from collections.abc import Hashable
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)
FEW = 64


class Agenda(Generic[T]):
    """One time for each; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._times: dict[T, float] = {}
        self._heap: list[tuple[float, T]] = []
        """Also times that were changed since."""

    def set(self, one: T, at: float) -> None:
        """Enter a time instead of the one before; infinity: never."""
        if at == inf:
            self._times.pop(one, None)
        elif self._times.get(one) != at:
            self._times[one] = at
            heapq.heappush(self._heap, (at, one))
            if len(self._heap) > FEW + 2 * len(self._times):
                self._heap = [(at, one) for one, at in self._times.items()]
                heapq.heapify(self._heap)

    @property
    def next(self) -> float:
        """The first time; infinity if there is none."""
        while self._heap and self._times.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def take(self, now: float) -> list[T]:
        """Remove and return all whose time has come."""
        found = []
        while self.next <= now:
            _, one = heapq.heappop(self._heap)
            del self._times[one]
            found.append(one)
        return found
