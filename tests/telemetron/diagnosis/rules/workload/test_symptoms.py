"""Symptoms of one pod, of several pods, and of a whole workload."""

import msgspec
import pytest

from telemetron.diagnosis.rules.workload.symptoms import of_pods, some
from telemetron.document import Live, Pod, Workload


def workload(*ready: bool) -> Workload:
    """A Deployment with such pods on two nodes."""
    pods = [
        Pod(pod_id=f"w-{at}", status="Running", ready=one, node=f"node-{at % 2}")
        for at, one in enumerate(ready)
    ]
    live = Live(desired=len(pods), ready=sum(ready))
    made = Workload(deployment_name="w", namespace="prod", kind="Deployment", live=live, pods=pods)
    return msgspec.structs.replace(made, key="w")


@pytest.mark.parametrize(
    ("ready", "path", "severity", "provided"),
    [
        ((False, True, True), "pods/w-0", None, False),
        ((False, False, True), None, None, False),
        ((False, False), None, "critical", True),
        ((False,), None, "critical", True),
    ],
)
def test_one_of_several_pods_is_the_root_else_the_workload(
    ready: tuple[bool, ...], path: str | None, severity: str | None, provided: bool
) -> None:
    one = workload(*ready)
    bad = [pod for pod in one.pods if not pod.ready]
    symptom = of_pods("Rule", one, bad, "", ("reason",), since=None)
    assert (symptom.path, symptom.severity) == (path, severity)
    assert (("workload", "w") in symptom.provides) == provided
    assert {("pod", one.key, pod.pod_id) for pod in bad} <= {*symptom.provides}
    assert ("node", one.source, "node-0") in symptom.depends


def test_the_words_for_pods() -> None:
    one = workload(False, False, True)
    assert some(one.pods[:1], one) == "Pod w-0 of Deployment w"
    assert some(one.pods[:2], one) == "2 of 3 pods of Deployment w"
    assert some(one.pods, one) == "All 3 pods of Deployment w"
