"""The rises of the proxy's counters in the last minute."""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import NamedTuple

from telemetron_collectors.litellm.metrics import REFUSED, SPEND, UNROUTED, MetricsPage, Series

WINDOW_SECONDS = 60.0
# An interval up to this much longer counts as a minute, so that whole calls stay whole numbers.
LATE_SECONDS = 3.0
# How long the counters are not used after several processes answered behind one address.
SEVERAL_SECONDS = 300.0
# After this many falls of shared counters within that time, several replicas must be answering.
FALLS = 3
SHARED = 0.0
MAX_REMEMBERED = 200_000

Counters = Mapping[tuple[Series, int], float]
Error = tuple[str | None, int | None]


class Minute:
    """The rises within one minute."""

    def __init__(self) -> None:
        self.callers: defaultdict[str, defaultdict[str, dict[str, float]]]
        """By deployment, caller and kind."""
        self.callers = defaultdict(lambda: defaultdict(dict))
        self.unrouted: dict[str, defaultdict[str, dict[Error, float]]]
        """Calls without a deployment: by kind, requested model and error."""
        self.unrouted = {kind: defaultdict(dict) for kind in (REFUSED, UNROUTED)}
        self._sums: dict[tuple[str, str], float] = {}

    def add(self, series: Series, rise: float) -> None:
        kind, of, error_class, status_code, caller = series
        self._sums[kind, of] = self._sums.get((kind, of), 0.0) + rise
        if kind in self.unrouted:
            errors, error = self.unrouted[kind][of], (error_class, status_code)
            errors[error] = errors.get(error, 0.0) + rise
        elif caller is not None:
            counts = self.callers[of][caller]
            counts[kind] = counts.get(kind, 0.0) + rise

    def of(self, kind: str, of: str) -> float:
        """Return how much a kind of counter rose."""
        return round(self._sums.get((kind, of), 0.0), 9)


class Sample(NamedTuple):
    """The rises between a poll and the one before."""

    at: float
    rises: Mapping[Series, float]


class UsageTracker:
    """Follows the counters of a proxy through its restarts.

    The start time identifies a process. The counts of a new process are recent only if it started
    after the last poll, by the proxy's own clock. Workers that share a page have no start time. If
    their counters fall, the proxy restarted or another replica answered; repeated falls mean
    several replicas.
    """

    def __init__(self, slack_seconds: float, max_processes: int = 64) -> None:
        self.minute: Minute | None = None
        """None if no poll was a minute ago, or if the use since then is not known."""
        self._slack = slack_seconds
        self._max_processes = max_processes
        self._processes: dict[float, Counters] = {}
        self._last = SHARED
        self._falls: deque[float] = deque(maxlen=FALLS)
        self._asked_at: float | None = None
        self._samples: deque[Sample] = deque()
        self._returned_at: float | None = None
        self._spent: dict[str, float] = {}
        self._expired: defaultdict[str, float] = defaultdict(float)
        """The spend of series that the proxy has dropped, by deployment."""

    def add(self, page: MetricsPage, now: float, date: float | None) -> dict[Series, float]:
        """Return the rises since the last poll, by series.

        `now` is monotonic, `date` that of the answer. Run this in a thread: 5 MB of metrics are
        23,000 series and take 100 ms. The other methods may be called meanwhile.
        """
        process = page.process or SHARED
        before = self._before(process, page, now)
        if process != self._last:
            self._expired.clear()
        self._store(process, page.counters)
        self._last, self._asked_at = process, date
        self._note_spent(before or {}, page.counters)
        rises = {} if before is None else _rises(before, page.counters)
        self._remember(now, rises)
        return rises

    def note_several(self, now: float) -> None:
        """Note that two processes answered."""
        self._returned_at = now

    def is_several(self, now: float) -> bool:
        """Return whether several processes answer in turn, each with its own counters."""
        return self._returned_at is not None and now - self._returned_at < SEVERAL_SECONDS

    def spent(self, of: str) -> float:
        """Return the deployment's cost since the process started."""
        return round(self._spent.get(of, 0.0) + self._expired.get(of, 0.0), 9)

    def _before(self, process: float, page: MetricsPage, now: float) -> Counters | None:
        """Return the counters of this process at its last answer, or None if they are not known."""
        if process in self._processes:
            if process != self._last:
                self._returned_at = now
            if process != SHARED or self._is_one(self._processes[process], page, now):
                return self._processes[process]
        elif process and self._asked_at and process >= self._asked_at:
            return {}
        self._samples.clear()
        return None

    def _is_one(self, before: Counters, page: MetricsPage, now: float) -> bool:
        """Return whether a shared page continues the one before."""
        if _goes_on(before, page.counters):
            return not self.is_several(now)
        self._falls.append(now)
        if len(self._falls) == FALLS and now - self._falls[0] < SEVERAL_SECONDS:
            self._returned_at = now
        return False

    def _store(self, process: float, counters: Counters) -> None:
        self._processes.pop(process, None)
        self._processes[process] = counters
        while len(self._processes) > 1 and (
            len(self._processes) > self._max_processes
            or sum(map(len, self._processes.values())) > MAX_REMEMBERED
        ):
            del self._processes[next(iter(self._processes))]

    def _note_spent(self, before: Counters, counters: Counters) -> None:
        for key, value in before.items():
            if key[0].kind == SPEND and counters.get(key, 0.0) < value:
                self._expired[key[0].of] += value
        spent: defaultdict[str, float] = defaultdict(float)
        for (series, _), value in counters.items():
            if series.kind == SPEND:
                spent[series.of] += value
        self._spent = spent

    def _remember(self, now: float, rises: Mapping[Series, float]) -> None:
        """Keep the newest sample that is a minute old, and all newer ones."""
        self._samples.append(Sample(now, rises))
        while len(self._samples) > 1 and now - self._samples[1].at >= WINDOW_SECONDS:
            self._samples.popleft()
        minute = None
        seconds = now - self._samples[0].at
        if WINDOW_SECONDS <= seconds <= WINDOW_SECONDS + self._slack:
            # Longer intervals reach back further; then use the mean of a minute.
            share = WINDOW_SECONDS / seconds if seconds > WINDOW_SECONDS + LATE_SECONDS else 1.0
            minute = Minute()
            for sample in list(self._samples)[1:]:
                for series, rise in sample.rises.items():
                    minute.add(series, rise * share)
        self.minute = minute


def _goes_on(old: Counters, new: Counters) -> bool:
    """Return whether no counter fell, within the rounding of sums in another order."""
    return all(new.get(key, -1.0) >= value * (1 - 1e-9) for key, value in old.items())


def _rises(old: Counters, new: Counters) -> dict[Series, float]:
    """Return how much each series rose; a counter that fell was reset to zero in between."""
    rises: defaultdict[Series, float] = defaultdict(float)
    for key, value in new.items():
        before = old.get(key, 0.0)
        fell = value < before * (1 - 1e-9)
        rises[key[0]] += value if fell else max(0.0, value - before)
    return {series: rise for series, rise in rises.items() if rise > 0}
