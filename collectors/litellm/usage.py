"""What the proxy's counters say of the last minute: rises, never levels."""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import NamedTuple

from collectors.litellm.metrics import Page, Series

WINDOW_SECONDS = 60.0
# What several processes behind one address say is not believed for so long.
SEVERAL_SECONDS = 300.0
MAX_PROCESSES = 64

Counters = Mapping[Series, float]


class Sample(NamedTuple):
    """All rises up to a moment, by kind and deployment (or model group)."""

    at: float
    totals: dict[tuple[str, str], float]


class Usage:
    """Follows the counters of a proxy through its restarts.

    A process is known by its start time. What one that is new had counted before it was first seen
    is known to be recent only if it was started since the last look, by the proxy's own clock.
    """

    def __init__(self, slack_seconds: float) -> None:
        self._slack = slack_seconds
        self._processes: dict[float | None, Counters] = {}
        self._last: float | None = None
        self._asked_at: float | None = None
        self._totals: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._samples: deque[Sample] = deque()
        self._window: dict[tuple[str, str], float] | None = None
        """What rose within the last minute, and by how much; None: see `rise`."""
        self._returned_at: float | None = None

    def take(self, page: Page, now: float, date: float | None) -> dict[Series, float]:
        """The rises since the last look, by series; `date` is the answer's, `now` monotonic."""
        known = self._known(page, now)
        self._processes.pop(page.process, None)
        self._processes[page.process] = page.counters
        if len(self._processes) > MAX_PROCESSES:
            del self._processes[next(iter(self._processes))]
        self._last, self._asked_at = page.process, date
        rises = {} if known is None else _rises(known, page.counters)
        for series, rise in rises.items():
            self._totals[series.kind, series.of] += rise
        self._remember(now)
        return rises

    def is_several(self, now: float) -> bool:
        """Whether several processes answer in turn, each with counters of its own."""
        return self._returned_at is not None and now - self._returned_at < SEVERAL_SECONDS

    def rise(self, kind: str, of: str) -> float | None:
        """How much it rose within the last minute; None: nobody looked a minute ago."""
        return None if self._window is None else self._window.get((kind, of), 0.0)

    def _known(self, page: Page, now: float) -> Counters | None:
        """What this process had counted when it was last seen; None: nobody knows."""
        if page.process in self._processes:
            if page.process != self._last:
                self._returned_at = now
            return self._processes[page.process]
        is_new = page.process and self._asked_at and page.process >= self._asked_at
        return {} if is_new else None

    def _remember(self, now: float) -> None:
        """Keep the youngest sample that is a minute old, and all that are younger."""
        self._samples.append(Sample(now, dict(self._totals)))
        while len(self._samples) > 1 and now - self._samples[1].at >= WINDOW_SECONDS:
            self._samples.popleft()
        base = self._samples[0]
        if not WINDOW_SECONDS <= now - base.at <= WINDOW_SECONDS + self._slack:
            self._window = None
            return
        before = base.totals
        rose = ((key, total - before.get(key, 0.0)) for key, total in self._totals.items())
        self._window = {key: round(rise, 9) for key, rise in rose if rise}


def _rises(old: Counters, new: Counters) -> dict[Series, float]:
    """By how much each rose; where a counter fell, all began anew."""
    # Sums of the same floats in another order may differ in their last digits.
    if any(new.get(series, value) < value * (1 - 1e-9) for series, value in old.items()):
        old = {}
    rises = ((series, value - old.get(series, 0.0)) for series, value in new.items())
    return {series: rise for series, rise in rises if rise > 0}
