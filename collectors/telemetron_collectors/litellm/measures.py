"""The measures of a deployment from its counters: null, never zero, if a metric is missing."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from telemetron.document import MAX_CALLERS, MAX_REFUSALS, ModelCaller, ModelDeployment, Refusal
from telemetron_collectors.litellm.metrics import (
    ANSWERED,
    CACHE_HITS,
    CACHED_TOKENS,
    FAILURES,
    FAMILIES,
    LATENCY,
    REFUSED,
    REQUESTS,
    SPEND,
    SUCCESSES,
    TOKENS,
    UNROUTED,
    MetricsPage,
    Series,
)
from telemetron_collectors.litellm.models import Names
from telemetron_collectors.litellm.usage import Error, Minute, UsageTracker

Rise = Callable[[str], float]
"""Returns how much a kind of counter rose for one deployment."""
CALLED = (REQUESTS, TOKENS, FAILURES)


class Calls(NamedTuple):
    """The results of a deployment's calls between two polls."""

    succeeded: bool
    cached: bool
    doubtful: bool
    """Some calls failed, but the metrics do not count causes."""


class Measures:
    """The measures of all deployments after one poll.

    `caches` is whether the proxy answers from a cache, or None if that is not known. `caller` is
    the label that names callers, or None if they are not shown.
    """

    def __init__(
        self,
        usage: UsageTracker,
        page: MetricsPage,
        names: Names,
        caches: bool | None,
        caller: str | None,
    ) -> None:
        self.page = page
        self._has = frozenset(kind for kind in FAMILIES if page.has(kind))
        self._usage = usage
        self._caches = caches
        self._caller = caller
        self._refused = self._by_group(names)
        """The calls refused in the last minute, by model group and error."""
        self._made: dict[str, tuple[ModelDeployment, dict[str, Any]]] = {}
        """The measures of each deployment as it was listed, by id."""

    @property
    def sees_successes(self) -> bool:
        return SUCCESSES in self._has or ANSWERED in self._has

    def missing(self) -> list[str]:
        """Return the metrics without which some measures are unknown."""
        needed = set(FAMILIES) - {CACHE_HITS, CACHED_TOKENS}
        if REQUESTS in self._has and SUCCESSES in self._has:
            needed -= {FAILURES}
        if self._caches is not False:
            if not self._sees_cached():
                needed |= {CACHE_HITS}
            # Workers that share a page list a metric only after they have counted something.
            if CACHE_HITS in self._has or self.page.process is not None:
                needed |= {CACHED_TOKENS}
        return sorted(FAMILIES[kind] for kind in needed if kind not in self._has)

    def calls(self, rose: Mapping[Series, float]) -> Calls:
        """Interpret the rises of one deployment's counters."""
        sums: dict[str, float] = {}
        for series, rise in rose.items():
            sums[series.kind] = sums.get(series.kind, 0.0) + rise

        def of(kind: str) -> float:
            return sums.get(kind, 0.0)

        cached = self._cached(of)
        succeeded = of(SUCCESSES) - (cached or 0.0)
        if SUCCESSES not in self._has or cached is None:
            succeeded = of(ANSWERED)
        failed = None if FAILURES in self._has else self._failed(of)
        return Calls(succeeded > 0, bool(cached), bool(failed))

    def of(self, part: ModelDeployment) -> dict[str, Any]:
        """Return the measures of a deployment, by field: the same, do not change them."""
        made = self._made.get(part.id)
        if made is None or made[0] is not part:
            made = self._made[part.id] = part, self._of(part)
        return made[1]

    def _of(self, part: ModelDeployment) -> dict[str, Any]:
        spend = self._usage.spent(part.id) if SPEND in self._has else None
        minute = self._usage.minute
        if minute is None:
            return {"spend": spend}

        def of(kind: str) -> float:
            return minute.of(kind, part.id)

        refusals, reasons = self._refusals(part.model)
        callers, count = self._callers(minute.callers.get(part.id, {}), self._cached(of) == 0)
        measures: dict[str, Any] = {
            "rpm": self._rpm(of),
            "tpm": self._tpm(of),
            "failed_rpm": self._failed(of),
            "refused_rpm": self._refused_rpm(part.model),
            "refusals": refusals,
            "latency_seconds": self._latency(of),
            "callers": callers,
            "spend": spend,
        }
        cut = {"callers": count} if count > MAX_CALLERS else {}
        cut |= {"refusals": reasons} if reasons > MAX_REFUSALS else {}
        return measures | ({"truncated": {**(part.truncated or {}), **cut}} if cut else {})

    def _rise(self, of: Rise, kind: str) -> float | None:
        return of(kind) if kind in self._has else None

    def _sees_cached(self) -> bool:
        """Return whether the metrics distinguish answers of providers and of the cache."""
        return CACHE_HITS in self._has or (SUCCESSES in self._has and ANSWERED in self._has)

    def _cached(self, of: Rise) -> float | None:
        """Return how many calls the proxy's cache answered, or None if that is not known."""
        if CACHE_HITS in self._has:
            return of(CACHE_HITS)
        if self._caches is False:
            return 0.0
        if self._sees_cached():
            return max(0.0, of(SUCCESSES) - of(ANSWERED))
        return None

    def _rpm(self, of: Rise) -> float | None:
        requests, cached = self._rise(of, REQUESTS), self._cached(of)
        return None if requests is None or cached is None else max(0.0, requests - cached)

    def _tpm(self, of: Rise) -> float | None:
        tokens, cached = self._rise(of, TOKENS), self._rise(of, CACHED_TOKENS)
        if cached is None and self._cached(of) == 0:
            cached = 0.0
        return None if tokens is None or cached is None else max(0.0, tokens - cached)

    def _failed(self, of: Rise) -> float | None:
        """Return the failures; without their metric, requests that are no successes."""
        if FAILURES in self._has:
            return of(FAILURES)
        requests = self._rise(of, REQUESTS)
        successes = self._rise(of, SUCCESSES)
        return None if requests is None or successes is None else max(0.0, requests - successes)

    def _by_group(self, names: Names) -> dict[str, dict[Error, float]]:
        """Return refusals by group: failures without a deployment, or such requests."""
        minute, found = self._usage.minute or Minute(), defaultdict[str, dict[Error, float]](dict)
        kind = REFUSED if self.page.has_unrouted(FAILURES) else UNROUTED
        for name, errors in minute.unrouted[kind].items():
            group = found[names.group(name) or ""]
            for error, rise in errors.items():
                group[error] = round(group.get(error, 0.0) + rise, 9)
        return found

    def _refused_rpm(self, model: str) -> float | None:
        if not (self.page.has_unrouted(FAILURES) or self.page.has_unrouted(REQUESTS)):
            return None
        return sum(self._refused.get(model, {}).values())

    def _refusals(self, model: str) -> tuple[list[Refusal] | None, int]:
        """Return the most frequent refusals, by class and status, and the number of all."""
        if not self.page.has_unrouted(FAILURES):
            return None, 0
        found = [Refusal(*error, rpm=rise) for error, rise in self._refused.get(model, {}).items()]
        found.sort(key=lambda one: (-one.rpm, str(one)))
        kept = sorted(found[:MAX_REFUSALS], key=lambda one: (one.error_class or "", str(one)))
        return kept, len(found)

    def _latency(self, of: Rise) -> float | None:
        answered = self._rise(of, ANSWERED)
        return round(of(LATENCY) / answered, 3) if answered else None

    def _callers(
        self, counted: Mapping[str, Mapping[str, float]], none: bool
    ) -> tuple[list[ModelCaller] | None, int]:
        """Return the most active callers, and the number of all; `none`: no answer was cached."""
        named = [kind for kind in CALLED if self._caller in self.page.labels.get(kind, ())]
        if not self._has.intersection(named):
            return None, 0
        callers = [
            ModelCaller(
                name=name,
                rpm=self._less(counts, REQUESTS, CACHE_HITS, none),
                failed_rpm=self._less(counts, FAILURES, FAILURES, True),
                tpm=self._less(counts, TOKENS, CACHED_TOKENS, none),
            )
            for name, counts in counted.items()
        ]
        callers.sort(key=lambda one: (-(one.rpm or 0.0), -(one.tpm or 0.0), one.name))
        return sorted(callers[:MAX_CALLERS], key=lambda one: one.name), len(callers)

    def _less(
        self, counts: Mapping[str, float], kind: str, cached: str, none: bool
    ) -> float | None:
        """Return one caller's count without cached answers; `none`: no answer was cached."""
        if not self._names_callers(kind) or not (none or self._names_callers(cached)):
            return None
        less = 0.0 if none else counts.get(cached, 0.0)
        return max(0.0, round(counts.get(kind, 0.0) - less, 9))

    def _names_callers(self, kind: str) -> bool:
        labels = self.page.labels.get(kind)
        return kind in self._has and (labels is None or self._caller in labels)
