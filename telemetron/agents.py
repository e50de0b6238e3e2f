"""The `agents` section: the parts of one agent's name become one agent per namespace."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from telemetron import key
from telemetron.check import text
from telemetron.document import (
    MAX_ACTIVE_TASKS,
    MAX_INSTANCES,
    MAX_NAMES,
    Activity,
    Agent,
    Failure,
    Instance,
    Task,
    Timestamp,
)
from telemetron.part import Part

MAX_NAME = 256
# The best first: an agent's status is the best of its instances'.
STATUSES = ("active", "idle", "silent", "declared")
# Who is believed first about a scalar.
ORIGINS = ("heartbeat", "kubernetes", "configuration")


class AgentPart(Struct, frozen=True, gc=False, kw_only=True):
    """What a source knows of one agent: that it is declared, or one instance and its tasks."""

    origin: Literal["heartbeat", "kubernetes", "configuration"]
    namespace: str | None = None
    description: str | None = None
    deployment_name: str | None = None
    max_parallel_invocations: int | None = None
    models: list[str] = []
    queues: list[str] = []
    instance: Instance | None = None
    """Declared, or as it beat."""
    since: Timestamp | None = None
    """When Telemetron first saw this life of the instance: the newest is believed first."""
    tasks: list[Task] = []
    task_count: int = 0
    last_failure: Failure | None = None


class Known(NamedTuple):
    """A part and its source."""

    source: str
    part: AgentPart


def merge_agents(parts: Sequence[Part]) -> Iterator[Agent]:
    """One agent per namespace; the order of the parts does not matter."""
    ordered = sorted(parts, key=lambda part: (part.source, part.id))
    known = [Known(part.source, part.value) for part in ordered]
    spaces: dict[str | None, list[Known]] = defaultdict(list)
    for one, namespace in zip(known, _namespaces([one.part for one in known]), strict=True):
        spaces[namespace].append(one)
    for namespace, members in spaces.items():
        yield _agent(parts[0].group, namespace, members)


def _namespaces(parts: Sequence[AgentPart]) -> Iterator[str | None]:
    """Each part's namespace: its own, else its declared pod's, else the only one, else none."""
    named = {part.namespace for part in parts if part.namespace is not None}
    only = named.pop() if len(named) == 1 else None
    pods: dict[str, set[str]] = defaultdict(set)
    for part in parts:
        if part.namespace is not None and _declares(part) and part.instance.pod_id:
            pods[part.instance.pod_id].add(part.namespace)
    for part in parts:
        homes = pods.get(part.instance.pod_id or "", set()) if part.instance else set()
        yield part.namespace or (next(iter(homes)) if len(homes) == 1 else only)


def _declares(part: AgentPart) -> bool:
    return part.instance is not None and part.instance.status == "declared"


def _agent(group: str, namespace: str | None, members: Sequence[Known]) -> Agent:
    name = text(group, MAX_NAME)
    parts = [member.part for member in sorted(members, key=_belief)]
    instances = sorted(_instances(parts), key=lambda one: (one.id, one.source))
    tasks = sorted((task for part in parts for task in part.tasks), key=_age)
    models = sorted({model for part in parts for model in part.models})
    queues = sorted({queue for part in parts for queue in part.queues})
    task_count = sum(max(part.task_count, len(part.tasks)) for part in parts)
    cut = {
        "models": (len(models), MAX_NAMES),
        "queues": (len(queues), MAX_NAMES),
        "activity.active_task_ids": (task_count, min(len(tasks), MAX_ACTIVE_TASKS)),
        "instances": (len(instances), MAX_INSTANCES),
    }
    return Agent(
        key=key.join(namespace, name),
        name=name,
        namespace=namespace,
        description=_first(part.description for part in parts),
        status=min((one.status for one in instances), key=_rank, default="declared"),
        max_parallel_invocations=_max_parallel(parts),
        deployment_name=_first(part.deployment_name for part in parts),
        models=models[:MAX_NAMES],
        queues=queues[:MAX_NAMES],
        activity=Activity(
            active_task_ids=tasks[:MAX_ACTIVE_TASKS],
            task_count=task_count,
            least_progressed_at=min(filter(None, (t.progressed_at for t in tasks)), default=None),
            last_failure=_last_failure(parts),
        ),
        instances=instances[:MAX_INSTANCES],
        instance_count=len(instances),
        sources=sorted({member.source for member in members}),
        truncated={name: full for name, (full, shown) in cut.items() if full > shown} or None,
    )


def _rank(status: str) -> int:
    return STATUSES.index(status) if status in STATUSES else len(STATUSES)


def _belief(member: Known) -> tuple[int, float]:
    """The newest live heartbeat first, then Kubernetes, then configuration, then the silent."""
    part = member.part
    if part.instance is not None and part.instance.status == "silent":
        return len(ORIGINS), 0
    return ORIGINS.index(part.origin), -part.since.timestamp() if part.since else 0


def _instances(parts: Sequence[AgentPart]) -> Iterator[Instance]:
    """Those that beat, with the workload of their pod; then the declared ones that never did."""
    declared = {part.instance.pod_id: part.instance for part in parts if _declares(part)}
    beating = [part.instance for part in parts if part.instance and not _declares(part)]
    for instance in beating:
        home = declared.get(instance.pod_id) if instance.pod_id else None
        yield replace(instance, workload=home.workload) if home else instance
    seen = {instance.pod_id for instance in beating if instance.pod_id}
    for part in parts:
        if part.instance and _declares(part) and part.instance.pod_id not in seen:
            yield part.instance


def _max_parallel(parts: Sequence[AgentPart]) -> int:
    beating = [part for part in parts if part.instance and not _declares(part)]
    listing = [
        part.instance.max_parallel_invocations or 1
        for part in beating
        if part.instance.status != "silent" or part.tasks
    ]
    declared = _first(p.max_parallel_invocations for p in parts if p.origin != "heartbeat")
    return sum(listing) or declared or 1


def _age(task: Task) -> tuple[float, str, str]:
    started = task.started_on.timestamp() if task.started_on else float("inf")
    return started, task.id, task.instance or ""


def _last_failure(parts: Sequence[AgentPart]) -> Failure | None:
    failures = [part.last_failure for part in parts if part.last_failure]
    return max(failures, key=_failed_at, default=None)


def _failed_at(failure: Failure) -> tuple[float, str]:
    return failure.at.timestamp() if failure.at else 0, failure.task_id


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)
