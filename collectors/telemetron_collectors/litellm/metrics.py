"""A pure parser of the proxy's `/metrics/`, and the samples that the collector requests."""

import math
import re
from typing import NamedTuple
from urllib.parse import urlencode

# Health checks call the models too; no caller uses them.
HEALTH_CHECK = "litellm-internal-health-check"
# LiteLLM writes the largest int64 if there is no limit.
SENTINEL = 9e18
# Beyond `prometheus_metrics_max_series_per_metric` LiteLLM counts in one series with these labels.
OVERFLOW = "other"

_LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {b"\\\\": b"\\", b'\\"': b'"', b"\\n": b"\n"}
_ESCAPE = re.compile(rb"\\[\\\"n]")
_STATUS = re.compile(r"[1-5][0-9][0-9]")
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")
_TYPE = b"# TYPE "
_NOTHING = ("", "None")

REQUESTS = "requests"
SUCCESSES = "successes"
FAILURES = "failures"
COOLDOWNS = "cooldowns"
TOKENS = "tokens"
SPEND = "spend"
LATENCY = "latency"
ANSWERED = "answered"
CACHE_HITS = "cache_hits"
CACHED_TOKENS = "cached_tokens"
REFUSED = "refused"
"""Failures without a deployment, by requested model."""
UNROUTED = "unrouted"
"""Requests without a deployment, by requested model."""

FAMILIES = {
    REQUESTS: "litellm_deployment_total_requests",
    SUCCESSES: "litellm_deployment_success_responses",
    FAILURES: "litellm_deployment_failure_responses",
    COOLDOWNS: "litellm_deployment_cooled_down",
    TOKENS: "litellm_total_tokens_metric",
    SPEND: "litellm_spend_metric",
    ANSWERED: "litellm_llm_api_latency_metric",
    CACHE_HITS: "litellm_cache_hits_metric",
    CACHED_TOKENS: "litellm_cached_tokens_metric",
}
"""The metric of each kind of counter, as the proxy's configuration names it."""
WITHOUT_LICENCE = "litellm_not_a_premium_user_metric"
"""Older versions have only this metric if the proxy has no licence."""

_COUNTERS = {
    **{f"{name}_total".encode(): kind for kind, name in FAMILIES.items() if kind != ANSWERED},
    b"litellm_llm_api_latency_metric_sum": LATENCY,
    b"litellm_llm_api_latency_metric_count": ANSWERED,
}
_UNROUTED = {FAILURES: REFUSED, REQUESTS: UNROUTED}
_STATE = b"litellm_deployment_state"
_PROCESS = b"process_start_time_seconds"

WHOLE = "/metrics/"
"""Requests all metrics, so that the page lists every metric of the proxy."""
TARGET = "/metrics/?" + urlencode(
    [("name[]", name.decode()) for name in (*_COUNTERS, _STATE, _PROCESS)]
)
"""Requests only these samples: no buckets, no creation times."""


class Series(NamedTuple):
    """A counter of a deployment id, or of the model name of calls without a deployment."""

    kind: str
    of: str
    error_class: str | None = None
    status_code: int | None = None
    caller: str | None = None


class MetricsPage(NamedTuple):
    """One answer."""

    counters: dict[tuple[Series, int], float]
    """By series and the hash of its labels: the proxy resets each label set separately."""
    states: dict[str, dict[str, float]]
    """By deployment and model name of the series: 0 healthy, 1 partial, 2 complete outage."""
    process: float | None
    """When the answering process started, by its own clock; None if workers share a page."""
    families: frozenset[str]
    """The metrics that the page lists, with or without samples."""
    labels: dict[str, frozenset[str]]
    """The labels of each kind that has samples."""
    overflowing: frozenset[str]
    """The kinds with samples that may belong to any deployment."""

    def has(self, kind: str) -> bool:
        """Return whether zero means zero: the metric exists, and its samples name deployments."""
        labels = self.labels.get(kind)
        named = labels is None or "model_id" in labels
        return FAMILIES[kind] in self.families and named and kind not in self.overflowing

    def has_unrouted(self, kind: str) -> bool:
        """Return whether zero means zero for calls without a deployment."""
        labels = self.labels.get(kind)
        return self.has(kind) and (
            labels is None or not labels.isdisjoint(("model_group", "requested_model"))
        )

    def missing(self) -> list[str]:
        """Return the metrics that cannot be used."""
        return sorted(name for kind, name in FAMILIES.items() if not self.has(kind))


def parse(body: bytes, caller: str | None = None) -> MetricsPage:
    """Parse a page; `caller` is the label that names callers, or None to ignore them.

    Skip unknown samples and labels. Raise ValueError if the page is cut short or malformed.
    """
    if body and not body.endswith(b"\n"):
        raise ValueError("the last line does not end")
    parser = _Parser(caller)
    for line in body.split(b"\n"):
        parser.read(line)
    return parser.page()


class _Parser:
    """Parses one page, line by line."""

    def __init__(self, caller: str | None) -> None:
        self._caller = caller
        self._counters: dict[tuple[Series, int], float] = {}
        self._states: dict[str, dict[str, float]] = {}
        self._process: float | None = None
        self._families: set[str] = set()
        self._labels: dict[str, frozenset[str]] = {}
        self._overflowing: set[str] = set()

    def read(self, line: bytes) -> None:
        name, brace, rest = line.partition(b"{")
        if not brace:
            self._plain(line)
        elif name in _COUNTERS:
            labels, value = _sample(rest)
            self._count(_COUNTERS[name], labels, value, hash(rest.rpartition(b"}")[0]))
        elif name == _STATE:
            labels, value = _sample(rest)
            states = self._states.setdefault(labels.get("model_id", ""), {})
            model = labels.get("litellm_model_name", "")
            states[model] = max(value, states.get(model, 0.0))  # each worker has its own

    def page(self) -> MetricsPage:
        return MetricsPage(
            self._counters,
            self._states,
            self._process,
            frozenset(self._families),
            self._labels,
            frozenset(self._overflowing),
        )

    def _plain(self, line: bytes) -> None:
        if line.startswith(_TYPE):
            name = line[len(_TYPE) :].partition(b" ")[0].decode("ascii", "replace")
            self._families.add(name.removesuffix("_total"))
        elif line.startswith(_PROCESS):
            self._process = float(line.split()[1])

    def _count(self, kind: str, labels: dict[str, str], value: float, identity: int) -> None:
        if kind not in self._labels:
            self._labels[kind] = frozenset(labels)
            self._families.add(FAMILIES[ANSWERED if kind == LATENCY else kind])
        if labels and set(labels.values()) == {OVERFLOW}:
            self._overflowing.add(kind)
            return
        if HEALTH_CHECK in labels.values() or not 0 <= value < SENTINEL:
            return
        if series := _series(kind, labels, self._caller):
            key = series, identity
            self._counters[key] = self._counters.get(key, 0.0) + value


def _sample(rest: bytes) -> tuple[dict[str, str], float]:
    inside, end, value = rest.rpartition(b"}")
    if not end:
        raise ValueError("the labels do not end")
    labels = {name.decode(): _text(text) for name, text in _LABEL.findall(inside)}
    return labels, float(value.split()[0])


def _text(raw: bytes) -> str:
    if b"\\" in raw:
        raw = _ESCAPE.sub(lambda found: _ESCAPES[found[0]], raw)
    return raw.decode("utf-8", "replace")


def _series(kind: str, labels: dict[str, str], caller: str | None) -> Series | None:
    """Return the series of a sample, or None if it does not name its deployment."""
    of = labels.get("model_id")
    if of is None:
        return None
    if of in _NOTHING:
        return _unrouted(kind, labels)
    caller_name = _caller(labels, caller) if caller else None
    if kind not in (FAILURES, COOLDOWNS):
        return Series(kind, of, caller=caller_name)
    return Series(kind, of, *_error(labels), caller=caller_name)


def _caller(labels: dict[str, str], label: str) -> str:
    """Return the caller's name, or "" if it has none, which LiteLLM writes as `None`."""
    name = labels.get(label, "")
    return "" if name in _NOTHING else name


def _unrouted(kind: str, labels: dict[str, str]) -> Series | None:
    """Return the series of calls that reached no deployment."""
    names = (labels.get("model_group", ""), labels.get("requested_model", ""))
    name = next((name for name in names if name not in _NOTHING), None)
    if name is None or kind not in _UNROUTED:
        return None
    error = _error(labels) if kind == FAILURES else (None, None)
    return Series(_UNROUTED[kind], name, *error)


def _error(labels: dict[str, str]) -> tuple[str | None, int | None]:
    status = _STATUS.fullmatch(labels.get("exception_status", ""))
    named = _CLASS.fullmatch(labels.get("exception_class", "None"))
    error_class = named[0] if named and named[0] != "None" else None
    return error_class, int(status[0]) if status else None


def finite(value: object) -> float | None:
    """Return a finite number, or None for others and for the sentinels that mean "no limit"."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and abs(value) < SENTINEL else None
