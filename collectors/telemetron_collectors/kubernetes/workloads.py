"""Workloads: makes a workload of the document from a Deployment, StatefulSet, DaemonSet or Job.

Pure functions. `rollout` follows kubectl's `rollout status` (polymorphichelpers/rollout_status.go),
with one exception: a rollout that the Deployment's controller has recorded as complete stays
complete. kubectl waits for pods again whenever one of them crashes.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from telemetron.document import Limits, Live, Owner
from telemetron_collectors.kubernetes.annotations import Declaration, declared
from telemetron_collectors.kubernetes.api.objects import (
    Condition,
    DaemonSet,
    Deployment,
    DeploymentStatus,
    Job,
    PodSpec,
    StatefulSet,
    kind_of,
)
from telemetron_collectors.kubernetes.limits import limits_of
from telemetron_collectors.kubernetes.pods import image_of

# Reasons of the condition Progressing: the rollout is complete, or must not continue.
ROLLED_OUT = "NewReplicaSetAvailable"
HALTS = ("DeploymentPaused", "DeploymentResumed")
# The conditions that decide how a Job ends, even while its last pods still run.
ENDS = {
    "Complete": "complete",
    "Failed": "stuck",
    "FailureTarget": "stuck",
    "SuccessCriteriaMet": "complete",
}


class SeenWorkload(Struct, frozen=True, gc=False):
    """A workload without its pods."""

    owner: Owner | None
    """The workload's controller."""
    agent: Declaration | None
    live: Live
    replicas: int | None
    """The maximum of pods without an autoscaler."""
    limits: Limits
    """The limits of the template."""
    is_over: bool = False
    """Whether it is a finished Job."""
    rollout: "Rollout | None" = None
    """The last rollout of a Deployment."""
    is_selected: bool = True
    """Whether the configured label selector fits the pods, judged by the template's labels."""


class Rollout(Struct, frozen=True, gc=False):
    """A rollout that the controller of a Deployment has begun."""

    created_at: datetime | None
    """The creation time of the Deployment."""
    revision: str | None
    is_complete: bool
    """All pods have this revision; scaling, pausing and crashes no longer change that."""
    is_halted: bool
    """The condition Progressing describes a pause, no longer the rollout."""


def seen_workload(kind: str, one: Any) -> SeenWorkload:
    """Return a workload; `kind` is one of `CONTROLLERS`."""
    live, replicas = CONTROLLERS[kind](one)
    template = one.spec.template
    annotations = template.metadata.annotations if template.metadata else None
    owner = one.metadata.owner
    return SeenWorkload(
        owner=Owner(kind_of(owner), owner.name) if owner else None,
        agent=declared(one.metadata.annotations, annotations),
        live=Live(**live, image=image_of(annotations, template.spec)),
        replicas=replicas,
        limits=limits_of(template.spec or PodSpec()),
        is_over=kind == "Job" and bool(_true(one.status.conditions, "Complete", "Failed")),
        rollout=_rollout(one) if kind == "Deployment" else None,
    )


def with_last_rollout(old: SeenWorkload | None, new: SeenWorkload) -> SeenWorkload:
    """Return the new version of a workload with the time of its last rollout.

    The condition with this time also changes when a Deployment is paused and resumed.
    """
    was, now = old.rollout if old else None, new.rollout
    if not (old and was and now and was.created_at == now.created_at):
        return new
    at = new.live.rolled_out_at or old.live.rolled_out_at
    if was.is_complete and _is_same(was, now):
        at, now = old.live.rolled_out_at, replace(now, is_complete=True)
    return replace(new, live=replace(new.live, rolled_out_at=at), rollout=now)


def _is_same(was: Rollout, now: Rollout) -> bool:
    """Return whether the complete rollout is still the last; without revisions, judge by pauses."""
    if was.revision != now.revision:
        return False
    return bool(now.revision) or (now.is_complete and (was.is_halted or now.is_halted))


def deployment(one: Deployment) -> tuple[dict[str, Any], int]:
    """Return the fields of `Live`, and the replicas."""
    desired = _or(one.spec.replicas, 1)
    status = one.status
    progressing = _condition(status.conditions, "Progressing")
    rollout = "paused" if one.spec.paused else _deployment_rollout(one, desired, progressing)
    cause = _cause(status.conditions, progressing, rollout)
    has_time = progressing is not None and progressing.reason not in HALTS
    return {
        "desired": desired,
        "ready": status.ready_replicas or 0,
        "available": status.available_replicas or 0,
        "rolled_out_at": progressing.last_update_time if progressing and has_time else None,
        "rollout": rollout,
        "reason": cause.reason if cause else None,
        "message": cause.message if cause else None,
    }, desired


def _deployment_rollout(one: Deployment, desired: int, progressing: Condition | None) -> str:
    status = one.status
    if _is_unobserved(one):
        return "progressing"
    if progressing and progressing.reason == "ProgressDeadlineExceeded":
        return "stuck"
    if progressing and progressing.reason == ROLLED_OUT:
        is_rolling = (status.replicas or 0) > (status.updated_replicas or 0)
    else:
        is_rolling = _is_rolling(status, desired)
    return "progressing" if is_rolling else "complete"


def _is_rolling(status: DeploymentStatus, desired: int) -> bool:
    updated = status.updated_replicas or 0
    return (
        updated < desired
        or (status.replicas or 0) > updated
        or (status.available_replicas or 0) < updated
    )


def _rollout(one: Deployment) -> Rollout:
    """Return the last rollout."""
    desired = _or(one.spec.replicas, 1)
    progressing = _condition(one.status.conditions, "Progressing")
    reason = progressing.reason if progressing else None
    is_halted = reason in HALTS
    is_complete = is_halted and not _is_rolling(one.status, desired)
    if reason == ROLLED_OUT:
        is_complete = _deployment_rollout(one, desired, progressing) == "complete"
    annotations = one.metadata.annotations
    return Rollout(
        created_at=one.metadata.creation_timestamp,
        revision=annotations.revision if annotations else None,
        is_complete=is_complete,
        is_halted=is_halted,
    )


def _cause(
    conditions: Sequence[Condition] | None, progressing: Condition | None, rollout: str
) -> Condition | None:
    """Return the condition with the worst news: creation fails, stuck, too few available."""
    failure = _condition(conditions, "ReplicaFailure")
    if failure and failure.status == "True":
        return failure
    if rollout == "stuck":
        return progressing
    available = _condition(conditions, "Available")
    if available and available.status == "False":
        return available
    is_current = progressing is not None and progressing.reason != ROLLED_OUT
    return progressing if is_current and rollout in ("progressing", "paused") else None


def stateful_set(one: StatefulSet) -> tuple[dict[str, Any], int]:
    """Return the fields of `Live`, and the replicas."""
    desired = _or(one.spec.replicas, 1)
    return {
        "desired": desired,
        "ready": one.status.ready_replicas or 0,
        "available": one.status.available_replicas or 0,
        "rollout": _stateful_set_rollout(one, desired),
    }, desired


def _stateful_set_rollout(one: StatefulSet, desired: int) -> str | None:
    strategy, status = one.spec.update_strategy, one.status
    if strategy and strategy.type == "OnDelete":
        return None  # each pod is updated when a user deletes it; kubectl has no word for that
    if _is_unobserved(one) or not status.observed_generation:
        return "progressing"
    if (status.ready_replicas or 0) < desired:
        return "progressing"
    rolling = strategy.rolling_update if strategy else None
    if rolling:
        wanted = desired - (rolling.partition or 0)
        return "progressing" if (status.updated_replicas or 0) < wanted else "complete"
    return "progressing" if status.update_revision != status.current_revision else "complete"


def daemon_set(one: DaemonSet) -> tuple[dict[str, Any], int | None]:
    """Return the fields of `Live`, and the number of nodes to run on; None: not counted yet."""
    status = one.status
    desired = status.desired_number_scheduled or (0 if status.observed_generation else None)
    return {
        "desired": desired,
        "ready": status.number_ready or 0,
        "available": status.number_available or 0,
        "rollout": _daemon_set_rollout(one, desired or 0),
    }, desired


def _daemon_set_rollout(one: DaemonSet, desired: int) -> str | None:
    strategy, status = one.spec.update_strategy, one.status
    if strategy and strategy.type == "OnDelete":
        return None
    is_rolling = (
        _is_unobserved(one)
        or (status.updated_number_scheduled or 0) < desired
        or (status.number_available or 0) < desired
    )
    return "progressing" if is_rolling else "complete"


def job(one: Job) -> tuple[dict[str, Any], int]:
    """Return the fields of `Live`, and the number of pods that may run at once."""
    parallelism = _or(one.spec.parallelism, 1)
    most = min(parallelism, _or(one.spec.completions, parallelism))
    end = _true(one.status.conditions, *ENDS)
    rollout, cause = "progressing", end
    if end:
        rollout = ENDS[end.type]
    elif one.spec.suspend:
        rollout, cause = "paused", _true(one.status.conditions, "Suspended")
    elif parallelism == 0:
        rollout = "paused"
    return {
        "desired": 0 if end or one.spec.suspend else _wanted(one, parallelism),
        "ready": one.status.ready,
        "rollout": rollout,
        "reason": cause.reason if cause else None,
        "message": cause.message if cause else None,
    }, most


def _wanted(one: Job, parallelism: int) -> int:
    """Return the number of pods that the Job controller runs now (its `manageJob`)."""
    spec, status = one.spec, one.status
    uncounted = status.uncounted_terminated_pods
    succeeded = (status.succeeded or 0) + len(uncounted.succeeded or () if uncounted else ())
    if spec.completions is None:  # a work queue: after a success no pod is started
        return (status.active or 0) if succeeded else parallelism
    left = spec.completions - succeeded - _count(status.failed_indexes)
    return max(0, min(parallelism, left))


def _count(indexes: str | None) -> int:
    """Return the number of indexes in a list such as `1,3-5`."""
    ranges = re.findall(r"(\d+)(?:-(\d+))?", indexes or "")
    return sum([int(last or first) - int(first) + 1 for first, last in ranges])


CONTROLLERS: dict[str, Any] = {
    "Deployment": deployment,
    "StatefulSet": stateful_set,
    "DaemonSet": daemon_set,
    "Job": job,
}


def _is_unobserved(one: Deployment | StatefulSet | DaemonSet) -> bool:
    """Return whether the controller has not yet seen the latest generation."""
    return (one.metadata.generation or 0) > (one.status.observed_generation or 0)


def _condition(conditions: Sequence[Condition] | None, type: str) -> Condition | None:
    return next((one for one in conditions or () if one.type == type), None)


def _true(conditions: Sequence[Condition] | None, *types: str) -> Condition | None:
    """Return the first of these conditions that is true."""
    found = {one.type: one for one in conditions or () if one.status == "True"}
    return next((found[type] for type in types if type in found), None)


def _or(number: int | None, default: int) -> int:
    return default if number is None else number
