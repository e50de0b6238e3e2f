"""Why a pod is not well, in the words of kubectl's column STATUS. Pure functions.

They follow `printPod` (k8s.io/kubernetes, pkg/printers/internalversion/printers.go);
docs/kubernetes.md lists the cases in which our reason is more precise.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from telemetron_collectors.kubernetes.api import objects

# A container waits for these while its pod starts; a worse reason hides them.
STARTING = ("ContainerCreating", "PodInitializing")
LOST = "NodeLost"
RESIZES = ("PodResizePending", "PodResizeInProgress")


class Trouble(Struct, frozen=True, gc=False):
    """Why a pod is not well."""

    reason: str | None = None
    message: str | None = None
    container: str | None = None


WELL = Trouble()


def trouble_of(pod: objects.Pod, *, termination_messages: bool = False) -> Trouble:
    """Return the first trouble of: deletion, end, containers, scheduling, readiness."""
    status = pod.status
    if status.phase == "Succeeded":
        return WELL
    if pod.metadata.deletion_timestamp and status.phase != "Failed":
        return _of_deletion(status)
    if status.reason:
        return Trouble(status.reason, status.message)
    found = _of_containers(pod, termination_messages)
    worst = next((one for one in found if one.reason not in STARTING), None)
    if status.phase == "Failed":
        return _of_failure(status, worst)
    starting = _of_scheduling(status.conditions) or next(iter(found), None)
    ill = worst or starting or _of_readiness(pod) or _of_resize(status)
    return ill or _of_phase(status)


def is_ready(pod: objects.Pod) -> bool | None:
    """Return whether a pod is ready; None: not known. An unscheduled pod is not ready."""
    ready = _readiness(pod)
    return False if ready is None and _is_unscheduled(pod) else ready


def _readiness(pod: objects.Pod) -> bool | None:
    """Return the condition Ready; without it False if a container is not ready, else None."""
    ready = condition(pod.status.conditions, "Ready")
    if ready:
        return ready.status == "True"
    return False if any(one.ready is False for one in _lasting(pod)) else None


def _is_unscheduled(pod: objects.Pod) -> bool:
    is_waiting = pod.status.phase == "Pending" and not pod.spec.node_name
    return is_waiting and not _lasting(pod)


def is_on_lost_node(pod: objects.Pod) -> bool:
    """Return whether the node lifecycle controller marked the pod because its node is not ready.

    The controller clears only `Ready`, without a reason (util/node.MarkPodsNotReady). A kubelet
    gives a reason and clears `ContainersReady` too. Older controllers set the reason `NodeLost`.
    """
    status = pod.status
    if status.reason == LOST:
        return True
    ready = condition(status.conditions, "Ready")
    if ready is None or ready.status != "False" or ready.reason:
        return False
    lasting = _lasting(pod)
    containers = condition(status.conditions, "ContainersReady")
    is_known = containers.status == "True" if containers else bool(lasting)
    return is_known and all(one.ready for one in lasting)


def condition(
    conditions: Sequence[objects.Condition] | None, type: str
) -> objects.Condition | None:
    """Return the condition of this type."""
    # A loop is faster than `next()` of a generator, and each pod event calls this 10 times.
    for one in conditions or ():
        if one.type == type:
            return one
    return None


def _of_deletion(status: objects.PodStatus) -> Trouble:
    if status.reason == LOST:
        return Trouble(LOST, status.message)
    return Trouble("Terminating", _words(_disruption(status)))


def _of_failure(status: objects.PodStatus, worst: Trouble | None) -> Trouble:
    """Return the container that failed, else the actor that ended the pod."""
    disruption = _disruption(status)
    if worst:
        return replace(worst, message=worst.message or _words(disruption))
    if disruption and disruption.reason:
        return Trouble(disruption.reason, disruption.message)
    return Trouble("Failed", status.message)


def _disruption(status: objects.PodStatus) -> objects.Condition | None:
    """Return the condition of an eviction, a preemption or a taint that ends the pod."""
    found = condition(status.conditions, "DisruptionTarget")
    return found if found and found.status == "True" else None


def _words(disruption: objects.Condition | None) -> str | None:
    if disruption is None:
        return None
    return ": ".join(filter(None, (disruption.reason, disruption.message)))


# containers


def _of_containers(pod: objects.Pod, messages: bool) -> list[Trouble]:
    """Return the trouble of each container; pending init containers come first."""
    statuses = pod.status.container_statuses or ()
    regular = [found for one in statuses if (found := _of_container(one, messages))]
    awaited, sidecars = _of_init(pod, messages)
    if awaited and not _is_initialized(pod.status):
        return [*awaited, *regular, *sidecars]
    return [*regular, *awaited, *sidecars]


def _of_init(pod: objects.Pod, messages: bool) -> tuple[list[Trouble], list[Trouble]]:
    """Return the trouble of pending init containers, and that of started sidecars."""
    awaited, sidecars = [], []
    names = pod.spec.sidecars
    for one in pod.status.init_container_statuses or ():
        end = one.state.terminated if one.state else None
        if end and not end.exit_code:
            continue
        found = _of_container(one, messages)
        if not (one.started and one.name in names):
            awaited.append(found or Trouble("PodInitializing", None, one.name))
        elif found:
            sidecars.append(found)
    return awaited, sidecars


def _of_container(one: objects.ContainerStatus, messages: bool) -> Trouble | None:
    state = one.state
    if state and state.waiting and state.waiting.reason:
        return Trouble(state.waiting.reason, state.waiting.message, one.name)
    end = state.terminated if state else None
    if end is None or not end.is_failure:
        return None
    message = end.message if messages else None
    if end.reason and end.reason != "Completed":
        return Trouble(end.reason, message, one.name)
    return Trouble("Error", message or end.number, one.name)


def _is_initialized(status: objects.PodStatus) -> bool:
    """Return the condition; without it, as kubelets do, whether a regular container has run."""
    found = condition(status.conditions, "Initialized")
    return found.status == "True" if found else any(map(_has_run, status.container_statuses or ()))


def _has_run(one: objects.ContainerStatus) -> bool:
    state, last = one.state, one.last_state
    return bool((state and (state.running or state.terminated)) or (last and last.terminated))


# the pod


def _of_scheduling(conditions: Sequence[objects.Condition] | None) -> Trouble | None:
    found = condition(conditions, "PodScheduled")
    if found and found.status != "True" and found.reason:
        return Trouble(found.reason, found.message)
    return None


def _of_readiness(pod: objects.Pod) -> Trouble | None:
    """Return the reason that the pod is not ready: a container, a readiness gate, its node."""
    if _readiness(pod) is not False:
        return None
    ready = condition(pod.status.conditions, "Ready") or objects.Condition()
    if is_on_lost_node(pod):
        return Trouble("NodeNotReady", ready.message)
    return (
        _of_completion(pod.status, ready.message)
        or _of_unready(pod, ready)
        or _of_gates(pod, ready)
        or Trouble(ready.reason or "NotReady", ready.message)
    )


def _of_completion(status: objects.PodStatus, message: str | None) -> Trouble | None:
    """Return the first regular container that has ended; failed ones were returned before."""
    states = [(one.name, one.state) for one in status.container_statuses or () if one.state]
    done = next((name for name, state in states if state.terminated), None)
    if done is None:
        return None
    is_running = any(state.running for _, state in states)
    return Trouble("NotReady" if is_running else "Completed", message, done)


def _of_unready(pod: objects.Pod, ready: objects.Condition) -> Trouble | None:
    lasting = _lasting(pod)
    if not lasting:
        return Trouble(ready.reason or "ContainersNotReady", ready.message)
    name = next((one.name for one in lasting if not one.ready), None)
    return Trouble("ContainersNotReady", ready.message, name) if name else None


def _of_gates(pod: objects.Pod, ready: objects.Condition) -> Trouble | None:
    for gate in pod.spec.readiness_gates or ():
        found = condition(pod.status.conditions, gate.condition_type)
        if found is None or found.status != "True":
            message = f'the readiness gate "{gate.condition_type}" is not True'
            return Trouble("ReadinessGatesNotReady", ready.message or message)
    return None


def _lasting(pod: objects.Pod) -> list[objects.ContainerStatus]:
    """Return the containers that kubectl's column READY counts: regular ones and sidecars."""
    sidecars = pod.spec.sidecars
    init = [one for one in pod.status.init_container_statuses or () if one.name in sidecars]
    return [*(pod.status.container_statuses or ()), *init]


def _of_resize(status: objects.PodStatus) -> Trouble | None:
    """Return why a running pod cannot be resized in place as its spec asks."""
    for one in status.conditions or ():
        is_waiting = one.type in RESIZES and one.status == "True" and one.reason
        if is_waiting and status.phase == "Running":
            return Trouble(one.reason, ": ".join(filter(None, (one.type, one.message))))
    return None


def _of_phase(status: objects.PodStatus) -> Trouble:
    if status.phase in ("Pending", "Unknown"):
        return Trouble(status.phase, status.message)
    return WELL
