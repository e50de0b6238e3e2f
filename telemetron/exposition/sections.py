"""The families of sources, queues, model deployments, workloads and findings."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from telemetron.document import Finding, ModelDeployment, Queue, SourceRow, Workload
from telemetron.exposition import agents
from telemetron.exposition.family import (
    NONE,
    Family,
    Samples,
    SectionSeries,
    labels,
    moment,
    single,
    states,
)
from telemetron.exposition.finished import Finished

_SOURCE = ("source", "collector")
_QUEUE = ("source", "queue", "group")
_MODEL = ("source", "model", "deployment")
_WORKLOAD = ("source", "namespace", "kind", "workload")

SOURCES = (
    Family("telemetron_source_status", (*_SOURCE, "status"), "1 for the source's status, else 0."),
)
SOURCE_STATUSES = ("starting", "ok", "degraded", "stale", "failing", "off")

QUEUES = (
    Family("telemetron_queue_depth", _QUEUE, "Waiting tasks."),
    Family("telemetron_queue_lag", _QUEUE, "Offsets behind the end of the log."),
    Family("telemetron_queue_unacknowledged", _QUEUE, "Tasks delivered, but not acknowledged."),
    Family("telemetron_queue_consumers", _QUEUE, "Group members that read the queue."),
    Family(
        "telemetron_queue_oldest_timestamp_seconds",
        _QUEUE,
        "When the oldest waiting task was submitted.",
    ),
    Family(
        "telemetron_queue_consumed_timestamp_seconds",
        _QUEUE,
        "When a committed offset last advanced.",
    ),
)
MODELS = (
    Family(
        "telemetron_model_status", (*_MODEL, "status"), "1 for the deployment's status, else 0."
    ),
    Family("telemetron_model_tokens_per_minute", _MODEL, "Tokens in the last minute."),
    Family("telemetron_model_limit_tokens_per_minute", _MODEL, "Configured limit of tokens."),
    Family("telemetron_model_requests_per_minute", _MODEL, "Requests in the last minute."),
    Family("telemetron_model_limit_requests_per_minute", _MODEL, "Configured limit of requests."),
    Family(
        "telemetron_model_cooldown_until_timestamp_seconds",
        _MODEL,
        "Latest possible end of its cooldown.",
    ),
    Family(
        "telemetron_model_cooldowns_total",
        _MODEL,
        "Cooldowns since Telemetron started.",
        "counter",
    ),
)
MODEL_STATUSES = ("healthy", "unhealthy", "cooling_down", "unknown")

WORKLOADS = (
    Family(
        "telemetron_workload_rollout", (*_WORKLOAD, "status"), "1 for the rollout's status, else 0."
    ),
)
ROLLOUTS = ("complete", "progressing", "stuck", "paused")
PASSING = ("Job", "Pod")
"""Kinds whose names are new each time, so that each would be a series for ever."""

FINDING = Family("telemetron_finding", ("rule", "severity"), "Findings by rule and severity.")


def sections(finished: Finished) -> Mapping[str, SectionSeries]:
    """Return the series of each section."""
    return {
        "sources": SectionSeries(SOURCES, _of_source, _source),
        "findings": SectionSeries((FINDING,), _of_findings, lambda found: (single(found[1]),)),
        "agents": agents.series(finished),
        "litellm": SectionSeries(MODELS, _of_model, _model, _model_worth),
        "queues": SectionSeries(QUEUES, _of_queue, _queue, _queue_worth),
        "workload": SectionSeries(WORKLOADS, _of_workload, _workload, _workload_worth),
    }


def tallied(findings: Iterable[Finding]) -> Iterable[tuple[tuple[str, str], int]]:
    """Return the rules and severities of the findings, and how many findings each has."""
    return sorted(Counter([(one.rule, one.severity) for one in findings]).items())


def _of_findings(found: tuple[tuple[str, str], int]) -> str:
    rule, severity = found[0]
    return labels(rule=rule, severity=severity)


def _of_source(row: SourceRow) -> str:
    return labels(source=row.key, collector=row.collector)


def _source(row: SourceRow) -> Iterator[Samples]:
    yield states("status", SOURCE_STATUSES, row.status)


def _of_queue(queue: Queue) -> str:
    return labels(source=queue.source, queue=queue.name, group=queue.consumer_group)


def _queue(queue: Queue) -> Iterator[Samples]:
    yield single(queue.depth)
    yield single(queue.lag)
    yield single(queue.unacknowledged)
    yield single(queue.consumers)
    yield moment(queue.oldest_submitted_at)
    yield moment(queue.consumed_at)


def _queue_worth(queue: Queue) -> int:
    """Rank queues that nobody reads first, then by the order of magnitude of what waits."""
    waiting = max(queue.depth or 0, queue.lag or 0)
    return waiting.bit_length() + (64 if waiting and not queue.consumers else 0)


def _of_model(model: ModelDeployment) -> str:
    return labels(source=model.source, model=model.model, deployment=model.id)


def _model(model: ModelDeployment) -> Iterator[Samples]:
    yield states("status", MODEL_STATUSES, model.status)
    yield single(model.tpm)
    yield single(model.tpm_max)
    yield single(model.rpm)
    yield single(model.rpm_max)
    yield moment(model.cooldown_until)
    yield single(model.cooldowns.count)


def _model_worth(model: ModelDeployment) -> int:
    return {"healthy": 0, "unknown": 1, "cooling_down": 2}.get(model.status, 3)


def _of_workload(one: Workload) -> str:
    return labels(
        source=one.source, namespace=one.namespace, kind=one.kind, workload=one.deployment_name
    )


def _workload(one: Workload) -> Iterator[Samples]:
    is_known = one.live is not None and one.kind not in PASSING
    yield states("status", ROLLOUTS, one.live.rollout) if is_known and one.live else NONE


def _workload_worth(one: Workload) -> int:
    rollout = one.live.rollout if one.live else None
    return {"stuck": 3, "paused": 2, "progressing": 1}.get(rollout or "", 0)
