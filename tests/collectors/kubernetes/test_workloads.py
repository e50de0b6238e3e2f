"""Rollouts, as kubectl judges them."""

import msgspec
import pytest

from collectors.kubernetes.objects import KINDS
from collectors.kubernetes.workloads import seen_workload
from tests.collectors.kubernetes.things import deployment, template


def seen(kind, spec, status, generation=1):
    one = {"metadata": {"name": "w", "generation": generation}, "spec": spec, "status": status}
    return seen_workload(kind, msgspec.convert(one, KINDS[kind].type))


def changed(status, spec=None, generation=1):
    one = deployment("web", 3)
    one["metadata"]["generation"] = generation
    one["status"].update(status)
    one["spec"].update(spec or {})
    raw = msgspec.json.decode(msgspec.json.encode(one), type=KINDS["Deployment"].type)
    return seen_workload("Deployment", raw).live


def condition(type, status, reason):
    return {"type": type, "status": status, "reason": reason, "message": f"{reason}."}


def test_a_deployment_rolls_out():
    assert changed({}).rollout == "complete"
    assert changed({}, generation=2).rollout == "progressing"
    assert changed({"updatedReplicas": 2}).rollout == "progressing"
    assert changed({"replicas": 4}).rollout == "progressing"
    assert changed({"availableReplicas": 2}).rollout == "progressing"
    assert changed({}, {"paused": True}).rollout == "paused"
    late = condition("Progressing", "False", "ProgressDeadlineExceeded")
    assert changed({"conditions": [late]}).rollout == "stuck"
    assert changed({"conditions": [late]}, generation=2).rollout == "progressing"


def test_the_condition_that_tells_most():
    progressing = condition("Progressing", "True", "ReplicaSetUpdated")
    few = condition("Available", "False", "MinimumReplicasUnavailable")
    failure = condition("ReplicaFailure", "True", "FailedCreate")
    assert (
        changed({"updatedReplicas": 1, "conditions": [progressing]}).reason == "ReplicaSetUpdated"
    )
    assert changed({"conditions": [progressing]}).reason is None
    assert changed({"conditions": [progressing, few]}).reason == "MinimumReplicasUnavailable"
    assert changed({"conditions": [progressing, few, failure]}).reason == "FailedCreate"
    assert changed({"conditions": [progressing, few, failure]}).message == "FailedCreate."
    assert changed({"conditions": None}).rolled_out_at is None


def test_absent_numbers_have_their_defaults():
    seen_one = seen("Deployment", {"template": {}}, {})
    live = seen_one.live
    assert (live.desired, live.ready, live.available, live.rollout) == (1, 0, 0, "progressing")
    assert (seen_one.max_cpu, seen_one.agent, live.image) == (None, None, None)
    assert seen("StatefulSet", {"replicas": 0, "template": {}}, {}).live.desired == 0


WHOLE = {
    "observedGeneration": 1,
    "updatedReplicas": 3,
    "readyReplicas": 3,
    "availableReplicas": 3,
    "currentRevision": "a",
    "updateRevision": "a",
}


@pytest.mark.parametrize(
    ("strategy", "status", "rollout"),
    [
        (None, {}, "complete"),
        (None, {"readyReplicas": 2}, "progressing"),
        (None, {"observedGeneration": 0}, "progressing"),
        (None, {"updateRevision": "b"}, "progressing"),
        ({"type": "OnDelete"}, {"updateRevision": "b"}, None),
        (
            {"rollingUpdate": {"partition": 2}},
            {"updateRevision": "b", "updatedReplicas": 1},
            "complete",
        ),
        (
            {"rollingUpdate": {"partition": 2}},
            {"updateRevision": "b", "updatedReplicas": 0},
            "progressing",
        ),
        ({"rollingUpdate": {"partition": 0}}, {"updateRevision": "b"}, "progressing"),
    ],
)
def test_a_stateful_set_rolls_out(strategy, status, rollout):
    spec = {"replicas": 3, "template": template(), "updateStrategy": strategy}
    assert seen("StatefulSet", spec, {**WHOLE, **status}).live.rollout == rollout


@pytest.mark.parametrize(
    ("strategy", "status", "rollout"),
    [
        (None, {}, "complete"),
        (None, {"updatedNumberScheduled": 1}, "progressing"),
        (None, {"numberAvailable": 1}, "progressing"),
        (None, {"observedGeneration": 0}, "progressing"),
        ({"type": "OnDelete"}, {}, None),
    ],
)
def test_a_daemon_set_rolls_out(strategy, status, rollout):
    whole = {
        "observedGeneration": 1,
        "desiredNumberScheduled": 2,
        "updatedNumberScheduled": 2,
        "numberReady": 2,
        "numberAvailable": 2,
    }
    one = seen("DaemonSet", {"updateStrategy": strategy}, {**whole, **status})
    assert (one.live.rollout, one.replicas, one.scalable) == (rollout, 2, False)


@pytest.mark.parametrize(
    ("spec", "status", "rollout", "desired", "reason"),
    [
        ({}, {}, "progressing", 1, None),
        ({"parallelism": 2, "completions": 5}, {"succeeded": 4}, "progressing", 1, None),
        ({"suspend": True}, {}, "paused", 0, None),
        (
            {"suspend": True},
            {"conditions": [condition("Suspended", "True", "JobSuspended")]},
            "paused",
            0,
            "JobSuspended",
        ),
        (
            {},
            {"conditions": [condition("Failed", "True", "BackoffLimitExceeded")]},
            "stuck",
            0,
            "BackoffLimitExceeded",
        ),
        (
            {},
            {"conditions": [condition("Complete", "True", "CompletionsReached")]},
            "complete",
            0,
            "CompletionsReached",
        ),
    ],
)
def test_a_job(spec, status, rollout, desired, reason):
    one = seen("Job", spec, status)
    assert (one.live.rollout, one.live.desired, one.live.reason) == (rollout, desired, reason)
    assert one.is_over == (rollout in ("complete", "stuck"))


def test_the_image_is_that_of_the_templates_default_container():
    containers = [{"name": "proxy", "image": "proxy:1"}, {"name": "app", "image": "app:1"}]
    default = {"kubectl.kubernetes.io/default-container": "app"}
    spec = {"template": template(*containers, annotations=default)}
    assert changed({}, spec).image == "app:1"
    assert changed({}, {"template": template(*containers)}).image == "proxy:1"
