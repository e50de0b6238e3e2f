"""The API's objects, reduced to the fields that the collector reads.

The decoder skips every other field (managedFields, environment variables, volumes, foreign
annotations), so it never reaches memory. Fields have the API's names, there in camelCase.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Raw, Struct, field

T = TypeVar("T")

ObjectKey = tuple[str, str]
"""Namespace and name."""


class Lean(Struct, frozen=True, gc=False, rename="camel"):
    """The base: any field may be absent or null."""


class Annotations(Lean, frozen=True):
    """The annotations that declare an agent, and some that Kubernetes sets itself."""

    agent: str | None = field(default=None, name="telemetron.dev/agent")
    description: str | None = field(default=None, name="telemetron.dev/description")
    max_parallel: str | None = field(default=None, name="telemetron.dev/max-parallel-invocations")
    models: str | None = field(default=None, name="telemetron.dev/models")
    queues: str | None = field(default=None, name="telemetron.dev/queues")
    default_container: str | None = field(
        default=None, name="kubectl.kubernetes.io/default-container"
    )
    initial_events_end: str | None = field(default=None, name="k8s.io/initial-events-end")
    revision: str | None = field(default=None, name="deployment.kubernetes.io/revision")


class OwnerReference(Lean, frozen=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class Identity(Lean, frozen=True):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class Identified(Lean, frozen=True):
    """Any object, even a malformed one."""

    metadata: Identity = Identity()


class ObjectMeta(Identity, frozen=True):
    generation: int | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    annotations: Annotations | None = None
    owner_references: list[OwnerReference] | None = None

    @property
    def owner(self) -> OwnerReference | None:
        """The object's controller."""
        return next((one for one in self.owner_references or () if one.controller), None)


class ResourceList(Lean, frozen=True):
    cpu: str | int | float | None = None
    memory: str | int | float | None = None


class Resources(Lean, frozen=True):
    limits: ResourceList | None = None


class Container(Lean, frozen=True):
    name: str = ""
    image: str | None = None
    restart_policy: str | None = None
    """`Always` makes an init container a sidecar."""
    resources: Resources | None = None


class Condition(Lean, frozen=True):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_update_time: datetime | None = None


class Named(Lean, frozen=True):
    """An object without spec and status, such as a ReplicaSet's PartialObjectMetadata."""

    metadata: ObjectMeta = ObjectMeta()


# pods


class Waiting(Lean, frozen=True):
    reason: str | None = None
    message: str | None = None


class Running(Lean, frozen=True):
    """A running container; its start is not read."""


class Terminated(Lean, frozen=True):
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    finished_at: datetime | None = None

    @property
    def number(self) -> str:
        """The word that kubectl prints if there is no reason."""
        return f"Signal:{self.signal}" if self.signal else f"ExitCode:{self.exit_code or 0}"

    @property
    def is_failure(self) -> bool:
        """Whether it failed; an exit code of 0 may still be `OOMKilled`."""
        word = self.reason or self.number
        return bool(self.exit_code) or word not in ("Completed", "ExitCode:0")


class ContainerState(Lean, frozen=True):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Lean, frozen=True):
    name: str = ""
    ready: bool | None = None
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState | None = None
    last_state: ContainerState | None = None
    resources: Resources | None = None


class ReadinessGate(Lean, frozen=True):
    condition_type: str = ""


class PodSpec(Lean, frozen=True):
    node_name: str | None = None
    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    resources: Resources | None = None
    overhead: ResourceList | None = None
    readiness_gates: list[ReadinessGate] | None = None

    @property
    def sidecars(self) -> Collection[str]:
        """The names of the init containers that run as long as the pod."""
        if not self.init_containers:
            return ()
        return {one.name for one in self.init_containers if one.restart_policy == "Always"}


class PodStatus(Lean, frozen=True):
    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    start_time: datetime | None = None
    pod_ip: str | None = field(default=None, name="podIP")
    conditions: list[Condition] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None
    resources: Resources | None = None


class Pod(Named, frozen=True):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


# workloads


class TemplateMetadata(ObjectMeta, frozen=True):
    labels: dict[str, str] | None = None


class Template(Lean, frozen=True):
    metadata: TemplateMetadata | None = None
    spec: PodSpec | None = None


class WorkloadSpec(Lean, frozen=True):
    template: Template = Template()


class RollingUpdate(Lean, frozen=True):
    partition: int | None = None


class UpdateStrategy(Lean, frozen=True):
    type: str | None = None
    rolling_update: RollingUpdate | None = None


class DeploymentSpec(WorkloadSpec, frozen=True):
    replicas: int | None = None
    paused: bool | None = None


class DeploymentStatus(Lean, frozen=True):
    observed_generation: int | None = None
    replicas: int | None = None
    updated_replicas: int | None = None
    ready_replicas: int | None = None
    available_replicas: int | None = None
    conditions: list[Condition] | None = None


class Deployment(Named, frozen=True):
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class StatefulSetSpec(WorkloadSpec, frozen=True):
    replicas: int | None = None
    update_strategy: UpdateStrategy | None = None


class StatefulSetStatus(Lean, frozen=True):
    observed_generation: int | None = None
    updated_replicas: int | None = None
    ready_replicas: int | None = None
    available_replicas: int | None = None
    current_revision: str | None = None
    update_revision: str | None = None


class StatefulSet(Named, frozen=True):
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()


class DaemonSetSpec(WorkloadSpec, frozen=True):
    update_strategy: UpdateStrategy | None = None


class DaemonSetStatus(Lean, frozen=True):
    observed_generation: int | None = None
    desired_number_scheduled: int | None = None
    updated_number_scheduled: int | None = None
    number_ready: int | None = None
    number_available: int | None = None


class DaemonSet(Named, frozen=True):
    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()


class JobSpec(WorkloadSpec, frozen=True):
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool | None = None


class Uncounted(Lean, frozen=True):
    succeeded: list[str] | None = None


class JobStatus(Lean, frozen=True):
    active: int | None = None
    ready: int | None = None
    succeeded: int | None = None
    failed_indexes: str | None = None
    uncounted_terminated_pods: Uncounted | None = None
    conditions: list[Condition] | None = None


class Job(Named, frozen=True):
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class NodeStatus(Lean, frozen=True):
    conditions: list[Condition] | None = None


class Node(Named, frozen=True):
    status: NodeStatus = NodeStatus()


class ScaleTarget(Lean, frozen=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""


class AutoscalerSpec(Lean, frozen=True):
    scale_target_ref: ScaleTarget = ScaleTarget()
    max_replicas: int | None = None


class Autoscaler(Named, frozen=True):
    spec: AutoscalerSpec = AutoscalerSpec()


# responses


class WatchEvent(Lean, Generic[T], frozen=True):
    """One line of a watch."""

    type: str
    object: T


class ListMetadata(Lean, frozen=True):
    resource_version: str = ""
    continue_: str | None = field(default=None, name="continue")


class ListPage(Lean, frozen=True):
    """One page of a list. Each item is decoded by itself, as one may be malformed."""

    metadata: ListMetadata
    items: list[Raw] | None = None


class Details(Lean, frozen=True):
    retry_after_seconds: float | None = None


class Status(Lean, frozen=True):
    """Why the API server refuses a request. Its message may hold secrets and is not read."""

    code: int | None = None
    details: Details | None = None


class WatchedKind(NamedTuple):
    """A kind that the collector watches."""

    name: str
    resource: str
    """The name in permissions and paths."""
    path: str
    """The path of its API group."""
    type: Any
    partial: bool = False
    """Request only the metadata."""
    selected: bool = True
    """Apply the configured label selector."""

    @property
    def group(self) -> str:
        """The API group; empty: the core."""
        return "".join(self.path.split("/")[2:-1])


KINDS = {
    kind.name: kind
    for kind in (
        WatchedKind("Pod", "pods", "/api/v1", Pod),
        WatchedKind("Deployment", "deployments", "/apis/apps/v1", Deployment),
        WatchedKind("StatefulSet", "statefulsets", "/apis/apps/v1", StatefulSet),
        WatchedKind("DaemonSet", "daemonsets", "/apis/apps/v1", DaemonSet),
        WatchedKind("Job", "jobs", "/apis/batch/v1", Job),
        WatchedKind(
            "ReplicaSet", "replicasets", "/apis/apps/v1", Named, partial=True, selected=False
        ),
        WatchedKind(
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            "/apis/autoscaling/v2",
            Autoscaler,
            selected=False,
        ),
    )
}


def kind_of(one: OwnerReference | ScaleTarget) -> str:
    """Return the kind as the document names it, such as `StatefulSet`.

    If another API group has a kind with the name of a watched one, the group is added, such as
    `StatefulSet.apps.kruise.io`.
    """
    watched = KINDS.get(one.kind)
    group = one.api_version.rpartition("/")[0]
    if watched is None or not one.api_version or group == watched.group:
        return one.kind
    return f"{one.kind}.{group}"


NODES = WatchedKind("Node", "nodes", "/api/v1", Node, selected=False)
"""Watched only if configured: nodes have no namespace, so a Role cannot grant access to them."""
