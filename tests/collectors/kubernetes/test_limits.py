"""The limits of a pod as a whole."""

import msgspec
import pytest

from telemetron.document import Limits
from telemetron_collectors.kubernetes.api.objects import PodSpec, PodStatus
from telemetron_collectors.kubernetes.limits import common, limits_of


def container(name="app", cpu=None, memory=None, **more):
    limits = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    return {"name": name, "resources": {"limits": limits}, **more}


def sidecar(name="proxy", cpu=None, memory=None):
    return container(name, cpu, memory, restartPolicy="Always")


def limits(containers, inits=(), status=None, **spec):
    whole = {"containers": containers, "initContainers": list(inits), **spec}
    return limits_of(msgspec.convert(whole, PodSpec), msgspec.convert(status or {}, PodStatus))


def reported(**statuses):
    """A status in which each container has these limits in force."""
    found = [{"name": name, "resources": {"limits": limits}} for name, limits in statuses.items()]
    return {"containerStatuses": found}


APP = container("app", "1", "1Gi")


def test_a_native_sidecar_is_added():
    assert limits([APP], [sidecar("proxy", "500m", "256Mi")]) == Limits("1500m", "1280Mi")
    assert limits([APP, APP]) == Limits("2", "2Gi")


def test_a_sidecar_without_limits_leaves_the_pod_unlimited():
    assert limits([APP], [sidecar()]) == Limits()
    assert limits([APP], [sidecar("proxy", cpu="1")]) == Limits("2", None)


def test_an_init_container_counts_if_it_needs_more_than_all_that_run_later():
    assert limits([APP], [container("init", "500m", "4Gi")]) == Limits("1", "4Gi")
    before = [sidecar("proxy", "1", "1Gi"), container("init", "500m", "4Gi")]
    assert limits([APP], before) == Limits("2", "5Gi")
    after = [container("init", "500m", "4Gi"), sidecar("proxy", "1", "1Gi")]
    assert limits([APP], after) == Limits("2", "4Gi")
    assert limits([APP], [container("init")]) == Limits()


@pytest.mark.parametrize("none", ["0", "0Gi", "x"])
def test_limit_of_zero_is_unlimited(none):
    assert limits([container("app", none, "1Gi")]) == Limits(None, "1Gi")
    assert limits([]) == Limits()


@pytest.mark.parametrize(
    ("cpus", "total"),
    [
        (["9223372036854775807"] * 2 + ["123456789n"], "18446744073709551614123456789n"),
        (["9223372036854775807", "1"], "9223372036854775808"),
        (["1e40"], "9223372036854775807"),
        (["1e4000000"], None),
    ],
)
def test_a_huge_quantity_is_a_limit_too(cpus, total):
    assert limits([container(str(at), one) for at, one in enumerate(cpus)]).cpu == total


def test_limits_of_the_pod_replace_those_of_its_containers():
    pod = {"limits": {"cpu": "2", "memory": "1Gi"}}
    assert limits([container()], resources=pod) == Limits("2", "1Gi")
    larger = {"limits": {"cpu": "3", "memory": "2Gi"}}
    assert limits([container("app", "1", "512Mi")], resources=larger) == Limits("3", "2Gi")
    assert limits([APP], resources={"limits": {"cpu": "2"}}) == Limits("2", "1Gi")
    assert limits([APP], resources={"requests": {"cpu": "2"}}) == Limits("1", "1Gi")


def test_overhead_is_added_to_what_is_limited():
    overhead = {"cpu": "250m", "memory": "120Mi"}
    assert limits([APP], overhead=overhead) == Limits("1250m", "1144Mi")
    assert limits([container("app", "1")], overhead=overhead) == Limits("1250m", None)


def test_while_a_pod_is_resized_the_status_counts():
    large = container("app", "64", "512Gi")
    now = {"cpu": "1", "memory": "1Gi"}
    assert limits([large], status=reported(app=now)) == Limits("1", "1Gi")
    assert limits([APP], status=reported(app={"cpu": "2", "memory": "2Gi"})) == Limits("2", "2Gi")
    assert limits([APP, large], status=reported(other=now)) == Limits("65", "513Gi")
    proxy = {"name": "proxy", "resources": {"limits": now}}
    status = {"initContainerStatuses": [proxy, {"name": "init", "resources": {}}]}
    inits = [sidecar("proxy", "8", "8Gi"), container("init", "1", "1Gi")]
    assert limits([APP], inits, status) == Limits("2", "2Gi")


def test_while_the_limits_of_a_pod_are_resized_the_status_counts():
    pod = {"limits": {"cpu": "64", "memory": "512Gi"}}
    status = {"resources": {"limits": {"cpu": "3", "memory": "2Gi"}}}
    assert limits([container()], status=status, resources=pod) == Limits("3", "2Gi")
    assert limits([APP], status=status) == Limits("1", "1Gi")


def test_differing_limits_are_null():
    assert common([Limits("1", "4Gi"), Limits("1", "64Gi")]) == Limits("1", None)
    assert common([Limits("1", "4Gi")] * 2) == Limits("1", "4Gi")
    assert common([Limits("1", "4Gi"), Limits()]) == Limits()
