"""Pods: makes a pod of the document from the API's. Pure functions."""

from collections.abc import Iterator
from datetime import datetime
from operator import itemgetter
from sys import intern

from msgspec import Struct

from telemetron.document import UNSTAMPED, LastExit, Pod
from telemetron_collectors.kubernetes.annotations import Declaration, declared
from telemetron_collectors.kubernetes.api import objects
from telemetron_collectors.kubernetes.limits import limits_of
from telemetron_collectors.kubernetes.trouble import is_on_lost_node, is_ready, trouble_of

Weight = tuple[bool, bool, datetime]
"""How an end ranks: whether it is a failure, whether it counts, its time."""


class PodUsage(Struct, frozen=True, gc=False):
    """CPU and memory that a pod uses."""

    cpu: float | None
    """Cores."""
    memory: float | None
    """MiB."""
    measured_at: datetime


class PodTraffic(Struct, frozen=True, gc=False):
    """Bytes that a pod received and sent since its start."""

    network_in: int | None
    network_out: int | None


class SeenPod(Struct, frozen=True, gc=False):
    """A pod without its usage figures."""

    namespace: str
    owner: tuple[str, str] | None
    """Kind and name of the controller."""
    agent: Declaration | None
    is_deleted: bool
    """The deletion has begun."""
    on_lost_node: bool
    """The node lifecycle controller marked the pod because its node is not ready."""
    pod: Pod

    @property
    def is_well(self) -> bool:
        return self.pod.reason is None and (self.pod.ready or self.pod.status == "Succeeded")

    @property
    def is_over(self) -> bool:
        return self.pod.status in ("Succeeded", "Failed")

    @property
    def is_active(self) -> bool:
        """Whether Kubernetes counts the pod as active (`controller.IsPodActive`)."""
        return not self.is_over and not self.is_deleted


def seen_pod(pod: objects.Pod, *, termination_messages: bool = False) -> SeenPod:
    """Return a pod; the messages of ended containers only if they are wanted."""
    metadata, spec, status = pod.metadata, pod.spec, pod.status
    statuses = [*(status.init_container_statuses or ()), *(status.container_statuses or ())]
    trouble = trouble_of(pod, termination_messages=termination_messages)
    owner = metadata.owner
    return SeenPod(
        namespace=intern(metadata.namespace),
        owner=(intern(objects.kind_of(owner)), intern(owner.name)) if owner else None,
        agent=declared(metadata.annotations),
        is_deleted=metadata.deletion_timestamp is not None,
        on_lost_node=is_on_lost_node(pod),
        pod=Pod(
            pod_id=metadata.name,
            status=intern(status.phase or "Unknown"),
            ready=is_ready(pod),
            reason=trouble.reason,
            container=trouble.container,
            message=trouble.message,
            image=image_of(metadata.annotations, spec),
            restarts=sum([one.restart_count for one in statuses]) if statuses else None,
            last_exit=last_exit(pod),
            limits=limits_of(spec, status),
            node=intern(spec.node_name) if spec.node_name else None,
            ip=status.pod_ip,
            created_at=metadata.creation_timestamp,
            started_at=status.start_time,
        ),
    )


def image_of(annotations: objects.Annotations | None, spec: objects.PodSpec | None) -> str | None:
    """Return the image of kubectl's default container."""
    containers = (spec.containers if spec else None) or []
    name = annotations.default_container if annotations else None
    found = containers[0] if containers else None
    if name:
        found = next((one for one in containers if one.name == name), found)
    return intern(found.image) if found and found.image else None


def last_exit(pod: objects.Pod) -> LastExit | None:
    """Return the latest failure of a container; without one, the latest end."""
    found = max(_ends(pod), key=itemgetter(0), default=None)
    if found is None:
        return None
    _, name, end = found
    return LastExit(
        reason=end.reason, exit_code=end.exit_code, at=end.finished_at, container=intern(name)
    )


def _ends(pod: objects.Pod) -> Iterator[tuple[Weight, str, objects.Terminated]]:
    """Yield how each container ended; sidecars of an ended pod count last, as they end last."""
    status = pod.status
    late = pod.spec.sidecars if status.phase in ("Succeeded", "Failed") else ()
    for one in (*(status.container_statuses or ()), *(status.init_container_statuses or ())):
        for state in (one.state, one.last_state):
            if state and (end := state.terminated):
                weight = (end.is_failure, one.name not in late, end.finished_at or UNSTAMPED)
                yield weight, one.name, end
