"""The proxy's `/metrics/`: the samples that are asked for, and what they say. A pure parser."""

import math
import re
from typing import NamedTuple
from urllib.parse import urlencode

# Health checks call the models too; they are nobody's use of them.
HEALTH_CHECK = "litellm-internal-health-check"
# LiteLLM writes the largest int64 where there is no limit.
SENTINEL = 9e18
# With `prometheus_metrics_max_series_per_metric` it counts what is beyond in one series of these.
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
"""Failures without a deployment, of the name that was asked for."""
UNROUTED = "unrouted"
"""Requests without a deployment, of the name that was asked for."""

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
"""The metric that each kind of counter belongs to, as the proxy's configuration names it."""
WITHOUT_LICENCE = "litellm_not_a_premium_user_metric"
"""Older versions offer this and nothing else to those who have no licence."""

_COUNTERS = {
    **{f"{name}_total".encode(): kind for kind, name in FAMILIES.items() if kind != ANSWERED},
    b"litellm_llm_api_latency_metric_sum": LATENCY,
    b"litellm_llm_api_latency_metric_count": ANSWERED,
}
_UNROUTED = {FAILURES: REFUSED, REQUESTS: UNROUTED}
_STATE = b"litellm_deployment_state"
_PROCESS = b"process_start_time_seconds"

WHOLE = "/metrics/"
"""Asks for everything, so that the page names each metric that the proxy has."""
TARGET = "/metrics/?" + urlencode(
    [("name[]", name.decode()) for name in (*_COUNTERS, _STATE, _PROCESS)]
)
"""Asks for these samples alone: no buckets, no creation times."""


class Series(NamedTuple):
    """A counter of a deployment (its id), or of the name that a call without one asked for."""

    kind: str
    of: str
    error_class: str | None = None
    status_code: int | None = None
    caller: str | None = None


class Page(NamedTuple):
    """What one answer says."""

    counters: dict[tuple[Series, int], float]
    """By series and the hash of its labels: each is a counter of its own, and falls by itself."""
    states: dict[str, dict[str, float]]
    """By deployment and the model name of the series: 0 healthy, 1 partial, 2 complete outage."""
    process: float | None
    """When the process that answered was started, by its own clock; null: several share a page."""
    families: frozenset[str]
    """The metrics that the page names, with samples or without."""
    labels: dict[str, frozenset[str]]
    """The labels of each kind that has samples."""
    overflowing: frozenset[str]
    """The kinds of which some samples may belong to any deployment."""

    def has(self, kind: str) -> bool:
        """Whether zero means zero: the metric is there, and each sample names its deployment."""
        labels = self.labels.get(kind)
        named = labels is None or "model_id" in labels
        return FAMILIES[kind] in self.families and named and kind not in self.overflowing

    def has_unrouted(self, kind: str) -> bool:
        """Likewise of those without a deployment: each sample says what was asked for."""
        labels = self.labels.get(kind)
        return self.has(kind) and (
            labels is None or not labels.isdisjoint(("model_group", "requested_model"))
        )

    def missing(self) -> list[str]:
        """The metrics of which nothing can be said."""
        return sorted(name for kind, name in FAMILIES.items() if not self.has(kind))


def parse(body: bytes, caller: str | None = None) -> Page:
    """The page; `caller` is the label that names callers, if they are wanted.

    Unknown samples and labels are skipped. ValueError: it is cut short, or garbage.
    """
    if body and not body.endswith(b"\n"):
        raise ValueError("the last line has no end")
    reader = _Reader(caller)
    for line in body.split(b"\n"):
        reader.read(line)
    return reader.page()


class _Reader:
    """Reads one page, line by line."""

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
            states[model] = max(value, states.get(model, 0.0))  # several workers: each has one

    def page(self) -> Page:
        return Page(
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
        raise ValueError("labels without an end")
    labels = {name.decode(): _text(text) for name, text in _LABEL.findall(inside)}
    return labels, float(value.split()[0])


def _text(raw: bytes) -> str:
    if b"\\" in raw:
        raw = _ESCAPE.sub(lambda found: _ESCAPES[found[0]], raw)
    return raw.decode("utf-8", "replace")


def _series(kind: str, labels: dict[str, str], caller: str | None) -> Series | None:
    """The series of a sample; None: it does not name its deployment."""
    of = labels.get("model_id")
    if of is None:
        return None
    if of in _NOTHING:
        return _unrouted(kind, labels)
    who = _caller(labels, caller) if caller else None
    if kind not in (FAILURES, COOLDOWNS):
        return Series(kind, of, caller=who)
    return Series(kind, of, *_error(labels), caller=who)


def _caller(labels: dict[str, str], label: str) -> str:
    """The caller's name; empty: it has none, for which LiteLLM writes `None`."""
    name = labels.get(label, "")
    return "" if name in _NOTHING else name


def _unrouted(kind: str, labels: dict[str, str]) -> Series | None:
    """The series of a call for which no deployment was chosen."""
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
    """A number that is one: neither infinite nor one of the sentinels for `no limit`."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and abs(value) < SENTINEL else None
