"""Pods: what is shown of one, made of what the API says. Pure functions."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from sys import intern

from msgspec import Struct

from collectors.kubernetes import objects, quantity
from collectors.kubernetes.declaration import Declaration, declared
from telemetron.document import LastExit, Pod

# A pod that is being made waits for these; they are told where nothing worse is known.
STARTING = ("ContainerCreating", "PodInitializing")


class SeenPod(Struct, frozen=True, gc=False):
    """One pod, without its measures."""

    namespace: str
    owner: tuple[str, str] | None
    """Kind and name of its controller."""
    agent: Declaration | None
    max_cpu: str | None
    max_ram: str | None
    is_deleted: bool
    """Its deletion has begun."""
    on_lost_node: bool
    """The node lifecycle controller marked it: its node is not ready."""
    pod: Pod

    @property
    def is_well(self) -> bool:
        return self.pod.reason is None and (self.pod.ready or self.pod.status == "Succeeded")

    @property
    def is_over(self) -> bool:
        return self.pod.status in ("Succeeded", "Failed")

    @property
    def is_active(self) -> bool:
        """As Kubernetes counts pods: its controller.IsPodActive."""
        return not self.is_over and not self.is_deleted


class Trouble(Struct, frozen=True, gc=False):
    """Why a pod is not well."""

    reason: str | None = None
    message: str | None = None
    container: str | None = None


WELL = Trouble()


def seen_pod(pod: objects.Pod, *, termination_messages: bool = False) -> SeenPod:
    """What is shown of a pod; messages of ended containers only where they are wanted."""
    metadata, spec, status = pod.metadata, pod.spec, pod.status
    containers = spec.containers or []
    statuses = [*(status.init_container_statuses or ()), *(status.container_statuses or ())]
    trouble = trouble_of(pod, statuses, termination_messages)
    owner = metadata.owner
    return SeenPod(
        namespace=intern(metadata.namespace),
        owner=(intern(owner.kind), intern(owner.name)) if owner else None,
        agent=declared(metadata.annotations),
        max_cpu=limit(containers, "cpu"),
        max_ram=limit(containers, "memory"),
        is_deleted=metadata.deletion_timestamp is not None,
        on_lost_node=is_on_lost_node(status.conditions),
        pod=Pod(
            pod_id=metadata.name,
            status=intern(status.phase or "Unknown"),
            ready=_is_true(status.conditions, "Ready"),
            reason=trouble.reason,
            container=trouble.container,
            message=trouble.message,
            image=intern(containers[0].image) if containers and containers[0].image else None,
            restarts=sum([one.restart_count for one in statuses]) if statuses else None,
            last_exit=last_exit(statuses),
            node=intern(spec.node_name) if spec.node_name else None,
            ip=status.pod_ip,
            created_at=metadata.creation_timestamp,
            started_at=status.start_time,
        ),
    )


def trouble_of(
    pod: objects.Pod, statuses: Sequence[objects.ContainerStatus], termination_messages: bool
) -> Trouble:
    """The first that holds: what ended the pod, that it ends, its containers, its scheduling."""
    status = pod.status
    if status.phase == "Succeeded":
        return WELL
    if status.reason:
        return Trouble(status.reason, status.message)
    if pod.metadata.deletion_timestamp:
        return Trouble("Terminating", _disruption(status.conditions))
    found = list(_of_containers(statuses, termination_messages))
    worst = next((one for one in found if one.reason not in STARTING), None)
    return worst or _of_scheduling(status.conditions) or next(iter(found), WELL)


def _of_containers(
    statuses: Sequence[objects.ContainerStatus], termination_messages: bool
) -> Iterator[Trouble]:
    for one in statuses:
        state = one.state
        if state and state.waiting and state.waiting.reason:
            yield Trouble(state.waiting.reason, state.waiting.message, one.name)
        elif state and (end := state.terminated) and (end.exit_code or end.reason != "Completed"):
            yield Trouble(
                end.reason or "Error", end.message if termination_messages else None, one.name
            )


def _of_scheduling(conditions: Sequence[objects.Condition] | None) -> Trouble | None:
    for one in conditions or ():
        if one.type == "PodScheduled" and one.status == "False" and one.reason:
            return Trouble(one.reason, one.message)
    return None


def _disruption(conditions: Sequence[objects.Condition] | None) -> str | None:
    """Who ends it: an eviction, a preemption, a taint."""
    for one in conditions or ():
        if one.type == "DisruptionTarget" and one.status == "True":
            return ": ".join(filter(None, (one.reason, one.message)))
    return None


def _is_true(conditions: Sequence[objects.Condition] | None, type: str) -> bool | None:
    return next((one.status == "True" for one in conditions or () if one.type == type), None)


def is_on_lost_node(conditions: Sequence[objects.Condition] | None) -> bool:
    """Whether the node lifecycle controller made it not ready, because its node is not.

    It clears `Ready` and nothing else (util/node.MarkPodsNotReady); a kubelet gives a reason, and
    clears `ContainersReady` too.
    """
    found = {one.type: one for one in conditions or ()}
    ready, containers = found.get("Ready"), found.get("ContainersReady")
    is_marked = ready and ready.status == "False" and not ready.reason
    return bool(is_marked and containers and containers.status == "True")


def last_exit(statuses: Sequence[objects.ContainerStatus]) -> LastExit | None:
    """The latest end of any of its containers."""
    ends = [
        state.terminated
        for one in statuses
        for state in (one.state, one.last_state)
        if state and state.terminated
    ]
    if not ends:
        return None
    end = max(ends, key=_ended)
    return LastExit(reason=end.reason, exit_code=end.exit_code, at=end.finished_at)


def _ended(end: objects.Terminated) -> tuple[bool, datetime | None]:
    return end.finished_at is not None, end.finished_at


def limit(containers: Sequence[objects.Container], resource: str) -> str | None:
    """The limits of its containers together; null if any has none."""
    limits = [one.resources.limits if one.resources else None for one in containers]
    return quantity.total(tuple([getattr(one, resource) if one else None for one in limits]))
