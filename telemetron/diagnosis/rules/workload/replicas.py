"""Replicas: pods that are refused, not ready, or not rolled out."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from telemetron.diagnosis.rule import Rule, Symptom
from telemetron.diagnosis.rules.workload.symptoms import is_job, on_nodes, whole
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import counted
from telemetron.document import Workload

FAILED = (
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "PodFailurePolicy",
    "MaxFailedIndexesExceeded",
)
NEW = timedelta(hours=24)
"""How long a failed Job is more than information."""
REJECTED = ("FailedCreate", "ReplicaFailure", "FailedCreatePodSandBox")


def replicas_missing(one: Workload, _: View) -> Iterator[Symptom]:
    """The API server refuses pods: a quota, an admission webhook."""
    live = one.live
    if live is None or live.reason not in REJECTED:
        return
    if (
        live.desired is not None
        and live.active_pods is not None
        and live.active_pods < live.desired
    ):
        yield whole(
            "ReplicasMissing",
            one,
            f"{one.kind} {one.deployment_name} has {live.active_pods} of"
            f" {counted(live.desired, 'pod')}:"
            f" {live.message or live.reason}",
            ("live/reason", "live/message", "live/active_pods", "live/desired"),
            provides=[("pods", one.key), ("workload", one.key)],
        )


def rollout_stuck(one: Workload, _: View) -> Iterator[Symptom]:
    """A rollout is out of time."""
    if one.live is not None and one.live.rollout == "stuck" and not is_job(one):
        yield whole(
            "RolloutStuck",
            one,
            f"The rollout of {one.kind} {one.deployment_name} is stuck"
            f"{f': {one.live.message}' if one.live.message else ''}",
            ("live/rollout", "live/reason", "live/message"),
            provides=[("rollout", one.key)],
            depends=[("pods", one.key)],
            since=one.live.rolled_out_at,
        )


def unavailable(one: Workload, _: View) -> Iterator[Symptom]:
    """No pod is ready of those that should be."""
    live = one.live
    if live is None or not live.desired or live.ready != 0 or is_job(one):
        return
    yield whole(
        "WorkloadUnavailable",
        one,
        f"None of {live.desired} pods of {one.kind} {one.deployment_name} is ready"
        if live.desired > 1
        else f"The only pod of {one.kind} {one.deployment_name} is not ready",
        ("live/ready", "live/desired"),
        provides=[("workload", one.key)],
        depends=[("pods", one.key), ("rollout", one.key), *on_nodes(one, one.pods)],
        is_group=True,
    )


def job_failed(one: Workload, view: View) -> Iterator[Symptom]:
    """A Job has used up its retries or its time, and none of the same CronJob succeeded since."""
    live = one.live
    if is_job(one) and live and live.reason in FAILED and not _is_made_good(one, view):
        at = _ended_at(one)
        is_new = at is not None and view.now - at < NEW
        yield whole(
            "JobFailed",
            one,
            f"Job {one.deployment_name} failed: {live.reason}",
            ("live/reason", "live/message"),
            since=at,
        )._replace(severity="warning" if is_new else None)


# lookups


def _is_made_good(one: Workload, view: View) -> bool:
    """Whether a later Job of its owner ended well."""
    if one.owner is None:
        return False
    at = _ended_at(one)
    siblings = view.find("jobs of owner", (one.namespace, one.owner.kind, one.owner.name))
    return any(
        other.live
        and other.live.rollout == "complete"
        and (at is None or (_ended_at(other) or at) >= at)
        for other in siblings
    )


def _ended_at(one: Workload) -> datetime | None:
    """When its last pod ended, as far as pods are left."""
    return max(
        (pod.last_exit.at for pod in one.pods if pod.last_exit and pod.last_exit.at), default=None
    )


RULES = (
    Rule(
        "ReplicasMissing",
        "workload",
        "warning",
        15,
        10,
        "`live.reason` is `FailedCreate` and `active_pods` is below `desired`",
        "The API server refuses to create pods: a quota is used up or an admission webhook denies.",
        "Read `live.message`; raise the quota (`kubectl describe quota`) or mend the object that "
        "the webhook refuses.",
        replicas_missing,
    ),
    Rule(
        "RolloutStuck",
        "workload",
        "warning",
        0,
        5,
        "`live.rollout` is `stuck`",
        "The rollout has not progressed within its deadline.",
        "Look at the newest pods and their `reason`; `kubectl rollout undo` returns to the "
        "previous version.",
        rollout_stuck,
    ),
    Rule(
        "WorkloadUnavailable",
        "workload",
        "critical",
        60,
        10,
        "`live.ready` is 0 and `live.desired` is above 0",
        "No pod of the workload is ready.",
        "Read `pods[].reason`; run `kubectl describe pod POD` and look at the readiness probe.",
        unavailable,
    ),
    Rule(
        "JobFailed",
        "workload",
        "info",
        0,
        0,
        "`live.reason` of a Job: `BackoffLimitExceeded`, `DeadlineExceeded` and their like",
        "A Job has failed for good. It is a warning for 24 hours; a Job whose CronJob has succeeded"
        " since is no finding.",
        "Run `kubectl logs job/JOB`; create the Job again after the cause is mended.",
        job_failed,
    ),
)
