"""Why a pod is not well; `tests/real/kubernetes/test_pod_status.py` asks kubectl's own code."""

import msgspec
import pytest

from telemetron_collectors.kubernetes.api import objects
from telemetron_collectors.kubernetes.trouble import is_ready, trouble_of
from tests.collectors.kubernetes.things import AT, pod

RUNNING = {"running": {}}
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
FAILED = {"terminated": {"exitCode": 1, "reason": "Error"}}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
CRASHING = {"waiting": {"reason": "CrashLoopBackOff"}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}
PROXY = [{"name": "proxy", "restartPolicy": "Always"}]
SIDECAR = {"initContainers": PROXY}


def condition(type, status="False", reason=None, message=None):
    return {"type": type, "status": status, "reason": reason, "message": message}


def regular(**states):
    """Statuses of containers by name; those that run are ready."""
    return [
        {"name": name, "ready": "running" in state, "state": state}
        for name, state in states.items()
    ]


def decoded(status, spec=None, **metadata):
    one = pod("p", status=status, **metadata)
    one["spec"].update(spec or {})
    return msgspec.json.decode(msgspec.json.encode(one), type=objects.Pod)


def found(status, spec=None, **metadata):
    """(reason, container)"""
    trouble = trouble_of(decoded(status, spec, **metadata))
    return trouble.reason, trouble.container


def message(status, spec=None, **metadata):
    return trouble_of(decoded(status, spec, **metadata)).message


# containers


def test_a_sidecar_that_was_killed_with_its_pod_hides_no_failure():
    status = {
        "phase": "Failed",
        "initContainerStatuses": regular(proxy=FAILED),
        "containerStatuses": regular(main=KILLED),
    }
    initialized = {"conditions": [condition("Initialized", "True")]}
    assert found({**status, **initialized}, SIDECAR) == ("OOMKilled", "main")
    assert found(status, SIDECAR) == ("OOMKilled", "main")
    assert found({**status, "containerStatuses": []}, SIDECAR) == ("Error", "proxy")


def test_a_sidecar_that_crashes_while_main_runs_is_named():
    status = {
        "phase": "Running",
        "conditions": [condition("Initialized", "True"), condition("Ready")],
        "initContainerStatuses": regular(proxy=CRASHING),
        "containerStatuses": regular(main=RUNNING),
    }
    assert found(status, SIDECAR) == ("CrashLoopBackOff", "proxy")
    started = [{**one, "started": True} for one in regular(proxy=CRASHING)]
    rest = {"phase": "Running", "initContainerStatuses": started}
    assert found({**rest, "containerStatuses": regular(main=KILLED)}, SIDECAR)[1] == "main"
    assert found({**rest, "containerStatuses": regular(main=RUNNING)}, SIDECAR)[1] == "proxy"


def test_a_sidecar_that_crashes_is_hidden_by_none_that_starts():
    status = {
        "phase": "Running",
        "conditions": [condition("Initialized", "True"), condition("Ready")],
        "initContainerStatuses": [
            {"name": "slow", "started": False, "state": RUNNING},
            *regular(proxy=CRASHING),
        ],
        "containerStatuses": regular(main=RUNNING),
    }
    both = {"initContainers": [{"name": "slow", "restartPolicy": "Always"}, *PROXY]}
    assert found(status, both) == ("CrashLoopBackOff", "proxy")


def test_pending_init_container_is_named():
    init = regular(first=DONE, migrate=RUNNING, warm=INITIALIZING)
    status = {"initContainerStatuses": init, "containerStatuses": regular(app=INITIALIZING)}
    assert found({"phase": "Pending", **status}) == ("PodInitializing", "migrate")
    starting = [{"name": "proxy", "started": False, "state": RUNNING}]
    started = [{"name": "proxy", "started": True, "state": RUNNING}]
    rest = {"phase": "Pending", "containerStatuses": regular(app=CREATING)}
    assert found({"initContainerStatuses": starting, **rest}, SIDECAR)[1] == "proxy"
    assert found({"initContainerStatuses": started, **rest}, SIDECAR)[1] == "app"


def test_an_init_container_that_fails_is_named():
    for state, reason in ((CRASHING, "CrashLoopBackOff"), (FAILED, "Error"), (KILLED, "OOMKilled")):
        init = {"initContainerStatuses": regular(migrate=state)}
        status = {"phase": "Pending", **init, "containerStatuses": regular(app=INITIALIZING)}
        assert found(status) == (reason, "migrate")


@pytest.mark.parametrize("better", [DONE, CREATING, INITIALIZING, RUNNING])
def test_a_failure_is_hidden_by_no_container_that_does_better(better):
    for states in ({"a": better, "b": CRASHING}, {"b": CRASHING, "a": better}):
        status = {"phase": "Running", "conditions": [condition("Ready")]}
        assert found({**status, "containerStatuses": regular(**states)}) == (
            "CrashLoopBackOff",
            "b",
        )


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ({"exitCode": 3}, ("Error", "ExitCode:3")),
        ({"exitCode": 137, "signal": 9}, ("Error", "Signal:9")),
        ({"exitCode": 0, "signal": 9}, ("Error", "Signal:9")),
        ({"exitCode": 3, "reason": "Completed"}, ("Error", "ExitCode:3")),
        ({"exitCode": 3, "reason": "Error"}, ("Error", None)),
        ({"exitCode": 0}, ("Completed", None)),
    ],
)
def test_the_end_of_a_container_without_a_reason_has_kubectls_word(end, words):
    status = {
        "phase": "Running",
        "conditions": [condition("Ready")],
        "containerStatuses": regular(main={"terminated": end}),
    }
    trouble = trouble_of(decoded(status))
    assert (trouble.reason, trouble.message, trouble.container) == (*words, "main")


def test_ephemeral_containers_change_nothing():
    well = {"phase": "Running", "conditions": [condition("Ready", "True")]}
    for state in (CRASHING, FAILED, DONE, CREATING):
        debugger = regular(debugger=state)
        status = {**well, "containerStatuses": regular(main=RUNNING)}
        assert found({**status, "ephemeralContainerStatuses": debugger}) == (None, None)


# deletion, and the pod's end


def test_a_pod_that_is_deleted_is_terminating_unless_it_has_failed():
    crashing = {"containerStatuses": regular(main=CRASHING), "reason": "Other"}
    assert found({"phase": "Running", **crashing}, deletionTimestamp=AT) == ("Terminating", None)
    killed = {"phase": "Failed", "containerStatuses": regular(main=KILLED)}
    assert found(killed, deletionTimestamp=AT) == ("OOMKilled", "main")
    done = {"phase": "Succeeded", "containerStatuses": regular(main=DONE)}
    assert found(done, deletionTimestamp=AT) == (None, None)


def test_message_says_why_a_pod_is_terminated():
    target = condition("DisruptionTarget", "True", "EvictionByEvictionAPI", "evicting")
    status = {"phase": "Running", "conditions": [target]}
    assert message(status, deletionTimestamp=AT) == "EvictionByEvictionAPI: evicting"
    failed = {"phase": "Failed", "containerStatuses": regular(main=FAILED), "conditions": [target]}
    assert found(failed) == ("Error", "main")
    assert message(failed) == "EvictionByEvictionAPI: evicting"


def test_a_pod_on_a_lost_node():
    status = {"phase": "Running", "reason": "NodeLost", "containerStatuses": regular(main=RUNNING)}
    assert found(status, deletionTimestamp=AT) == ("NodeLost", None)


def test_the_pods_own_reason_comes_before_its_containers():
    for reason in ("Evicted", "DeadlineExceeded", "NodeAffinity"):
        status = {"phase": "Failed", "reason": reason, "containerStatuses": regular(main=FAILED)}
        assert found(status) == (reason, None)


def test_failed_pod_without_containers_has_the_disruption():
    target = condition("DisruptionTarget", "True", "DeletionByPodGC", "node gone")
    assert found({"phase": "Failed", "conditions": [target]}) == ("DeletionByPodGC", None)
    for state in (RUNNING, CREATING, DONE):
        status = {"phase": "Failed", "containerStatuses": regular(main=state)}
        assert found({**status, "conditions": [target]}) == ("DeletionByPodGC", None)
        assert found(status) == ("Failed", None)
    past = condition("DisruptionTarget", "False", "DeletionByPodGC")
    assert found({"phase": "Failed", "conditions": [past]}) == ("Failed", None)


# readiness


def test_a_container_that_fails_its_probe_is_named():
    ready = condition("Ready", reason="ContainersNotReady", message="unready: [app]")
    both = [
        {"name": "helper", "ready": True, "started": True, "state": RUNNING},
        {"name": "app", "ready": False, "started": True, "state": RUNNING},
    ]
    status = {"phase": "Running", "conditions": [ready], "containerStatuses": both}
    assert found(status) == ("ContainersNotReady", "app")
    assert message(status) == "unready: [app]"
    startup = {**status, "containerStatuses": [{**both[1], "started": False}]}
    assert found(startup) == ("ContainersNotReady", "app")
    sidecar = [{**both[1], "name": "proxy"}]
    rest = {"initContainerStatuses": sidecar, "containerStatuses": both[:1]}
    assert found({**status, **rest}, SIDECAR) == ("ContainersNotReady", "proxy")


def test_a_completed_main_container_is_named():
    status = {"phase": "Running", "conditions": [condition("Ready", reason="ContainersNotReady")]}
    other = {"containerStatuses": regular(main=DONE, helper=RUNNING)}
    assert found({**status, **other}) == ("NotReady", "main")
    assert found({**status, "containerStatuses": regular(main=DONE)}) == ("Completed", "main")
    probing = [*regular(main=DONE), {"name": "helper", "ready": False, "state": RUNNING}]
    assert found({**status, "containerStatuses": probing}) == ("NotReady", "main")


def test_a_readiness_gate_that_is_not_true_is_named():
    gates = {"readinessGates": [{"conditionType": "up"}, {"conditionType": "balanced"}]}
    status = {
        "phase": "Running",
        "conditions": [condition("up", "True"), condition("Ready", "Unknown")],
        "containerStatuses": regular(main=RUNNING),
    }
    assert found(status, gates) == ("ReadinessGatesNotReady", None)
    assert '"balanced"' in message(status, gates)
    said = condition("Ready", reason="ReadinessGatesNotReady", message="kubelet's words")
    assert message({**status, "conditions": [said]}, gates) == "kubelet's words"


def test_pod_that_is_not_ready_because_of_its_node():
    status = {"phase": "Running", "containerStatuses": regular(main=RUNNING)}
    lost = [condition("Ready"), condition("ContainersReady", "True")]
    assert found({**status, "conditions": lost}) == ("NodeNotReady", None)
    assert found({**status, "conditions": lost[:1]}) == ("NodeNotReady", None)
    gate = {"readinessGates": [{"conditionType": "balanced"}]}
    assert found({**status, "conditions": lost}, gate) == ("NodeNotReady", None)
    assert found({"phase": "Running", "conditions": lost}) == ("NodeNotReady", None)
    contrary = [condition("Ready"), condition("ContainersReady")]
    assert found({**status, "conditions": contrary}) == ("NotReady", None)
    other = condition("Ready", reason="SomethingElse")
    assert found({**status, "conditions": [other]}) == ("SomethingElse", None)


def test_a_pod_whose_containers_are_not_known():
    status = {"phase": "Running", "conditions": [condition("Ready")]}
    assert found(status) == ("ContainersNotReady", None)
    unknown = condition("Ready", reason="UnknownContainerStatuses")
    assert found({**status, "conditions": [unknown]}) == ("UnknownContainerStatuses", None)


def test_readiness_without_the_condition_is_the_containers():
    status = {"phase": "Running", "containerStatuses": regular(main=RUNNING)}
    assert is_ready(decoded(status)) is None
    probing = [{"name": "main", "ready": False, "state": RUNNING}]
    assert is_ready(decoded({**status, "containerStatuses": probing})) is False
    assert found({**status, "containerStatuses": probing}) == ("ContainersNotReady", "main")
    assert is_ready(decoded({**status, "conditions": [condition("Ready", "True")]})) is True
    assert is_ready(decoded({**status, "conditions": [condition("Ready", "Unknown")]})) is False


# before it runs


@pytest.mark.parametrize("reason", ["Unschedulable", "SchedulingGated", "SchedulerError"])
def test_unscheduled_pod_has_the_schedulers_reason(reason):
    said = condition("PodScheduled", "False", reason, "0/2 nodes")
    assert found({"phase": "Pending", "conditions": [said]}) == (reason, None)
    assert message({"phase": "Pending", "conditions": [said]}) == "0/2 nodes"


def test_pod_without_conditions_has_its_phase_as_reason():
    assert found({"phase": "Pending"}) == ("Pending", None)
    assert found({"phase": "Unknown"}) == ("Unknown", None)
    assert found({}) == (None, None)
    scheduled = condition("PodScheduled", "True")
    assert found({"phase": "Pending", "conditions": [scheduled]}) == ("Pending", None)


def test_an_unscheduled_pod_is_not_ready():
    status = {"phase": "Pending", "conditions": [condition("PodScheduled", "False")]}
    assert is_ready(decoded(status, {"nodeName": None})) is False
    assert is_ready(decoded(status, {"nodeName": "node-1"})) is None
