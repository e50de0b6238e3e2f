"""Whatever a pod's status is, the state says what `kubectl get` prints of it, or more precisely.

docs/kubernetes.md lists what is more precise; each of its lines is a rule here.
"""

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from telemetron_collectors.kubernetes.api import objects
from telemetron_collectors.kubernetes.pods import SeenPod, seen_pod
from tests.real.controlplane import UNTENDED, ApiError, ControlPlane
from tests.real.kubernetes.anypod import GATE, Object, pods
from tests.real.process import wait_until

STARTING = ("ContainerCreating", "PodInitializing")
PHASES = ("Pending", "Running", "Failed", "Unknown")
MILD = (*STARTING, *PHASES, "Completed", "NotReady", "SchedulingGated", "")
"""Words that a more precise one may replace, in the plain form that `plain` returns."""

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


class Case:
    """One pod as the API server stores it, as it prints it, and as the state shows it."""

    def __init__(self, raw: Object, row: dict[str, Any]) -> None:
        self.raw = raw
        self.row = row
        self.word = plain(row["Status"])
        self.is_init = row["Status"].startswith("Init:")
        self.status = raw["status"]
        self.phase = self.status.get("phase", "")
        self.is_deleted = "deletionTimestamp" in raw["metadata"]
        self.init = self.status.get("initContainerStatuses", [])
        self.undone = [one for one in self.init if not has_exited_with_0(one)]
        self.regular = self.status.get("containerStatuses", [])
        found = raw["spec"].get("initContainers", [])
        self.sidecars = {one["name"] for one in found if one.get("restartPolicy") == "Always"}
        self.lasting = [*self.regular, *(one for one in self.init if one["name"] in self.sidecars)]
        self.shown = seen(raw).pod

    def condition(self, type: str) -> Object:
        return next((one for one in self.status.get("conditions", []) if one["type"] == type), {})

    def has_started(self, init: Object) -> bool:
        """Whether it is a sidecar that the other containers no longer wait for."""
        return init["name"] in self.sidecars and init.get("started", False)

    @property
    def named(self) -> Object:
        """The container that the reason is about."""
        name = self.shown.container
        return next((one for one in [*self.init, *self.regular] if one["name"] == name), {})

    @property
    def was_marked(self) -> bool:
        """Whether `Ready` is False without a reason, though its containers are ready."""
        ready, containers = self.condition("Ready"), self.condition("ContainersReady")
        is_known = containers["status"] == "True" if containers else bool(self.lasting)
        is_cleared = ready.get("status") == "False" and not ready.get("reason")
        return is_cleared and is_known and all(one["ready"] for one in self.lasting)

    @property
    def is_unready(self) -> bool:
        """Whether something says that it is not ready."""
        ready = self.condition("Ready")
        if ready:
            return bool(ready["status"] != "True")
        return not all(one["ready"] for one in self.lasting)

    @property
    def is_unscheduled(self) -> bool:
        """No node has it yet, so that no container of it can be ready."""
        return self.phase == "Pending" and "nodeName" not in self.raw["spec"] and not self.lasting


def seen(raw: Object) -> SeenPod:
    return seen_pod(msgspec.json.decode(msgspec.json.encode(raw), type=objects.Pod))


def plain(status: str) -> str:
    """The column STATUS as a reason: without `Init:`, and without numbers."""
    if re.fullmatch(r"Init:\d+/\d+", status):
        return "PodInitializing"
    word = status.removeprefix("Init:")
    if word == "ExitCode:0":
        return "Completed"
    return "Error" if re.fullmatch(r"(Signal|ExitCode):\d+", word) else word


# the rules: each returns whether the docs say so


def says_the_same(case: Case) -> bool:
    """The reason is the word; a pod that runs and is ready has none."""
    if case.shown.reason is None:
        return case.word in ("Running", "") and not case.is_unready
    return case.shown.reason == case.word and fits_container(case)


def fits_container(case: Case) -> bool:
    """The container named is one of which the word is true."""
    if case.is_init:
        return bool(case.shown.container == awaited(case))
    if case.shown.container is None:
        return case.word in (*PHASES, "Terminating", "SchedulingGated", case.status.get("reason"))
    return case.named["name"] in [one["name"] for one in case.regular] and (
        case.shown.reason in ("NotReady", *words(case.named))
    )


def awaited(case: Case) -> str:
    """The first init container that is neither done nor a sidecar that has started."""
    for one in case.undone:
        if not case.has_started(one):
            return str(one["name"])
    return ""


def has_exited_with_0(container: Object) -> bool:
    end: Object = container["state"].get("terminated", {"exitCode": None})
    return end["exitCode"] == 0


def words(container: Object) -> set[str]:
    """What may be said of a container that waits or has ended."""
    state = container["state"]
    if wait := state.get("waiting", {}).get("reason"):
        return {wait}
    end = state.get("terminated")
    if end is None:
        return set()
    if end.get("reason", "Completed") == "Completed":
        killed = end.get("signal") and not end.get("reason")
        return {"Error"} if end["exitCode"] or killed else {"Completed"}
    return {end["reason"]}


def has_succeeded(case: Case) -> bool:
    """A pod that succeeded is well, however its sidecars ended."""
    return case.phase == "Succeeded" and case.shown.reason is None


def has_lost_its_node(case: Case) -> bool:
    """`Unknown` is the word for it, and for a phase."""
    is_lost = case.word == "Unknown" and case.status.get("reason") == "NodeLost"
    return is_lost and case.shown.reason == "NodeLost"


def has_a_reason_of_its_own(case: Case) -> bool:
    """The pod's own reason comes before its containers'."""
    is_going = case.is_deleted and case.phase != "Failed"
    return not is_going and case.shown.reason == case.status.get("reason", "none")


def has_a_container_that_failed(case: Case) -> bool:
    """The first that failed is hidden by none that is starting, runs, or ended later or well."""
    if not case.named or case.shown.reason not in trouble(case.named):
        return False
    started = [one for one in case.undone if case.has_started(one)]
    awaited = [one for one in case.undone if not case.has_started(one)]
    firsts = [next(filter(trouble, ones), None) for ones in (case.regular, awaited, started)]
    if firsts[0] and not case.is_init:
        return bool(case.named == firsts[0])
    return case.named in firsts and (case.word in MILD or not case.condition("Initialized"))


def trouble(container: Object) -> set[str]:
    """What may be said of a container that failed."""
    return words(container) - {*STARTING, "Completed"}


def is_not_scheduled(case: Case) -> bool:
    found = case.condition("PodScheduled")
    is_so = case.word in MILD and found.get("status") != "True"
    return is_so and case.shown.reason == found.get("reason", "none")


def was_ended(case: Case) -> bool:
    """No container of it failed: the condition says who ended it."""
    found = case.condition("DisruptionTarget")
    why = found.get("reason") if found.get("status") == "True" else None
    return case.phase == "Failed" and case.word in MILD and case.shown.reason == (why or "Failed")


def has_a_container_that_starts(case: Case) -> bool:
    """One that is starting is hidden by none that runs or ended well."""
    if case.word not in MILD or case.shown.reason not in STARTING:
        return False
    is_waiting = case.shown.reason in words(case.named)
    return is_waiting or case.shown.container == awaited(case)


def is_not_ready(case: Case) -> bool:
    """What runs and is not ready says why; so does one that has ended while the pod goes on."""
    if not case.is_unready or case.word not in (*PHASES, "Completed", "NotReady", ""):
        return False
    ready, reason = case.condition("Ready"), case.shown.reason
    if case.was_marked:
        return reason == "NodeNotReady"
    ended = [one for one in case.regular if "terminated" in one["state"]]
    if ended:
        is_running = any("running" in one["state"] for one in case.regular)
        is_first = case.named == ended[0]
        return is_first and reason == ("NotReady" if is_running else "Completed")
    unready = [one for one in case.lasting if not one["ready"]]
    if unready:
        return case.named == unready[0] and reason == "ContainersNotReady"
    if not case.lasting:
        return reason == (ready.get("reason") or "ContainersNotReady")
    if case.raw["spec"].get("readinessGates") and case.condition(GATE).get("status") != "True":
        return reason == "ReadinessGatesNotReady" and bool(case.shown.message)
    return reason == (ready.get("reason") or "NotReady")


def has_not_started(case: Case) -> bool:
    """Where nothing else says more, the phase is the reason."""
    is_phase = case.shown.reason == case.phase in ("Pending", "Unknown")
    return is_phase and case.word in MILD and not case.is_unready


def is_ready_all_the_same(case: Case) -> bool:
    """The condition Ready decides, as it does for Services; without it the containers do."""
    is_mild = case.word in ("Completed", "NotReady")
    return case.shown.reason is None and is_mild and not case.is_unready


RULES = (
    *(says_the_same, has_succeeded, has_lost_its_node, has_a_reason_of_its_own),
    *(has_a_container_that_failed, is_not_scheduled, was_ended, has_a_container_that_starts),
    *(is_not_ready, has_not_started, is_ready_all_the_same),
)


def check(raw: Object, row: dict[str, Any]) -> None:
    case = Case(raw, row)
    one = case.shown
    assert one.status == (case.phase or "Unknown")
    assert any(rule(case) for rule in RULES), (row["Status"], one.reason, one.container)
    check_readiness(case)
    check_restarts(case)
    check_last_exit(case)


def check_readiness(case: Case) -> None:
    """As the condition Ready says, else the containers; what is not ready has a reason."""
    condition = case.condition("Ready")
    is_lost = case.was_marked or case.status.get("reason") == "NodeLost"
    assert seen(case.raw).on_lost_node == is_lost
    if condition:
        assert case.shown.ready == (condition["status"] == "True")
    else:
        assert case.shown.ready is (False if case.is_unready or case.is_unscheduled else None)
    ready, total = map(int, case.row["Ready"].split("/"))
    assert ready <= sum(one["ready"] for one in case.lasting) <= total
    if case.shown.ready is False:
        assert case.shown.reason or case.phase == "Succeeded"


def check_restarts(case: Case) -> None:
    """All are counted; kubectl leaves out those of the init containers that are done."""
    counts = [one["restartCount"] for one in [*case.init, *case.regular]]
    assert case.shown.restarts == (sum(counts) if counts else None)
    assert int(str(case.row["Restarts"]).split()[0]) <= sum(counts)


def check_last_exit(case: Case) -> None:
    """The latest failure, which nothing that ended well hides; without one the latest end."""
    ends = [
        (state["terminated"]["finishedAt"], one["name"], state["terminated"])
        for one in [*case.init, *case.regular]
        for state in (one["state"], one.get("lastState", {}))
        if "terminated" in state
    ]
    failed = [one for one in ends if words({"state": {"terminated": one[2]}}) != {"Completed"}]
    if case.phase in ("Failed", "Succeeded"):
        failed = [one for one in failed if one[1] not in case.sidecars] or failed
        ends = [one for one in ends if one[1] not in case.sidecars] or ends
    last = case.shown.last_exit
    assert (last is None) == (not ends)
    if last and last.at:
        latest = max(at for at, _, _ in failed or ends)
        of = [(name, end["exitCode"]) for at, name, end in failed or ends if at == latest]
        assert f"{last.at:%Y-%m-%dT%H:%M:%SZ}" == latest
        assert (last.container, last.exit_code) in of


# the API server


class Printer:
    """Stores pods in a namespace of its own, and reads what the API server prints of them."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane = plane
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._numbers = count()

    def printed(self, body: Object) -> tuple[Object, dict[str, Any]] | None:
        """Return the pod as stored, and its row; None if the server refuses it."""
        name = f"p{next(self._numbers)}"
        path = f"{self._pods}/{name}"
        metadata = {**body["metadata"], "name": name}
        self._plane.call("POST", self._pods, {"metadata": metadata, "spec": body["spec"]})
        try:
            self._plane.call("PATCH", f"{path}/status", {"status": body["status"]})
            if "finalizers" in metadata:
                self._plane.call("DELETE", path, {"gracePeriodSeconds": 0})
            return self._row(path)
        except ApiError as error:
            if error.status != 422:
                raise
            return None
        finally:
            if "finalizers" in metadata:
                self._plane.call("PATCH", path, {"metadata": {"finalizers": None}})

    def _row(self, path: str) -> tuple[Object, dict[str, Any]]:
        answer = self._plane.call("GET", f"{path}?includeObject=Object", accept=TABLE)
        names = [column["name"] for column in answer["columnDefinitions"]]
        (row,) = answer["rows"]
        return row["object"], dict(zip(names, row["cells"], strict=True))


@pytest.fixture(scope="module")
def printer(control_plane: ControlPlane) -> Iterator[Printer]:
    name = "pod-status"
    control_plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
    wait_until(
        lambda: bool(control_plane.call("GET", accounts)["items"]), seconds=30, what="its account"
    )
    yield Printer(control_plane, name)
    control_plane.call("DELETE", f"/api/v1/namespaces/{name}")


def body(status: Object, sidecars: bool = False) -> Object:
    """A pod of which each container that has a status is in its specification."""
    kinds = {"containers": "containerStatuses", "initContainers": "initContainerStatuses"}
    spec: Object = {"schedulerName": "none"}
    for kind, field in kinds.items():
        spec[kind] = [{"name": one["name"], "image": "i"} for one in status.get(field, [])]
    if sidecars:
        spec["initContainers"][0]["restartPolicy"] = "Always"
    spec["containers"] = spec["containers"] or [{"name": "main", "image": "i"}]
    return {"metadata": {"labels": UNTENDED}, "spec": spec, "status": status}


def state(name: str, kind: str, *, started: bool = False, **said: Any) -> Object:
    basis = {"name": name, "image": "i", "imageID": "", "restartCount": 0, "ready": False}
    return {**basis, "started": started, "state": {kind: said}}


# What earlier versions of the code or of the rules got wrong.
STARTED = state("proxy", "waiting", reason="ContainerCreating", started=True)
FAILED = state("failed", "terminated", exitCode=1, reason="Error")
CRASHING = state("crashing", "waiting", reason="CrashLoopBackOff")
DONE = state("done", "terminated", exitCode=0, reason="Completed")
WORDLESS = state("wordless", "terminated", exitCode=0, signal=9)
ODD = state("odd", "terminated", exitCode=1, reason="Completed")
GATED = {"type": "PodScheduled", "status": "Unknown", "reason": "SchedulingGated"}


@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)
@example(body({"initContainerStatuses": [STARTED, FAILED]}, sidecars=True))
@example(body({"initContainerStatuses": [WORDLESS, ODD]}))
@example(
    body(
        {"initContainerStatuses": [{**CRASHING, "started": True}], "containerStatuses": [FAILED]},
        sidecars=True,
    )
)
@example(body({"phase": "Running", "containerStatuses": [DONE, CRASHING, FAILED]}))
@example(body({"phase": "Running", "conditions": [GATED], "containerStatuses": [DONE]}))
@example(body({"phase": "Pending", "containerStatuses": [{**DONE, "ready": True}]}))
@example(body({"phase": "Running", "containerStatuses": [{**DONE, "ready": True}]}))
@given(pods())
def test_any_pod_is_shown_as_kubectl_prints_it(printer: Printer, body: Object) -> None:
    if printed := printer.printed(body):
        check(*printed)
