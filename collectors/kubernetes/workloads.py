"""Workloads: what is shown of a Deployment, StatefulSet, DaemonSet or Job. Pure functions.

`rollout` follows kubectl's `rollout status` (its polymorphichelpers/rollout_status.go).
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from collectors.kubernetes.declaration import Declaration, declared
from collectors.kubernetes.objects import (
    Condition,
    DaemonSet,
    Deployment,
    Job,
    StatefulSet,
)
from collectors.kubernetes.pods import limit
from telemetron.document import Live, Owner


class SeenWorkload(Struct, frozen=True, gc=False):
    """One workload, without its pods."""

    owner: Owner | None
    """Its controller."""
    agent: Declaration | None
    live: Live
    replicas: int | None
    """Most pods it may have, if nothing scales it."""
    scalable: bool
    max_cpu: str | None
    max_ram: str | None
    is_over: bool = False
    """A job that has finished."""
    is_selected: bool = True
    """The configured label selector fits the pods of its template."""


def seen_workload(kind: str, one: Any) -> SeenWorkload:
    """What is shown of a workload of one of the `VIEWS`' kinds."""
    live, replicas = VIEWS[kind](one)
    template = one.spec.template
    containers = (template.spec.containers if template.spec else None) or []
    owner = one.metadata.owner
    return SeenWorkload(
        owner=Owner(owner.kind, owner.name) if owner else None,
        agent=declared(
            one.metadata.annotations, template.metadata.annotations if template.metadata else None
        ),
        live=Live(
            **live,
            image=containers[0].image if containers else None,
        ),
        replicas=replicas,
        scalable=kind in ("Deployment", "StatefulSet"),
        max_cpu=limit(containers, "cpu"),
        max_ram=limit(containers, "memory"),
        is_over=kind == "Job" and live["rollout"] in ("complete", "stuck"),
    )


def deployment(one: Deployment) -> tuple[dict[str, Any], int]:
    """Its state, and its replicas."""
    desired = _or(one.spec.replicas, 1)
    status = one.status
    progressing = _condition(status.conditions, "Progressing")
    rollout = _deployment_rollout(one, desired, progressing)
    cause = _cause(status.conditions, progressing, rollout)
    return {
        "desired": desired,
        "ready": status.ready_replicas or 0,
        "available": status.available_replicas or 0,
        "rolled_out_at": progressing.last_update_time if progressing else None,
        "rollout": rollout,
        "reason": cause.reason if cause else None,
        "message": cause.message if cause else None,
    }, desired


def _deployment_rollout(one: Deployment, desired: int, progressing: Condition | None) -> str:
    status = one.status
    updated = status.updated_replicas or 0
    if one.spec.paused:
        return "paused"
    if _is_unobserved(one):
        return "progressing"
    if progressing and progressing.reason == "ProgressDeadlineExceeded":
        return "stuck"
    is_rolling = (
        updated < desired
        or (status.replicas or 0) > updated
        or (status.available_replicas or 0) < updated
    )
    return "progressing" if is_rolling else "complete"


def _cause(
    conditions: Sequence[Condition] | None, progressing: Condition | None, rollout: str
) -> Condition | None:
    """The condition that tells most: pods cannot be made, it is stuck, too few are available."""
    failure = _condition(conditions, "ReplicaFailure")
    if failure and failure.status == "True":
        return failure
    if rollout == "stuck":
        return progressing
    available = _condition(conditions, "Available")
    if available and available.status == "False":
        return available
    return progressing if rollout in ("progressing", "paused") else None


def stateful_set(one: StatefulSet) -> tuple[dict[str, Any], int]:
    """Its state, and its replicas."""
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
        return None  # whoever deletes the pods decides; kubectl has no word for it
    if _is_unobserved(one) or (status.ready_replicas or 0) < desired:
        return "progressing"
    rolling = strategy.rolling_update if strategy else None
    if rolling and rolling.partition:
        wanted = desired - rolling.partition
        return "progressing" if (status.updated_replicas or 0) < wanted else "complete"
    return "progressing" if status.update_revision != status.current_revision else "complete"


def daemon_set(one: DaemonSet) -> tuple[dict[str, Any], int]:
    """Its state, and the number of nodes that should run it."""
    status = one.status
    desired = status.desired_number_scheduled or 0
    return {
        "desired": desired,
        "ready": status.number_ready or 0,
        "available": status.number_available or 0,
        "rollout": _daemon_set_rollout(one, desired),
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
    """Its state, and how many of its pods may run at once."""
    spec, status = one.spec, one.status
    parallelism = _or(spec.parallelism, 1)
    complete = _condition(status.conditions, "Complete")
    failed = _condition(status.conditions, "Failed")
    rollout, cause, desired = "progressing", None, parallelism
    if spec.completions is not None:
        desired = max(0, min(parallelism, spec.completions - (status.succeeded or 0)))
    if complete and complete.status == "True":
        rollout, cause, desired = "complete", complete, 0
    elif failed and failed.status == "True":
        rollout, cause, desired = "stuck", failed, 0
    elif spec.suspend:
        rollout, cause, desired = "paused", _condition(status.conditions, "Suspended"), 0
    return {
        "desired": desired,
        "ready": status.ready or 0,
        "rollout": rollout,
        "reason": cause.reason if cause else None,
        "message": cause.message if cause else None,
    }, parallelism


VIEWS: dict[str, Any] = {
    "Deployment": deployment,
    "StatefulSet": stateful_set,
    "DaemonSet": daemon_set,
    "Job": job,
}


def _is_unobserved(one: Deployment | StatefulSet | DaemonSet) -> bool:
    """Whether its controller has not seen its latest generation."""
    return (one.metadata.generation or 0) > (one.status.observed_generation or 0)


def _condition(conditions: Sequence[Condition] | None, type: str) -> Condition | None:
    return next((one for one in conditions or () if one.type == type), None)


def _or(number: int | None, default: int) -> int:
    return default if number is None else number
