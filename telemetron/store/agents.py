"""The `agents` section: merges the parts of one agent's name into one agent per namespace."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Any

from msgspec.structs import replace

from telemetron import key
from telemetron.agents import AgentPart
from telemetron.document import (
    MAX_ACTIVE_TASKS,
    MAX_ENDED,
    MAX_INSTANCES,
    MAX_NAMES,
    MAX_PROBLEMS,
    Activity,
    Agent,
    Ended,
    Failure,
    Instance,
    Problem,
    Task,
)
from telemetron.normal import total
from telemetron.store.part import Part
from telemetron.text import one_line

MAX_NAME = 256
# The best first; an agent has the best status of its instances.
STATUSES = ("active", "idle", "silent", "declared")
# Stand-ins for an unknown time in comparisons.
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)


def merge_agents(parts: Sequence[Part]) -> Iterator[Agent]:
    """Yield one agent per namespace; the order of the parts does not matter."""
    if len(parts) == 1:  # most agents, at each heartbeat
        (part,) = parts
        one = part.value.instance
        if one is None or one.status == "declared" or part.value.pods:
            yield _agent(part.group, part.value.namespace, parts)
        else:
            yield _single(part, part.value, one)
        return
    ordered = sorted(parts, key=attrgetter("source", "id"))
    spaces: dict[str | None, list[Part]] = {}
    for part, namespace in zip(ordered, _namespaces(ordered), strict=True):
        spaces.setdefault(namespace, []).append(part)
    for namespace, members in spaces.items():
        yield _agent(parts[0].group, namespace, sorted(members, key=_belief))


def _namespaces(parts: Sequence[Part]) -> list[str | None]:
    """Return the parts' namespaces: own, else the declared pod's, else the only one, else none."""
    own: list[str | None] = [part.value.namespace for part in parts]
    named = set(own) - {None}
    if len(named) < 2:
        return [next(iter(named), None)] * len(own)
    pods: dict[str, set[str]] = defaultdict(set)
    for namespace, one in zip(own, [part.value.instance for part in parts], strict=True):
        if namespace is not None and one and one.status == "declared" and one.pod_id:
            pods[one.pod_id].add(namespace)
    for part in [part.value for part in parts if part.value.namespace is not None]:
        for pod in part.pods:
            pods[pod].add(part.namespace)
    return [part.value.namespace or _namespace_of_pod(part.value, pods) for part in parts]


def _namespace_of_pod(part: AgentPart, pods: Mapping[str, set[str]]) -> str | None:
    found = pods.get(part.instance.pod_id or "", ()) if part.instance else ()
    return next(iter(found)) if len(found) == 1 else None


def _agent(group: str, namespace: str | None, members: Sequence[Part]) -> Agent:
    """Return the agent of these parts, which are sorted by belief."""
    name = one_line(group, MAX_NAME)
    parts: list[AgentPart] = [member.value for member in members]
    instances, instance_count = _instances(members)
    tasks = sorted([task for part in parts for task in part.tasks], key=_age)
    task_count = total([max(part.task_count, len(part.tasks)) for part in parts])
    models = sorted({model for part in parts for model in part.models})
    queues = sorted({queue for part in parts for queue in part.queues})
    problems = list(dict.fromkeys([problem for part in parts for problem in part.problems]))
    return Agent(
        key=key.join(namespace, name),
        name=name,
        namespace=namespace,
        description=_first(parts, "description"),
        status=_status(instances, task_count),
        max_parallel_invocations=_max_parallel(parts),
        deployment_name=_first(parts, "deployment_name"),
        models=models[:MAX_NAMES],
        queues=queues[:MAX_NAMES],
        activity=Activity(
            active_task_ids=tasks[:MAX_ACTIVE_TASKS],
            task_count=task_count,
            least_progressed_at=min(
                [t.progressed_at for t in tasks if t.progressed_at], default=None
            ),
            last_failure=_last_failure(parts),
            ended=_ended(parts),
            ended_count=_sum([part.ended_count for part in parts]),
        ),
        instances=_listed(instances),
        instance_count=instance_count if _is_known(parts) else None,
        silent_count=sum([one.status == "silent" for one in instances]),
        sources=sorted({member.source for member in members}),
        problems=problems[:MAX_PROBLEMS],
        truncated=_truncated(models, queues, tasks, task_count, instance_count, problems),
    )


def _single(part: Part, value: AgentPart, one: Instance) -> Agent:
    """Return what `_agent` would of one instance that beats, or is silent, in a third of its time.

    Nothing is copied or sorted that is so already.
    """
    name = one_line(part.group, MAX_NAME)
    tasks = value.tasks if len(value.tasks) < 2 else sorted(value.tasks, key=_age)
    task_count = max(value.task_count, len(tasks))
    models = value.models if len(value.models) < 2 else sorted(set(value.models))
    queues = value.queues if len(value.queues) < 2 else sorted(set(value.queues))
    problems = value.problems if len(value.problems) < 2 else list(dict.fromkeys(value.problems))
    is_silent = one.status == "silent"
    most = None if is_silent and not tasks else one.max_parallel_invocations
    return Agent(
        key=key.join(value.namespace, name),
        name=name,
        namespace=value.namespace,
        description=value.description,
        status="silent" if one.status == "idle" and task_count else one.status,
        max_parallel_invocations=most or 1,
        deployment_name=value.deployment_name,
        models=models[:MAX_NAMES],
        queues=queues[:MAX_NAMES],
        activity=Activity(
            active_task_ids=tasks[:MAX_ACTIVE_TASKS],
            task_count=task_count,
            least_progressed_at=min(
                [t.progressed_at for t in tasks if t.progressed_at], default=None
            ),
            last_failure=value.last_failure,
            ended=value.ended[:MAX_ENDED],
            ended_count=value.ended_count,
        ),
        instances=[one if one.source == part.source else replace(one, source=part.source)],
        instance_count=1 if value.has_all_pods or not is_silent else None,
        silent_count=int(is_silent),
        sources=[part.source],
        problems=problems[:MAX_PROBLEMS],
        truncated=_truncated(models, queues, tasks, task_count, 1, problems),
    )


def _truncated(
    models: Sequence[str],
    queues: Sequence[str],
    tasks: Sequence[Task],
    task_count: int,
    instance_count: int,
    problems: Sequence[Problem],
) -> dict[str, int] | None:
    cut: dict[str, int] = {}
    if len(models) > MAX_NAMES:
        cut["models"] = len(models)
    if len(queues) > MAX_NAMES:
        cut["queues"] = len(queues)
    if task_count > min(len(tasks), MAX_ACTIVE_TASKS):
        cut["activity.active_task_ids"] = task_count
    if [task for task in tasks if task.wait_count > len(task.waits)]:
        cut["activity.active_task_ids.waits"] = total([task.wait_count for task in tasks])
    if instance_count > MAX_INSTANCES:
        cut["instances"] = instance_count
    if len(problems) > MAX_PROBLEMS:
        cut["problems"] = len(problems)
    return cut or None


def _is_known(parts: Sequence[AgentPart]) -> bool:
    """Return whether the instances can be counted: all pods are known, or an instance beats."""
    return all(part.has_all_pods for part in parts) or any(
        part.instance and part.instance.status not in ("declared", "silent") for part in parts
    )


def _status(instances: Sequence[Instance], task_count: int) -> str:
    """Return the best status of the instances; not `idle` if a silent instance has tasks."""
    status = min([one.status for one in instances], key=_rank, default="declared")
    return "silent" if status == "idle" and task_count else status


def _rank(status: str) -> int:
    return STATUSES.index(status) if status in STATUSES else len(STATUSES)


def _belief(member: Part) -> tuple[bool, int, timedelta]:
    """Sort by the collectors' rank, then the newest life first; silent instances come last."""
    part: AgentPart = member.value
    if part.instance is not None and part.instance.status == "silent":
        return True, 0, timedelta.max
    return False, -member.rank, _LATEST - part.since if part.since else timedelta.max


def _instances(members: Sequence[Part]) -> tuple[list[Instance], int]:
    """Return the instances, sorted by id, and how many there are.

    Instances that beat get the workload of their pod; declared ones are added if none of them beat.
    A part with more pods than the list may hold adds only as many instances, but counts all.
    """
    if len(members) == 1 and (one := members[0].value.instance) and not members[0].value.pods:
        source = members[0].source
        return [one if one.source == source else replace(one, source=source)], 1
    declared: list[Instance] = []
    beating: list[Instance] = []
    for member in members:
        if one := member.value.instance:
            one = one if one.source == member.source else replace(one, source=member.source)
            (declared if one.status == "declared" else beating).append(one)
    if not declared and not any(member.value.pods for member in members):
        return sorted(beating, key=attrgetter("id", "source")), len(beating)
    pods = {one.pod_id for one in beating if one.pod_id}
    workloads = _workloads(members, declared, pods)
    declared = [one for one in declared if one.pod_id not in pods]
    count = len(beating) + len(declared)
    for member in members:
        names = [name for name in member.value.pods if name not in pods]
        count += len(names)
        declared += [_declared(name, member) for name in names[:MAX_INSTANCES]]
    joined = [
        replace(one, workload=workloads[one.pod_id]) if one.pod_id in workloads else one
        for one in beating
    ]
    return sorted([*joined, *declared], key=attrgetter("id", "source")), count


def _workloads(
    members: Sequence[Part], declared: Sequence[Instance], pods: Set[str]
) -> dict[str | None, str]:
    """Return the workload of each of these pods; the first member's wins."""
    workloads: dict[str | None, str] = {}
    for member in reversed(members):
        if workload := member.value.workload:
            workloads.update((pod, workload) for pod in member.value.pods if pod in pods)
    workloads.update((one.pod_id, one.workload) for one in reversed(declared) if one.workload)
    return workloads


def _declared(pod: str, member: Part) -> Instance:
    workload = member.value.workload
    return Instance(id=pod, status="declared", pod_id=pod, workload=workload, source=member.source)


def _listed(instances: list[Instance]) -> list[Instance]:
    """Return all, or, if there are too many, the newest of each status in turn."""
    if len(instances) <= MAX_INSTANCES:
        return instances
    turns: Counter[str] = Counter()
    order = []
    for at, one in enumerate(sorted(instances, key=_newest, reverse=True)):
        turns[one.status] += 1
        order.append((turns[one.status], _rank(one.status), at, one))
    first = [one for *_, one in sorted(order, key=itemgetter(0, 1, 2))[:MAX_INSTANCES]]
    return sorted(first, key=attrgetter("id", "source"))


def _newest(one: Instance) -> datetime:
    return one.silent_since or one.started_at or _EARLIEST


def _max_parallel(parts: Sequence[AgentPart]) -> int:
    listing = [
        one.max_parallel_invocations or 1
        for part in parts
        if (one := part.instance) and one.status != "declared"
        if one.status != "silent" or part.tasks
    ]
    if listing:
        return total(listing)
    declared = [part for part in parts if not part.instance or part.instance.status == "declared"]
    return _first(declared, "max_parallel_invocations") or 1


def _age(task: Task) -> tuple[datetime, str, str]:
    return task.started_on or _LATEST, task.id, task.instance or ""


def _ended(parts: Sequence[AgentPart]) -> list[Ended]:
    """Return the newest of each part in turn, so that every part shows what it learned last.

    Of several equal ends, as of two sources, one is listed.
    """
    lists = [part.ended for part in parts if part.ended]
    if len(lists) == 1:  # nearly always: each source has one list for an agent
        return lists[0][:MAX_ENDED]
    turns = [(turn, one) for ended in lists for turn, one in enumerate(ended)]
    turns.sort(key=lambda pair: (pair[0], -_ended_at(pair[1]), pair[1].id, pair[1].instance or ""))
    return list({(one.id, one.ended_at, one.instance): one for _, one in turns}.values())[
        :MAX_ENDED
    ]


def _ended_at(one: Ended) -> float:
    return one.ended_at.timestamp() if one.ended_at else 0.0


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum of the known counts; None if none is known."""
    known = [count for count in counts if count is not None]
    return total(known) if known else None


def _last_failure(parts: Sequence[AgentPart]) -> Failure | None:
    failures = [part.last_failure for part in parts if part.last_failure]
    return max(failures, key=_failed_at, default=None)


def _failed_at(failure: Failure) -> tuple[datetime, str]:
    return failure.at or _EARLIEST, failure.task_id


def _first(parts: Sequence[AgentPart], field: str) -> Any:
    for part in parts:
        value = getattr(part, field)
        if value is not None:
            return value
    return None
