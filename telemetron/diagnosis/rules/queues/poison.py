"""A task that its consumers fail on, at the head of its partition."""

from collections.abc import Iterator
from datetime import timedelta

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.rules.homes import home_of, pod_of
from telemetron.diagnosis.rules.queues.readers import readers_of
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import verb
from telemetron.document import Agent, PartitionLag, PendingTask, Queue

UNMOVED = timedelta(seconds=45)
"""How long a partition must have stood still if only restarts speak against its first task."""


def poison(queue: Queue, view: View) -> Iterator[Symptom]:
    """The first task of a partition does not get done, while its consumers fail on it."""
    for lagging in queue.lagging:
        head = _head(queue, lagging)
        if head is None or not lagging.lag:
            continue
        for agent in readers_of(queue, view):
            if evidence := _failed_on(agent, head, lagging, queue, view):
                workloads = {one.workload for one in agent.instances if one.workload}
                yield Symptom(
                    "PoisonTask",
                    "queues",
                    queue.key,
                    f"Task {head.id} at the head of partition {lagging.partition} of queue"
                    f" {queue.name} is not done: its consumers fail on it; {lagging.lag}"
                    f" {verb(lagging.lag, 'wait')} behind it",
                    [
                        Place("queues", queue.key, item("lagging", str(lagging.partition), "lag")),
                        Place("queues", queue.key, item("tasks", head.id, "offset")),
                        *evidence,
                    ],
                    path=item("tasks", head.id),
                    since=head.submitted_at,
                    provides=[
                        ("task", head.id),
                        ("failing", agent.key),
                        ("queue", queue.key),
                        *(("crash", workload) for workload in sorted(workloads)),
                    ],
                    token=(lagging.partition, head.offset),
                )
                break


# lookups


def _head(queue: Queue, lagging: PartitionLag) -> PendingTask | None:
    tasks = [task for task in queue.tasks if task.partition == lagging.partition]
    return min(tasks, key=lambda task: task.offset or 0, default=None)


def _failed_on(
    agent: Agent, head: PendingTask, lagging: PartitionLag, queue: Queue, view: View
) -> list[Place]:
    """Evidence that the agent fails on the task: it says so, or its process dies of it."""
    failure = agent.activity.last_failure
    if failure is not None and failure.task_id == head.id:
        path = "activity/last_failure"
        return [Place("agents", agent.key, f"{path}/{field}") for field in ("task_id", "error")]
    times = [at for at in (lagging.consumed_at, head.submitted_at) if at]
    if not times or view.now - max(times) < UNMOVED:
        return []  # a process that restarts for another cause leaves tasks behind, too
    hosts = {one.host for one in queue.members if lagging.partition in (one.partitions or ())}
    for instance in agent.instances:
        pod = pod_of(home_of(agent, instance, view), instance)
        has_it = pod is not None and pod.ip in hosts
        if has_it and (instance.tasks_lost or 0) > 0 and (instance.lives or 0) > 1:
            path = item("instances", instance.id)
            return [
                Place("agents", agent.key, f"{path}/{field}") for field in ("lives", "tasks_lost")
            ]
    return []


RULES = (
    Rule(
        "PoisonTask",
        "queues",
        "critical",
        10,
        10,
        "`lagging[]`, `tasks[]`, and the failures and restarts of the agents that read the queue",
        "One task fails or kills every consumer that takes it, and blocks its partition.",
        "Read the task's record at its partition and offset; stop the group and commit the next "
        "offset (`kafka-consumer-groups.sh --reset-offsets`), or mend the code that fails on the "
        "record.",
        poison,
        asks=("agents", "workload"),
    ),
)
