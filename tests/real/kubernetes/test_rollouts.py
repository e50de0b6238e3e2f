"""The rollouts of random workloads are what `kubectl rollout status` says of them."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron_collectors.kubernetes.api.objects import KINDS
from telemetron_collectors.kubernetes.workloads import seen_workload
from tests.real.controlplane import ControlPlane

Object = dict[str, Any]
Ask = Callable[[Object], Any]

ROLLED_OUT = "NewReplicaSetAvailable"
REASONS = (
    *(ROLLED_OUT, "NewReplicaSetCreated", "ReplicaSetUpdated", "FoundNewReplicaSet"),
    *("ProgressDeadlineExceeded", "DeploymentPaused", "DeploymentResumed", "ReplicaSetCreateError"),
)
small = st.integers(0, 3)
generations = st.sampled_from([(1, 0), (1, 1), (2, 1), (2, 2), (2, 3)])


def workload(draw: st.DrawFn, kind: str, spec: Object, *counts: str) -> Object:
    """One with a status: these counts, of which 0 is left out as the API does."""
    generation, observed = draw(generations)
    status = {name: draw(small) for name in counts} | {"observedGeneration": observed}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "w", "generation": generation},
        "spec": {"template": {}, **spec},
        "status": {name: number for name, number in status.items() if number},
    }


@st.composite
def deployments(draw: st.DrawFn) -> Object:
    spec = {"replicas": draw(small), "paused": draw(st.booleans())}
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    one = workload(draw, "Deployment", spec, *counts)
    reason = draw(st.sampled_from(REASONS) | st.none())
    if reason:
        one["status"]["conditions"] = [{"type": "Progressing", "status": "True", "reason": reason}]
    return one


@st.composite
def stateful_sets(draw: st.DrawFn) -> Object:
    strategy: Object = {"type": draw(st.sampled_from(["RollingUpdate", "OnDelete"]))}
    if strategy["type"] == "RollingUpdate" and draw(st.booleans()):
        strategy["rollingUpdate"] = {"partition": draw(small)}
    spec = {"replicas": draw(small), "updateStrategy": strategy, "minReadySeconds": draw(small)}
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    one = workload(draw, "StatefulSet", spec, *counts)
    one["status"]["currentRevision"] = "w-1"
    one["status"]["updateRevision"] = draw(st.sampled_from(["w-1", "w-2"]))
    return one


@st.composite
def daemon_sets(draw: st.DrawFn) -> Object:
    strategy = {"type": draw(st.sampled_from(["RollingUpdate", "OnDelete"]))}
    spec = {"updateStrategy": strategy, "minReadySeconds": draw(small)}
    counts = ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady", "numberAvailable")
    return workload(draw, "DaemonSet", spec, *counts)


def expected(one: Object, answer: Object) -> str | None:
    """What is shown where kubectl answers this."""
    if one["spec"].get("paused"):
        return "paused"
    if "only available for RollingUpdate" in answer.get("error", ""):
        return None
    if "exceeded its progress deadline" in answer.get("error", ""):
        return "stuck"
    if not answer["done"] and not was_complete(one):
        return "progressing"
    return "complete"


def was_complete(one: Object) -> bool:
    """Whether its controller keeps its rollout for complete, whatever its pods do since."""
    status = one["status"]
    reasons = [condition["reason"] for condition in status.get("conditions", ())]
    is_observed = one["metadata"]["generation"] <= status.get("observedGeneration", 0)
    are_new = status.get("replicas", 0) <= status.get("updatedReplicas", 0)
    return reasons == [ROLLED_OUT] and is_observed and are_new


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """What `kubectl rollout status` says of a workload."""
    with ControlPlane(tmp_path_factory.mktemp("plane")).oracle("rollout-status") as ask:
        yield ask


@settings(max_examples=600, deadline=None)
@given(one=deployments() | stateful_sets() | daemon_sets())
def test_rollouts_are_those_of_kubectl(ask: Ask, one: Object) -> None:
    kind = one["kind"]
    seen = seen_workload(kind, msgspec.convert(one, KINDS[kind].type))
    assert seen.live.rollout == expected(one, ask(one))
