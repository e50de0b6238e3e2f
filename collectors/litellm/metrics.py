"""The proxy's `/metrics/`: the samples that are asked for, and what they say. A pure parser."""

import math
import re
from typing import NamedTuple
from urllib.parse import urlencode

# Health checks call the models too; they are nobody's use of them.
HEALTH_CHECK = "litellm-internal-health-check"
# LiteLLM writes the largest int64 where there is no limit.
SENTINEL = 9e18

_LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPES = {b"\\\\": b"\\", b'\\"': b'"', b"\\n": b"\n"}
_ESCAPE = re.compile(rb"\\[\\\"n]")
_STATUS = re.compile(r"[1-5][0-9][0-9]")
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")

REQUESTS = "requests"
SUCCESSES = "successes"
FAILURES = "failures"
COOLDOWNS = "cooldowns"
TOKENS = "tokens"
SPEND = "spend"
LATENCY = "latency"
ANSWERED = "answered"
REFUSED = "refused"
EVIDENCE = (SUCCESSES, FAILURES, COOLDOWNS)

_COUNTERS = {
    b"litellm_deployment_total_requests_total": REQUESTS,
    b"litellm_deployment_success_responses_total": SUCCESSES,
    b"litellm_deployment_failure_responses_total": FAILURES,
    b"litellm_deployment_cooled_down_total": COOLDOWNS,
    b"litellm_total_tokens_metric_total": TOKENS,
    b"litellm_spend_metric_total": SPEND,
    b"litellm_llm_api_latency_metric_sum": LATENCY,
    b"litellm_llm_api_latency_metric_count": ANSWERED,
}
_STATE = b"litellm_deployment_state"
_PROCESS = b"process_start_time_seconds"

TARGET = "/metrics/?" + urlencode([("name[]", name) for name in (*_COUNTERS, _STATE, _PROCESS)])
"""Asks for these samples alone: no buckets, no creation times."""


class Series(NamedTuple):
    """What is counted: of a deployment (its id), or of a model group where it is `refused`."""

    kind: str
    of: str
    error_class: str | None = None
    status_code: int | None = None


class Page(NamedTuple):
    """What one answer says."""

    counters: dict[Series, float]
    states: dict[str, dict[str, float]]
    """By deployment and the model name of the series: 0 healthy, 1 partial, 2 complete outage."""
    process: float | None
    """When the process that answered was started, by its own clock; null: several share a page."""


def parse(body: bytes) -> Page:
    """The page; unknown samples and labels are skipped. ValueError: it is cut short, or garbage."""
    if body and not body.endswith(b"\n"):
        raise ValueError("the last line has no end")
    page = Page({}, {}, None)
    process = None
    for line in body.split(b"\n"):
        name, brace, rest = line.partition(b"{")
        if brace:
            if name in _COUNTERS:
                _count(page.counters, _COUNTERS[name], *_sample(rest))
            elif name == _STATE:
                labels, value = _sample(rest)
                states = page.states.setdefault(labels.get("model_id", ""), {})
                states[labels.get("litellm_model_name", "")] = value
        elif line.startswith(_PROCESS):
            process = float(line.split()[1])
    return page._replace(process=process)


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


def _count(counters: dict[Series, float], kind: str, labels: dict[str, str], value: float) -> None:
    if labels.get("api_key_alias") == HEALTH_CHECK or not 0 <= value < SENTINEL:
        return
    series = _series(kind, labels)
    if series:
        counters[series] = counters.get(series, 0.0) + value


def _series(kind: str, labels: dict[str, str]) -> Series | None:
    """Where no deployment was left to choose, the router refused: that is its model group's."""
    of = labels.get("model_id", "")
    if of in ("", "None"):
        group = labels.get("model_group", "")
        return Series(REFUSED, group) if kind == FAILURES and group not in ("", "None") else None
    if kind not in (FAILURES, COOLDOWNS):
        return Series(kind, of)
    status = _STATUS.fullmatch(labels.get("exception_status", ""))
    named = _CLASS.fullmatch(labels.get("exception_class", "None"))
    error_class = named[0] if named and named[0] != "None" else None
    return Series(kind, of, error_class, int(status[0]) if status else None)


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
