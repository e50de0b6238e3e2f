"""Objects of the API: which fields are read, and what is derived from them."""

import msgspec
import pytest

from telemetron_collectors.kubernetes.api.objects import (
    KINDS,
    Container,
    OwnerReference,
    Pod,
    PodSpec,
    ScaleTarget,
    Terminated,
    kind_of,
)
from tests.collectors.kubernetes.things import metadata, pod


def decoded(one):
    return msgspec.json.decode(msgspec.json.encode(one), type=Pod)


def test_only_a_controller_is_the_owner():
    one = pod("p", ("Job", "batch"))
    other = {"kind": "Node", "name": "node-1", "controller": False}
    one["metadata"]["ownerReferences"].insert(0, other)
    assert decoded(one).metadata.owner.name == "batch"
    assert decoded(pod("p")).metadata.owner is None


def test_null_fields_decode_like_absent_ones():
    one = {"metadata": metadata("p"), "spec": {"containers": None}, "status": {"phase": None}}
    assert decoded(one) == decoded({"metadata": metadata("p")})


def test_init_containers_that_always_restart_are_sidecars():
    proxy = Container(name="proxy", restart_policy="Always")
    spec = PodSpec(init_containers=[Container(name="setup"), proxy])
    assert spec.sidecars == {"proxy"}
    assert not PodSpec().sidecars


@pytest.mark.parametrize(
    ("end", "word", "is_failure"),
    [
        (Terminated(exit_code=0), "ExitCode:0", False),
        (Terminated(exit_code=0, reason="Completed"), "ExitCode:0", False),
        (Terminated(exit_code=0, reason="OOMKilled"), "ExitCode:0", True),
        (Terminated(exit_code=3), "ExitCode:3", True),
        (Terminated(exit_code=137, signal=9), "Signal:9", True),
    ],
)
def test_end_of_a_container(end, word, is_failure):
    assert (end.number, end.is_failure) == (word, is_failure)


def test_group_of_a_kind():
    assert (KINDS["Pod"].group, KINDS["Job"].group) == ("", "batch")


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (OwnerReference("apps/v1", "StatefulSet", "db"), "StatefulSet"),
        (OwnerReference("", "StatefulSet", "db"), "StatefulSet"),
        (OwnerReference("apps.kruise.io/v1", "StatefulSet", "db"), "StatefulSet.apps.kruise.io"),
        (ScaleTarget("argoproj.io/v1alpha1", "Rollout", "web"), "Rollout"),
    ],
)
def test_kind_of_another_group_has_its_group(one, kind):
    assert kind_of(one) == kind
