"""What the proxy's counters say of the last minute: rises, never levels."""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import NamedTuple

from telemetron_collectors.litellm.metrics import REFUSED, SPEND, UNROUTED, Page, Series

WINDOW_SECONDS = 60.0
# A minute that is longer by no more than this is taken for one: whole calls stay whole.
LATE_SECONDS = 3.0
# What several processes behind one address say is not believed for so long.
SEVERAL_SECONDS = 300.0
MAX_PROCESSES = 64
# So often counters that several share fall within that time until several replicas are believed.
FALLS = 3
SHARED = 0.0
MAX_REMEMBERED = 200_000

Counters = Mapping[tuple[Series, int], float]
Error = tuple[str | None, int | None]


class Minute:
    """What rose within one minute."""

    def __init__(self) -> None:
        self.callers: defaultdict[str, defaultdict[str, dict[str, float]]]
        """By deployment, caller and kind."""
        self.callers = defaultdict(lambda: defaultdict(dict))
        self.unrouted: dict[str, defaultdict[str, dict[Error, float]]]
        """Of each kind without a deployment, by the name that was asked for, and error."""
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
        """How much it rose."""
        return round(self._sums.get((kind, of), 0.0), 9)


class Sample(NamedTuple):
    """What rose up to a moment since the look before."""

    at: float
    rises: Mapping[Series, float]


class Usage:
    """Follows the counters of a proxy through its restarts.

    A process is known by its start time. What one that is new had counted before it was first seen
    is known to be recent only if it was started since the last look, by the proxy's own clock.
    Workers that share a page have no start time. Counters that fall were begun again by a restart,
    or are another replica's: only if they fall again and again is it the latter.
    """

    def __init__(self, slack_seconds: float) -> None:
        self.minute: Minute | None = None
        """The last one; None: there was no look a minute ago, or what it used is not known."""
        self._slack = slack_seconds
        self._processes: dict[float, Counters] = {}
        self._last = SHARED
        self._falls: deque[float] = deque(maxlen=FALLS)
        self._asked_at: float | None = None
        self._samples: deque[Sample] = deque()
        self._returned_at: float | None = None
        self._spent: dict[str, float] = {}
        self._expired: defaultdict[str, float] = defaultdict(float)
        """What series had counted that the proxy has dropped since, by deployment."""

    def take(self, page: Page, now: float, date: float | None) -> dict[Series, float]:
        """The rises since the last look, by series; `date` is the answer's, `now` monotonic.

        For a thread: 5 MB of metrics are 23,000 series, and take 100 ms. Others may read meanwhile.
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
        """Two processes were seen to answer."""
        self._returned_at = now

    def is_several(self, now: float) -> bool:
        """Whether several processes answer in turn, each with counters of its own."""
        return self._returned_at is not None and now - self._returned_at < SEVERAL_SECONDS

    def spent(self, of: str) -> float:
        """What the deployment cost since the process started."""
        return round(self._spent.get(of, 0.0) + self._expired.get(of, 0.0), 9)

    def _before(self, process: float, page: Page, now: float) -> Counters | None:
        """What this process had counted when it was last seen; None: nobody knows."""
        if process in self._processes:
            if process != self._last:
                self._returned_at = now
            if process != SHARED or self._is_one(self._processes[process], page, now):
                return self._processes[process]
        elif process and self._asked_at and process >= self._asked_at:
            return {}
        self._samples.clear()
        return None

    def _is_one(self, before: Counters, page: Page, now: float) -> bool:
        """Whether a page that several share goes on from the one before."""
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
            len(self._processes) > MAX_PROCESSES
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
        """Keep the youngest sample that is a minute old, and all that are younger."""
        self._samples.append(Sample(now, rises))
        while len(self._samples) > 1 and now - self._samples[1].at >= WINDOW_SECONDS:
            self._samples.popleft()
        minute = None
        seconds = now - self._samples[0].at
        if WINDOW_SECONDS <= seconds <= WINDOW_SECONDS + self._slack:
            # Looks that are far apart reach back further: then it is the mean of a minute.
            share = WINDOW_SECONDS / seconds if seconds > WINDOW_SECONDS + LATE_SECONDS else 1.0
            minute = Minute()
            for sample in list(self._samples)[1:]:
                for series, rise in sample.rises.items():
                    minute.add(series, rise * share)
        self.minute = minute


def _goes_on(old: Counters, new: Counters) -> bool:
    """Whether none fell; workers' counts that are summed in another order may differ in a digit."""
    return all(new.get(key, -1.0) >= value * (1 - 1e-9) for key, value in old.items())


def _rises(old: Counters, new: Counters) -> dict[Series, float]:
    """By how much each rose; one that fell was dropped by the proxy and has begun again."""
    rises: defaultdict[Series, float] = defaultdict(float)
    for key, value in new.items():
        before = old.get(key, 0.0)
        fell = value < before * (1 - 1e-9)
        rises[key[0]] += value if fell else max(0.0, value - before)
    return {series: rise for series, rise in rises.items() if rise > 0}
