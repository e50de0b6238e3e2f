"""Trends: a bounded ring of coarse samples of a few numbers of an entity."""

from collections import deque

EVERY_SECONDS = 5.0
MAX_SAMPLES = 36
"""Three minutes."""
MAX_ENTITIES = 5_000
GROWTH = 10
LEAST_SECONDS, WINDOW_SECONDS = 30.0, 120.0

Ref = tuple[str, str]
"""Section and key."""

Sample = tuple[float, tuple[float, ...]]
"""Seconds of a monotonic clock, and the numbers."""


class Trends:
    """The rings by entity; beyond the limit, the least recently sampled ring is dropped."""

    def __init__(self) -> None:
        self._rings: dict[Ref, deque[Sample]] = {}

    def add(self, of: Ref, at: float, *numbers: float) -> "deque[Sample]":
        """Add a sample; keep the newest one, and of older ones about one every 5 s."""
        ring = self._rings.pop(of, None) or deque(maxlen=MAX_SAMPLES)
        self._rings[of] = ring
        if len(ring) > 1 and at - ring[-2][0] < EVERY_SECONDS:
            ring[-1] = at, numbers
        else:
            ring.append((at, numbers))
        if len(self._rings) > MAX_ENTITIES:
            del self._rings[next(iter(self._rings))]
        return ring

    def rises(self, of: Ref, now: float) -> bool:
        """Return whether the first number rises, and does not fall again already.

        All of the last third of a window is above all of its first third, by at least 10 and by a
        quarter; the window is between 30 s and two minutes long.
        """
        ring = self._rings.get(of) or deque[Sample]()
        values = [numbers[0] for at, numbers in ring if now - at <= WINDOW_SECONDS]
        third = len(values) // 3
        if third < 2 or now - ring[0][0] < LEAST_SECONDS:
            return False
        early, late = values[:third], values[-third:]
        is_more = min(late) >= max(early) + max(GROWTH, max(early) / 4)
        return is_more and late[-1] >= late[0] and late[-1] >= 0.9 * max(values)

    def gain(self, of: Ref, number: int) -> float:
        """Return by how much a number is above what it was when the window began."""
        ring = self._rings.get(of)
        return ring[-1][1][number] - ring[0][1][number] if ring else 0.0

    @property
    def moving(self) -> list[Ref]:
        """The entities whose samples differ; they need another look even if nothing changes."""
        return [of for of, ring in self._rings.items() if ring[0][1] != ring[-1][1]]
