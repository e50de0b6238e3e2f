"""Backlogs: more work than is done, and work that others wait for."""

from collections.abc import Iterator

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.rules.queues.readers import (
    capacity,
    is_starting,
    of_members,
    of_readers,
    readers_of,
)
from telemetron.diagnosis.trend import WINDOW_SECONDS
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import counted, wait
from telemetron.document import Queue


def growing(queue: Queue, view: View) -> Iterator[Symptom]:
    """More comes than is done: all that the queue had lately is more than it had before."""
    members = of_members(queue, view)  # also to remember them
    if queue.depth is None or queue.consumers == 0:
        return
    if not view.trends.rises(("queues", queue.key), view.monotonic):
        return
    readers = readers_of(queue, view)
    homes = [*members, *of_readers(readers, view)]
    if is_starting(homes, view):
        return
    yield Symptom(
        "QueueGrowing",
        "queues",
        queue.key,
        f"Queue {queue.name} grows: {wait(queue.depth)}{_for(queue)}",
        [Place("queues", queue.key, field) for field in ("depth", "consumers", "consumed_at")],
        window_seconds=WINDOW_SECONDS,
        provides=[("backlog", queue.key)],
        depends=[("queue", queue.key), *homes, *capacity(readers, view)],
    )


def blocked(queue: Queue, view: View) -> Iterator[Symptom]:
    """A task waits, although consumers take others, and a stalled task waits for it."""
    for pending in queue.tasks if queue.consumers else ():
        id = pending.priority.blocked_task if pending.priority else None
        if id is None or view.find("agents by task", pending.id):
            continue
        for agent in view.find("agents by task", id):
            for task in agent.activity.active_task_ids:
                if task.id == id and task.stalled:
                    yield Symptom(
                        "BlockedChain",
                        "queues",
                        queue.key,
                        f"Task {id} of agent {agent.name} waits for task {pending.id}, which"
                        f" no agent has taken from queue {queue.name}",
                        [
                            Place("queues", queue.key, item("tasks", pending.id, field))
                            for field in ("priority/blocked_task", "submitted_at")
                        ]
                        + [
                            Place(
                                "agents",
                                agent.key,
                                item("activity/active_task_ids", id, "stalled"),
                            )
                        ],
                        path=item("tasks", pending.id),
                        since=pending.submitted_at,
                        provides=[("blocker", id)],
                        depends=[("queue", queue.key), ("backlog", queue.key)],
                        token=pending.id,
                    )


# lookups


def _for(queue: Queue) -> str:
    return "" if queue.consumers is None else f" for {counted(queue.consumers, 'consumer')}"


RULES = (
    Rule(
        "QueueGrowing",
        "queues",
        "warning",
        20,
        30,
        "`depth` over the last two minutes",
        "More work comes than is done. A large backlog that shrinks is no finding.",
        "Add consumers, at most one for each partition, or slow the producers.",
        growing,
        asks=("agents", "workload"),
    ),
    Rule(
        "BlockedChain",
        "queues",
        "warning",
        60,
        5,
        "`tasks[].priority.blocked_task`, and that task's `stalled`",
        "A task waits for another task that no consumer takes, although the queue has some.",
        "Raise the priority of the waiting task, or add consumers to its partition.",
        blocked,
        asks=("agents",),
    ),
)
