"""Trends: a bounded ring of coarse samples of a few numbers of an entity; and streaks."""

from collections import deque
from collections.abc import Mapping

EVERY_SECONDS = 5.0
MAX_SAMPLES = 36
"""Three minutes."""
MAX_ENTITIES = 5_000
GROWTH = 10
STILL = 0.1
"""Share of the rise before the last third that the last third adds, if it goes on."""
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
        """Return whether the first number rises, and goes on to rise: once up is no trend.

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
        is_over = late[-1] - late[0] < STILL * (late[0] - early[0])
        return is_more and not is_over and late[-1] >= 0.9 * max(values)

    def gain(self, of: Ref, number: int) -> float:
        """Return by how much a number is above what it was when the window began."""
        ring = self._rings.get(of)
        return ring[-1][1][number] - ring[0][1][number] if ring else 0.0

    @property
    def moving(self) -> list[Ref]:
        """The entities whose samples differ; they need another look even if nothing changes."""
        return [of for of, ring in self._rings.items() if ring[0][1] != ring[-1][1]]


class Streaks:
    """Failures of each instance in a row, by agent; beyond the limit, the oldest is dropped."""

    def __init__(self) -> None:
        self._agents: dict[str, dict[str, tuple[int, int]]] = {}
        """By agent and instance: tasks completed, and tasks that had failed when one was."""

    def update(self, agent: str, outcomes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """Return how many tasks of each instance have failed since one completed.

        `outcomes` are the completed and failed tasks of each instance since its start. What failed
        before the instance was first seen does not count, unless none ever completed.
        """
        old = self._agents.pop(agent, {})
        new = {}
        for id, (completed, failed) in outcomes.items():
            known = old.get(id, (completed, failed if completed else 0))
            is_same = known[0] == completed and known[1] <= failed
            new[id] = known if is_same else (completed, failed)
        self._agents[agent] = new
        if len(self._agents) > MAX_ENTITIES:
            del self._agents[next(iter(self._agents))]
        return {id: failed - new[id][1] for id, (_, failed) in outcomes.items()}
