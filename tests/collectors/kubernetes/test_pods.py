"""Pods that the recorded ones do not cover."""

import msgspec
import pytest

from telemetron.document import Limits
from telemetron_collectors.kubernetes.api import objects
from telemetron_collectors.kubernetes.pods import seen_pod
from tests.collectors.kubernetes.things import AT, container, pod

BEFORE = "2026-11-28T09:00:00Z"


def seen(status, spec=None, annotations=None, **options):
    one = pod("p", status=status, annotations=annotations)
    one["spec"].update(spec or {})
    raw = msgspec.json.encode(one)
    return seen_pod(msgspec.json.decode(raw, type=objects.Pod), **options).pod


def ended(code, reason=None, **more):
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


def statuses(*states, **more):
    return [
        {"name": f"c{index}", "restartCount": 1, "state": state, **more}
        for index, state in enumerate(states)
    ]


def test_pod_without_status_is_unknown():
    one = seen({})
    assert (one.status, one.ready, one.reason, one.restarts) == ("Unknown", None, None, None)
    assert one.last_exit is None


def test_a_succeeded_pod_is_well():
    found = statuses(ended(1, "Error"))
    assert seen({"phase": "Succeeded", "containerStatuses": found}).reason is None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (ended(0, "Completed"), None),
        (ended(0), None),
        (ended(0, "OOMKilled"), "OOMKilled"),
        (ended(2), "Error"),
        (ended(137, "OOMKilled"), "OOMKilled"),
        ({"waiting": {}}, None),
        ({"running": {}}, None),
        (None, None),
    ],
)
def test_state_of_a_container_is_the_reason(state, reason):
    assert seen({"phase": "Running", "containerStatuses": statuses(state)}).reason == reason


def test_worst_container_is_the_reason():
    creating = {"waiting": {"reason": "PodInitializing"}}
    crashing = {"waiting": {"reason": "CrashLoopBackOff"}}
    init = statuses(ended(0, "Completed"), crashing)
    one = seen({"initContainerStatuses": init, "containerStatuses": statuses(creating)})
    assert (one.reason, one.container, one.restarts) == ("CrashLoopBackOff", "c1", 3)
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    one = seen({"containerStatuses": statuses(creating), "conditions": [gated]})
    assert one.reason == "SchedulingGated"
    assert seen({"containerStatuses": statuses(creating)}).reason == "PodInitializing"


def test_termination_messages_are_shown_only_if_configured():
    status = {"containerStatuses": statuses(ended(1, "Error", message="boom"))}
    assert seen(status).message is None
    assert seen(status, termination_messages=True).message == "boom"


def test_the_last_exit_is_the_latest_failure_and_names_its_container():
    one = seen(
        {
            "containerStatuses": [
                *statuses(ended(1, "Error", finishedAt=BEFORE)),
                {"name": "app", "lastState": ended(2, "Error", finishedAt=AT)},
                *statuses(ended(3, "Error")),
            ]
        }
    )
    assert (one.last_exit.exit_code, one.last_exit.container) == (2, "app")
    unknown = seen({"containerStatuses": statuses(ended(3), ended(3))})
    assert (unknown.last_exit.exit_code, unknown.last_exit.at) == (3, None)


def test_an_exit_without_failure_hides_no_failure():
    killed = ended(137, "OOMKilled", finishedAt=BEFORE)
    done = ended(0, "Completed", finishedAt=AT)
    both = [
        {"name": "app", "state": {"running": {}}, "lastState": killed},
        {"name": "rotate", "state": done},
    ]
    last = seen({"phase": "Running", "containerStatuses": both}).last_exit
    assert (last.reason, last.exit_code, last.container) == ("OOMKilled", 137, "app")
    last = seen({"phase": "Running", "containerStatuses": both[1:]}).last_exit
    assert (last.reason, last.exit_code, last.container) == ("Completed", 0, "rotate")
    again = [{"name": "app", "state": ended(0, finishedAt=AT), "lastState": killed}]
    assert seen({"containerStatuses": again}).last_exit.reason == "OOMKilled"


def test_a_sidecar_that_ends_with_its_pod_hides_no_failure():
    status = {
        "phase": "Failed",
        "initContainerStatuses": [{"name": "proxy", "state": ended(137, "Error", finishedAt=AT)}],
        "containerStatuses": [{"name": "main", "state": ended(1, "Error", finishedAt=BEFORE)}],
    }
    spec = {"initContainers": [{"name": "proxy", "restartPolicy": "Always"}]}
    assert seen(status, spec).last_exit.container == "main"
    assert seen({**status, "phase": "Running"}, spec).last_exit.container == "proxy"


def test_the_image_is_the_default_containers():
    spec = {"containers": [container("proxy:1"), {"name": "app", "image": "app:1"}]}
    default = {"kubectl.kubernetes.io/default-container": "app"}
    assert seen({}, spec).image == "proxy:1"
    assert seen({}, spec, default).image == "app:1"
    assert seen({}, spec, {"kubectl.kubernetes.io/default-container": "gone"}).image == "proxy:1"


def test_restarts_are_those_of_all_but_ephemeral_containers():
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    found = {kind: statuses({"running": {}}) for kind in kinds}
    assert seen(found).restarts == 2
    assert seen({"ephemeralContainerStatuses": statuses(ended(1, "Error"))}).last_exit is None


def test_limits_are_of_all_containers():
    one = pod("p")
    one["spec"]["containers"] = [container(), container(cpu="1", memory="1Gi")]
    found = seen_pod(msgspec.convert(one, objects.Pod, strict=False)).pod
    assert found.limits == Limits("1500m", "1280Mi")
    one["spec"]["containers"] = None
    found = seen_pod(msgspec.convert(one, objects.Pod, strict=False)).pod
    assert (found.limits, found.image) == (Limits(), None)


def resizing(reason, type="PodResizePending", **status):
    pending = {"type": type, "status": "True", "reason": reason, "message": "too large"}
    ready = {"type": "Ready", "status": "True"}
    found = seen({"phase": "Running", "conditions": [ready, pending], **status})
    return found.reason, found.message


@pytest.mark.parametrize("reason", ["Infeasible", "Deferred"])
def test_a_resize_that_waits_is_the_reason_of_a_pod_that_is_well(reason):
    assert resizing(reason) == (reason, "PodResizePending: too large")
    crash = statuses({"waiting": {"reason": "CrashLoopBackOff"}})
    assert resizing(reason, containerStatuses=crash)[0] == "CrashLoopBackOff"


def test_a_resize_in_progress_is_a_reason_only_if_it_fails():
    assert resizing(None, "PodResizeInProgress") == (None, None)
    assert resizing("Error", "PodResizeInProgress") == ("Error", "PodResizeInProgress: too large")


def test_the_limits_of_a_resized_pod_are_those_in_force():
    one = pod("p")
    in_force = {"limits": {"cpu": "1", "memory": "1Gi"}}
    one["status"]["containerStatuses"][0]["resources"] = in_force
    found = seen_pod(msgspec.convert(one, objects.Pod, strict=False)).pod
    assert (found.limits, found.reason) == (Limits("1", "1Gi"), None)
