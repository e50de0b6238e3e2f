"""The limits of random pods are those that the scheduler's own code computes."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron_collectors.kubernetes.api import objects
from telemetron_collectors.kubernetes.api.quantity import parse
from telemetron_collectors.kubernetes.pods import seen_pod
from tests.real.controlplane import ControlPlane
from tests.real.kubernetes.cluster import Cluster
from tests.real.kubernetes.conftest import Watching
from tests.real.kubernetes.view import pods as pods_of

Object = dict[str, Any]
Ask = Callable[[Object], Any]

RESOURCES = ("cpu", "memory")
CPU = ("1", "2", "100m", "250m", "1500m", "64")
MEMORY = ("1Gi", "2Gi", "128Mi", "1536Mi", "512M", "1000Ki", "1500000", "64G")


def quantities(*more: str) -> st.SearchStrategy[Object]:
    """Of both resources, of one, or of none."""
    return st.fixed_dictionaries(
        {}, optional={"cpu": st.sampled_from(CPU + more), "memory": st.sampled_from(MEMORY + more)}
    )


both = st.fixed_dictionaries({"cpu": st.sampled_from(CPU), "memory": st.sampled_from(MEMORY)})
limits = both | both | quantities("0")  # mostly limited, or little else than null would be seen
resources = st.builds(dict, limits=limits)
spec = st.fixed_dictionaries(
    {
        "containers": st.lists(st.builds(dict, resources=resources), min_size=1, max_size=3),
        "initContainers": st.lists(
            st.fixed_dictionaries(
                {"resources": resources}, optional={"restartPolicy": st.just("Always")}
            ),
            max_size=3,
        ),
    },
    optional={
        "resources": st.builds(dict, limits=quantities()),
        "overhead": quantities(),
    },
)


@st.composite
def pods(draw: st.DrawFn) -> Object:
    """As they are made, resized, or not to be resized."""
    pod: Object = {"metadata": {"name": "p"}, "spec": draw(spec), "status": {}}
    pairs = (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses"))
    for field, statuses in pairs:
        for number, one in enumerate(pod["spec"][field]):
            one["name"] = f"{field.lower()}-{number}"
        pod["status"][statuses] = [
            {"name": one["name"], "resources": draw(resources)}
            for one in pod["spec"][field]
            if draw(st.booleans())
        ]
    if "resources" in pod["spec"] and draw(st.booleans()):
        pod["status"]["resources"] = {"limits": draw(both)}
    return pod


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"]["containers"], *pod["spec"]["initContainers"]]


def statuses(pod: Object) -> Object:
    """The resources that its status reports, by container."""
    status = pod["status"]
    found = [*status["containerStatuses"], *status["initContainerStatuses"]]
    return {one["name"]: one["resources"] for one in found}


def in_force(pod: Object) -> Object:
    """The pod as its spec would be if it asked for what its status reports."""
    pod = deepcopy(pod)
    reported = statuses(pod)
    for one in containers(pod):
        if "limits" in reported.get(one["name"], {}):
            one["resources"] = reported[one["name"]]
    own = pod["spec"].get("resources", {}).get("limits", {})
    now = pod["status"].get("resources", {}).get("limits", {})
    own.update({resource: now[resource] for resource in own if resource in now})
    return pod


def is_limited(pod: Object, resource: str) -> bool:
    """Whether the kubelet would limit the pod: it, or each of its containers, has a limit."""

    def has_limit(one: Object) -> bool:
        return bool(parse(one.get("resources", {}).get("limits", {}).get(resource, 0)))

    return has_limit(pod["spec"]) or all(has_limit(one) for one in containers(pod))


def shown(pod: Object) -> Object:
    found: Object = msgspec.to_builtins(seen_pod(msgspec.convert(pod, objects.Pod)).pod.limits)
    return found


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """What k8s.io/component-helpers/resource says of a pod."""
    with ControlPlane(tmp_path_factory.mktemp("plane")).oracle("pod-resources") as ask:
        yield ask


@settings(max_examples=200, deadline=None)
@given(pod=pods())
def test_limits_are_those_in_force(ask: Ask, pod: Object) -> None:
    now = in_force(pod)
    computed = ask(now)["limits"]
    assert shown(pod) == {
        resource: computed[resource] if is_limited(now, resource) else None
        for resource in RESOURCES
    }


@settings(max_examples=200, deadline=None)
@given(pod=pods())
def test_without_a_resize_the_scheduler_counts_the_same(ask: Ask, pod: Object) -> None:
    pod = in_force(pod)
    pod["status"] = {}
    computed = ask(pod)["statusLimits"]
    for resource, limit in shown(pod).items():
        assert limit == (computed[resource] if is_limited(pod, resource) else None)


@settings(max_examples=200, deadline=None)
@given(pod=pods())
def test_during_a_resize_the_scheduler_counts_no_less(ask: Ask, pod: Object) -> None:
    pod["spec"].pop("resources", None)
    computed = ask(pod)["statusLimits"]
    for resource, limit in shown(pod).items():
        assert limit is None or parse(limit) <= parse(computed[resource])


@settings(max_examples=200, deadline=None)
@given(pod=pods())
def test_of_an_infeasible_resize_the_scheduler_counts_what_is_in_force(
    ask: Ask, pod: Object
) -> None:
    pod["spec"].pop("resources", None)
    reported = statuses(pod)
    pod["status"] = {
        "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
        "containerStatuses": [
            {"name": one["name"], "resources": reported.get(one["name"], one["resources"])}
            for one in containers(pod)
        ],
        "initContainerStatuses": [],
    }
    computed = ask(pod)["statusLimits"]
    for resource, limit in shown(pod).items():
        assert limit == (computed[resource] if is_limited(in_force(pod), resource) else None)


def container(name: str, cpu: str, memory: str, **more: Any) -> Object:
    limits = {"cpu": cpu, "memory": memory}
    return {"name": name, "image": "i:1", "resources": {"limits": limits}, **more}


APP = container("app", "1", "1Gi")
PROXY = container("proxy", "500m", "256Mi", restartPolicy="Always")
INIT = container("init", "2", "512Mi")
BARE = {"name": "bare", "image": "i:1"}
MADE: dict[str, tuple[Object, Object]] = {
    "sidecar": (
        {"containers": [APP], "initContainers": [PROXY]},
        {"cpu": "1500m", "memory": "1280Mi"},
    ),
    "unlimited-sidecar": (
        {"containers": [APP], "initContainers": [{**BARE, "restartPolicy": "Always"}]},
        {"cpu": None, "memory": None},
    ),
    "init": (
        {"containers": [APP], "initContainers": [PROXY, INIT]},
        {"cpu": "2500m", "memory": "1280Mi"},
    ),
    "pod-level": (
        {"containers": [BARE], "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}},
        {"cpu": "2", "memory": "1Gi"},
    ),
    "pod-level-over-container": (
        {
            "containers": [container("app", "1", "512Mi")],
            "resources": {"limits": {"cpu": "3", "memory": "2Gi"}},
        },
        {"cpu": "3", "memory": "2Gi"},
    ),
}


async def test_limits_of_pods_as_the_api_server_defaults_them(
    ask: Ask, cluster: Cluster, watching: Watching
) -> None:
    async with watching() as view:
        for name, (spec, _) in MADE.items():
            await cluster.make("Pod", {"metadata": {"name": name}, "spec": spec})
        for name, (_, right) in MADE.items():
            await view.until(partial(pods_of, name=name, kind="Pod", limits=right))
            computed = ask(await cluster.get("Pod", name))["statusLimits"]
            assert computed.items() >= {key: one for key, one in right.items() if one}.items()
