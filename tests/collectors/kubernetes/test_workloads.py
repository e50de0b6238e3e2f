"""Rollouts, as kubectl judges them."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from telemetron.document import Limits
from telemetron_collectors.kubernetes.api.objects import KINDS
from telemetron_collectors.kubernetes.workloads import seen_workload, with_last_rollout
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
    new = condition("Progressing", "True", "ReplicaSetUpdated")
    assert changed({"conditions": [new]}).rollout == "complete"
    assert changed({"availableReplicas": 2, "conditions": [new]}).rollout == "progressing"
    few = {"replicas": 2, "updatedReplicas": 2}
    assert changed({**few, "conditions": [new]}).rollout == "progressing"
    assert changed({}, {"paused": True}).rollout == "paused"
    late = condition("Progressing", "False", "ProgressDeadlineExceeded")
    assert changed({"conditions": [late]}).rollout == "stuck"
    assert changed({"conditions": [late]}, generation=2).rollout == "progressing"


def test_a_rollout_that_was_complete_stays_complete():
    done = {
        **condition("Progressing", "True", "NewReplicaSetAvailable"),
        "message": 'ReplicaSet "web-1" has successfully progressed.',
    }
    few = condition("Available", "False", "MinimumReplicasUnavailable")
    crashed = changed({"readyReplicas": 0, "availableReplicas": 0, "conditions": [done, few]})
    assert (crashed.rollout, crashed.reason) == ("complete", "MinimumReplicasUnavailable")
    assert (crashed.desired, crashed.ready, crashed.available) == (3, 0, 0)
    gone = changed({"replicas": 1, "updatedReplicas": 1, "conditions": [done]})
    assert (gone.rollout, gone.reason) == ("complete", None)
    rolled_back = changed({"updatedReplicas": 0, "conditions": [done]})
    assert (rolled_back.rollout, rolled_back.reason) == ("progressing", None)


AT = datetime(2026, 11, 28, 10, tzinfo=UTC)


class Deployed:
    """A Deployment as it changes; times are in minutes."""

    def __init__(self):
        self.seen = None

    def is_now(self, minute, reason, revision="1", created=0, **status):
        """The minute at which it was rolled out, once its condition says this."""
        progressing = condition("Progressing", "Unknown", reason)
        progressing["lastUpdateTime"] = AT + timedelta(minutes=minute)
        one = deployment("web", 3)
        one["metadata"]["creationTimestamp"] = AT + timedelta(minutes=created)
        one["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": revision}
        one["status"].update(status, conditions=[progressing])
        raw = msgspec.json.encode(one)
        new = seen_workload("Deployment", msgspec.json.decode(raw, type=KINDS["Deployment"].type))
        self.seen = with_last_rollout(self.seen, new)
        at = self.seen.live.rolled_out_at
        return (at - AT) / timedelta(minutes=1) if at else None


DONE, PAUSED, RESUMED = "NewReplicaSetAvailable", "DeploymentPaused", "DeploymentResumed"


@pytest.mark.parametrize("revision", ["1", None])
def test_pausing_and_resuming_is_no_rollout(revision):
    web = Deployed()
    assert web.is_now(1, DONE, revision) == 1
    assert web.is_now(2, PAUSED, revision) == 1
    assert web.is_now(3, RESUMED, revision) == 1
    assert web.is_now(4, DONE, revision) == 1
    assert web.is_now(5, "ReplicaSetUpdated", revision and "2", updatedReplicas=1) == 5
    assert web.is_now(6, "ReplicaSetUpdated", revision and "2") == 6
    assert web.is_now(7, DONE, revision and "2") == 7


def test_a_rollout_that_is_paused_goes_on_when_it_is_resumed():
    web = Deployed()
    assert web.is_now(1, "ReplicaSetUpdated", updatedReplicas=1) == 1
    assert web.is_now(2, PAUSED, updatedReplicas=1) == 1
    assert web.is_now(3, RESUMED, updatedReplicas=1) == 1
    assert web.is_now(4, "ReplicaSetUpdated", updatedReplicas=2) == 4
    assert web.is_now(5, DONE) == 5


def test_a_rollout_whose_time_was_never_seen_has_none():
    web = Deployed()
    assert web.is_now(2, PAUSED) is None
    assert web.is_now(3, RESUMED) is None
    assert web.is_now(4, DONE) is None
    assert web.is_now(5, "NewReplicaSetCreated", "2", updatedReplicas=0) == 5


def test_a_crash_while_it_is_paused_is_no_rollout():
    web = Deployed()
    assert web.is_now(1, DONE) == 1
    assert web.is_now(2, PAUSED, availableReplicas=0) == 1
    assert web.is_now(3, "ReplicaSetUpdated", availableReplicas=2) == 1
    assert web.is_now(4, DONE) == 1


def test_a_rollout_of_which_only_the_end_was_seen_is_one():
    web = Deployed()
    assert web.is_now(1, DONE, "1") == 1
    assert web.is_now(5, DONE, "2") == 5
    other = Deployed()
    assert other.is_now(1, DONE, None) == 1
    assert other.is_now(5, DONE, None) == 5


def test_a_rollback_is_a_rollout():
    web = Deployed()
    assert web.is_now(1, DONE, "2") == 1
    assert web.is_now(1, DONE, "3", updatedReplicas=0) == 1
    assert web.is_now(2, "ReplicaSetUpdated", "3", updatedReplicas=1) == 2


def test_recreated_deployment_has_a_time_of_its_own():
    web = Deployed()
    assert web.is_now(1, DONE) == 1
    assert web.is_now(5, DONE, created=4) == 5


def test_condition_with_the_worst_news_is_the_reason():
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
    assert (seen_one.limits, seen_one.agent, live.image) == (Limits(), None, None)
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
        (
            {"rollingUpdate": {"partition": 0}},
            {"updateRevision": "b", "updatedReplicas": 2},
            "progressing",
        ),
        # The controller is about to make b the current revision.
        ({"rollingUpdate": {"partition": 0}}, {"updateRevision": "b"}, "complete"),
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
    assert (one.live.rollout, one.replicas) == (rollout, 2)


def test_a_daemon_set_whose_nodes_were_not_counted_yet():
    new = seen("DaemonSet", {}, {"desiredNumberScheduled": 0})
    assert (new.live.desired, new.replicas, new.live.rollout) == (None, None, "progressing")
    none = seen("DaemonSet", {}, {"desiredNumberScheduled": 0, "observedGeneration": 1})
    assert (none.live.desired, none.replicas, none.live.rollout) == (0, 0, "complete")


@pytest.mark.parametrize("ready", [None, 0, 2])
def test_ready_pods_of_a_job_are_known_once_its_controller_counted_them(ready):
    assert seen("Job", {}, {"active": 2, "ready": ready}).live.ready == ready


def ended(type, reason):
    return {"conditions": [condition(type, "True", reason)], "active": 1}


@pytest.mark.parametrize(
    ("spec", "status", "rollout", "desired", "reason"),
    [
        ({}, {}, "progressing", 1, None),
        ({"parallelism": 2, "completions": 5}, {"succeeded": 4}, "progressing", 1, None),
        ({"suspend": True}, {}, "paused", 0, None),
        ({"suspend": True}, ended("Suspended", "JobSuspended"), "paused", 0, "JobSuspended"),
        ({"parallelism": 0, "completions": 5}, {}, "paused", 0, None),
        ({}, ended("Failed", "BackoffLimitExceeded"), "stuck", 0, "BackoffLimitExceeded"),
        (
            {"parallelism": 2, "completions": 2},
            ended("FailureTarget", "BackoffLimitExceeded"),
            "stuck",
            0,
            "BackoffLimitExceeded",
        ),
        (
            {"suspend": True},
            ended("FailureTarget", "DeadlineExceeded"),
            "stuck",
            0,
            "DeadlineExceeded",
        ),
        ({}, ended("SuccessCriteriaMet", "SuccessPolicy"), "complete", 0, "SuccessPolicy"),
        ({}, ended("Complete", "CompletionsReached"), "complete", 0, "CompletionsReached"),
    ],
)
def test_a_job(spec, status, rollout, desired, reason):
    one = seen("Job", spec, status)
    assert (one.live.rollout, one.live.desired, one.live.reason) == (rollout, desired, reason)


def test_a_job_is_over_when_its_last_pods_have_ended():
    assert seen("Job", {}, ended("Failed", "BackoffLimitExceeded")).is_over
    assert seen("Job", {}, ended("Complete", "CompletionsReached")).is_over
    assert not seen("Job", {}, ended("FailureTarget", "BackoffLimitExceeded")).is_over
    assert not seen("Job", {}, ended("SuccessCriteriaMet", "SuccessPolicy")).is_over


@pytest.mark.parametrize(
    ("spec", "status", "desired"),
    [
        # of an Indexed Job: an index that failed for good is not tried again
        ({"parallelism": 5, "completions": 5}, {"succeeded": 1, "failedIndexes": "2"}, 3),
        ({"parallelism": 9, "completions": 9}, {"succeeded": 1, "failedIndexes": "0,3-5,7"}, 3),
        ({"parallelism": 2, "completions": 9}, {"succeeded": 1, "failedIndexes": "0,3-5,7"}, 2),
        # of a work queue: no pod is started after the first success
        ({"parallelism": 3}, {"active": 2}, 3),
        ({"parallelism": 3}, {"succeeded": 2, "active": 1}, 1),
        ({"parallelism": 3}, {"succeeded": 2}, 0),
        # those that have ended and are not counted yet
        (
            {"parallelism": 3},
            {"active": 2, "uncountedTerminatedPods": {"succeeded": ["uid-1"]}},
            2,
        ),
        (
            {"parallelism": 3, "completions": 3},
            {"succeeded": 1, "uncountedTerminatedPods": {"succeeded": ["1"], "failed": ["2"]}},
            1,
        ),
        ({"parallelism": 3, "completions": 3}, {"uncountedTerminatedPods": {}}, 3),
        ({"parallelism": 1, "completions": 1}, {"succeeded": 3}, 0),
    ],
)
def test_how_many_pods_a_job_wants(spec, status, desired):
    assert seen("Job", spec, status).live.desired == desired


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        ({}, 1),
        ({"parallelism": 3}, 3),
        ({"completions": 2, "parallelism": 5}, 2),
        ({"completions": 5, "parallelism": 2}, 2),
        ({"completions": 5}, 1),
        ({"parallelism": 0}, 0),
    ],
)
def test_how_many_pods_a_job_may_have(spec, most):
    assert seen("Job", spec, {}).replicas == most


def test_the_image_is_that_of_the_templates_default_container():
    containers = [{"name": "proxy", "image": "proxy:1"}, {"name": "app", "image": "app:1"}]
    default = {"kubectl.kubernetes.io/default-container": "app"}
    spec = {"template": template(*containers, annotations=default)}
    assert changed({}, spec).image == "app:1"
    assert changed({}, {"template": template(*containers)}).image == "proxy:1"
