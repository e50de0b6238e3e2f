"""Agents that have too much to do, or nothing although work waits."""

from collections.abc import Iterator, Sequence

from telemetron.diagnosis.rule import Node, Place, Rule, Symptom
from telemetron.diagnosis.rules.agents.tasks import agents_named, of_wait
from telemetron.diagnosis.rules.queues.readers import (
    STABLE,
    STARTING,
    is_starting,
    of_members,
    of_readers,
    queues_named,
)
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import wait
from telemetron.document import Agent, Queue


def slots(agent: Agent, view: View) -> Iterator[Symptom]:
    """All slots are taken by tasks that wait for work which waits for a slot."""
    tasks = agent.activity.active_task_ids
    waiting = [task for task in tasks if task.waits and task.stalled]
    if not tasks or len(waiting) < len(tasks):
        return
    if agent.activity.task_count < agent.max_parallel_invocations:
        return
    own = {*agent.queues}
    children = [
        pending
        for name in agent.queues
        for queue in queues_named(name, agent, view)
        for pending in queue.tasks
        if queue.depth
    ]
    asked = {wait.name for task in waiting for wait in task.waits if wait.kind == "queue"}
    asks_itself = any(
        wait.kind == "agent" and agent in agents_named(wait, agent, view)
        for task in waiting
        for wait in task.waits
    )
    if children and (asked & own or asks_itself):
        yield Symptom(
            "SlotsExhausted",
            "agents",
            agent.key,
            f"{_all_slots(agent)} for tasks that wait in its own queue",
            [
                Place("agents", agent.key, "activity/task_count"),
                Place("agents", agent.key, "max_parallel_invocations"),
                *of_wait(agent, waiting[0]),
            ],
            since=min((t.progressed_at for t in waiting if t.progressed_at), default=None),
            provides=[
                ("stalls", agent.key),
                ("load", agent.key),
                ("agent", agent.key),
                *(("task", task.id) for task in waiting),
            ],
        )


def overloaded(agent: Agent, _: View) -> Iterator[Symptom]:
    """More tasks are active than it says it can run."""
    count, most = agent.activity.task_count, agent.max_parallel_invocations
    if count > most and any(one.max_parallel_invocations for one in agent.instances):
        yield Symptom(
            "Overloaded",
            "agents",
            agent.key,
            f"Agent {agent.name} runs {count} tasks and can run {most}",
            [
                Place("agents", agent.key, "activity/task_count"),
                Place("agents", agent.key, "max_parallel_invocations"),
            ],
            provides=[("load", agent.key)],
            depends=[("stalls", agent.key)],
        )


def idle(agent: Agent, view: View) -> Iterator[Symptom]:
    """It has nothing to do, while work waits in its queue, and is in the queue's group."""
    for queue in _waiting(agent, view):
        if queue.consumers != 0:
            yield _idle(
                "IdleWhileWorkWaits",
                f"Agent {agent.name} is idle, while {wait(queue.depth or 0)} in queue {queue.name}",
                agent,
                queue,
                depends=[("queue", queue.key)],
                severity="critical" if _is_awaited(agent, queue, view) else None,
            )


def not_consuming(agent: Agent, view: View) -> Iterator[Symptom]:
    """It has nothing to do, while work waits in its queue, and has left the queue's group."""
    for queue in _waiting(agent, view):
        if queue.consumers == 0 and queue.group_state in STABLE:
            yield _idle(
                "NotConsuming",
                f"Agent {agent.name} is alive and idle, but no member of group"
                f" {queue.consumer_group}, while {wait(queue.depth or 0)} in queue {queue.name}",
                agent,
                queue,
                depends=[("rebalancing", queue.key)],
            )


# lookups


def _all_slots(agent: Agent) -> str:
    most = agent.max_parallel_invocations
    if most == 1:
        return f"The only slot of agent {agent.name} waits"
    return f"All {most} slots of agent {agent.name} wait"


def _waiting(agent: Agent, view: View) -> Iterator[Queue]:
    """Yield the queues of an idle agent in which work waits."""
    if agent.status == "idle" and not agent.silent_count and not _has_started(agent, view):
        for name in agent.queues:
            for queue in queues_named(name, agent, view):
                if queue.depth and queue.consumer_group and _is_own(agent, queue, view):
                    yield queue


def _has_started(agent: Agent, view: View) -> bool:
    """Whether it is about to consume: a pod or a process of it is new."""
    started = [one.started_at for one in agent.instances if one.started_at]
    if any(abs(view.now - at) < STARTING for at in started):
        view.revisit()
        return True
    return is_starting(of_readers([agent], view), view)


def _is_own(agent: Agent, queue: Queue, view: View) -> bool:
    """Whether the agent's group reads it: of several groups only that of its pods or its name."""
    groups = [one for one in queues_named(queue.name, agent, view) if one.consumer_group]
    if len(groups) == 1 or queue.consumer_group == agent.name:
        return True
    own = {("workload", one.workload) for one in agent.instances if one.workload}
    return not own.isdisjoint(of_members(queue, view))


def _is_awaited(agent: Agent, queue: Queue, view: View) -> bool:
    """Whether stalled tasks wait for the agent or its queue."""
    waits = ("agent", agent.name), ("queue", queue.name)
    waiting = [one for wait in waits for one in view.find("agents by stalled wait", wait)]
    return any(one.namespace == agent.namespace for one in waiting)


def _idle(
    rule: str,
    summary: str,
    agent: Agent,
    queue: Queue,
    depends: Sequence[Node] = (),
    severity: str | None = None,
) -> Symptom:
    return Symptom(
        rule,
        "agents",
        agent.key,
        summary,
        [
            Place("agents", agent.key, "status"),
            Place("queues", queue.key, "depth"),
            Place("queues", queue.key, "consumers"),
        ],
        since=queue.oldest_submitted_at,
        provides=[("agent", agent.key)],
        depends=[
            *(("workload", one.workload) for one in agent.instances if one.workload),
            *depends,
        ],
        severity=severity,
        token=(queue.key, queue.consumed_at),
    )


RULES = (
    Rule(
        "SlotsExhausted",
        "agents",
        "critical",
        10,
        5,
        "`task_count`, `max_parallel_invocations`, `waits`, and `depth` of its queue",
        "All slots of an agent are taken by tasks which wait for tasks that wait for a slot.",
        "Raise `max_parallel_invocations`, or give the inner tasks an agent or queue of their own.",
        slots,
        asks=("queues",),
    ),
    Rule(
        "Overloaded",
        "agents",
        "warning",
        20,
        20,
        "`task_count` and `max_parallel_invocations`",
        "An agent runs more tasks than it says it can.",
        "Add instances, or let the agent refuse tasks above its maximum.",
        overloaded,
    ),
    Rule(
        "IdleWhileWorkWaits",
        "agents",
        "warning",
        45,
        5,
        "`status` is `idle` and `depth` of a queue it reads is above 0",
        "The agent has nothing to do, although work waits for it. Critical if stalled tasks wait"
        " for it.",
        "Read the log of its consumer loop: does it still poll? Restart one instance; if the "
        "queue moves then, restart the others.",
        idle,
        asks=("queues", "workload"),
    ),
    Rule(
        "NotConsuming",
        "agents",
        "critical",
        15,
        5,
        "`status` is `idle`, and of a queue it reads `depth` is above 0 and `consumers` is 0",
        "The agent is alive, but none of its instances is in its queue's consumer group, and work"
        " waits.",
        "Look for an exception in the thread that consumes, and at the topic and group that it"
        " subscribes to; restart the agent.",
        not_consuming,
        asks=("queues", "workload"),
    ),
)
