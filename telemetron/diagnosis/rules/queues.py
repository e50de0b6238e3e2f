"""Queues: work that nobody takes, that does not move, or that comes faster than it is done."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Node, Place, Rule, Symptom
from telemetron.diagnosis.view import View
from telemetron.document import Agent, PartitionLag, PendingTask, Pod, Queue

REBALANCES = 4
"""Within the window of its trend."""
STABLE = ("Stable", "Empty", "Dead", None)


def no_consumers(queue: Queue, view: View) -> Iterator[Symptom]:
    """Work waits, and no member of the group has a partition of the queue."""
    if queue.consumer_group is None:
        yield from _unread(queue, view)
        return
    waiting = queue.depth if queue.depth is not None else queue.lag
    if not waiting or queue.consumers != 0 or queue.group_state in ("PreparingRebalance",):
        return
    others = [one for one in view.find("queues by name", queue.name) if one.key != queue.key]
    if any(one.consumers for one in others) and queue.consumed_at is None:
        return  # another group does the work; this one was never seen to
    readers = view.find("agents by queue", queue.name)
    yield Symptom(
        "NoConsumers",
        "queues",
        queue.key,
        f"{waiting} tasks wait in queue {queue.name}, and group {queue.consumer_group} has no"
        f" consumer{_named(readers)}",
        [Place("queues", queue.key, field) for field in ("consumers", "depth", "group_state")],
        since=queue.consumed_at or queue.oldest_submitted_at,
        provides=[("queue", queue.name), ("queue", queue.key)],
        depends=[*_of_readers(readers), *_of_members(queue, view)],
    )


def _unread(queue: Queue, view: View) -> Iterator[Symptom]:
    """Records arrive in a topic that no group reads."""
    others = [one for one in view.find("queues by name", queue.name) if one.consumer_group]
    if queue.produced_at is not None and not others:
        yield Symptom(
            "NoConsumers",
            "queues",
            queue.key,
            f"Records arrive in queue {queue.name}, and no consumer group reads it",
            [Place("queues", queue.key, field) for field in ("consumer_group", "produced_at")],
            provides=[("queue", queue.name), ("queue", queue.key)],
        )


def stuck(queue: Queue, view: View) -> Iterator[Symptom]:
    """Consumers are there and commits do not move, while no agent works on a task of it."""
    if not queue.depth or not queue.consumers or queue.group_state not in STABLE:
        return
    readers = view.find("agents by queue", queue.name)
    working = [agent for agent in readers if _works_on(agent, queue)]
    if working or queue.open_transaction_since is not None:
        return
    yield Symptom(
        "QueueStuck",
        "queues",
        queue.key,
        f"{queue.depth} tasks wait in queue {queue.name}; its {queue.consumers} consumers have"
        f" committed nothing{_since(queue.consumed_at)}",
        [Place("queues", queue.key, field) for field in ("depth", "consumers", "consumed_at")],
        since=queue.consumed_at or queue.oldest_submitted_at,
        provides=[("queue", queue.name), ("queue", queue.key)],
        depends=_of_readers(readers),
        token=queue.consumed_at,
    )


def poison(queue: Queue, view: View) -> Iterator[Symptom]:
    """The first task of a partition does not get done, while its consumers fail on it."""
    for lagging in queue.lagging:
        head = _head(queue, lagging)
        if head is None or not lagging.lag:
            continue
        for agent in view.find("agents by queue", queue.name):
            if evidence := _failed_on(agent, head, lagging, queue, view):
                workloads = {one.workload for one in agent.instances if one.workload}
                yield Symptom(
                    "PoisonTask",
                    "queues",
                    queue.key,
                    f"Task {head.id} at the head of partition {lagging.partition} of queue"
                    f" {queue.name} is not done: its consumers fail on it; {lagging.lag} wait"
                    " behind it",
                    [
                        Place("queues", queue.key, item("lagging", str(lagging.partition), "lag")),
                        Place("queues", queue.key, item("tasks", head.id, "offset")),
                        *evidence,
                    ],
                    path=item("tasks", head.id),
                    since=lagging.consumed_at or head.submitted_at,
                    provides=[
                        ("task", head.id),
                        ("failing", agent.key),
                        ("queue", queue.key),
                        *(("crash", workload) for workload in sorted(workloads)),
                    ],
                    token=(lagging.partition, head.offset),
                )
                break


def rebalancing(queue: Queue, view: View) -> Iterator[Symptom]:
    """The group does not come to rest, or rebalances again and again and commits nothing."""
    ring = ("queues", queue.key)
    view.trends.add(ring, view.monotonic, queue.depth or 0, queue.generation or 0)
    is_restless = queue.group_state not in STABLE and queue.group_state != "Assigning"
    if is_restless or _spins(queue, view):
        yield Symptom(
            "Rebalancing",
            "queues",
            queue.key,
            f"Group {queue.consumer_group} of queue {queue.name} does not come to rest: it is"
            f" {queue.group_state}, and has committed nothing{_since(queue.consumed_at)}",
            [Place("queues", queue.key, field) for field in ("group_state", "generation")],
            provides=[("queue", queue.name), ("queue", queue.key)],
        )


def growing(queue: Queue, view: View) -> Iterator[Symptom]:
    """More comes than is done: all that the queue had lately is more than it had before."""
    members = _of_members(queue, view)  # also to remember them
    if queue.depth is None or queue.consumers == 0:
        return
    if not view.trends.rises(("queues", queue.key), view.monotonic):
        return
    readers = view.find("agents by queue", queue.name)
    yield Symptom(
        "QueueGrowing",
        "queues",
        queue.key,
        f"Queue {queue.name} grows: {queue.depth} tasks wait for {queue.consumers} consumers",
        [Place("queues", queue.key, field) for field in ("depth", "consumers", "consumed_at")],
        since=queue.oldest_submitted_at,
        provides=[("backlog", queue.name)],
        depends=[
            *members,
            ("queue", queue.name),
            ("queue", queue.key),
            *_of_readers(readers),
            *_capacity(readers),
        ],
    )


def open_transaction(queue: Queue, _: View) -> Iterator[Symptom]:
    """A producer's transaction stays open; nothing behind it can be read."""
    if queue.open_transaction_since is not None:
        yield Symptom(
            "OpenTransaction",
            "queues",
            queue.key,
            f"A transaction on queue {queue.name} stays open; {queue.open_transaction_offsets or 0}"
            " offsets behind it cannot be read",
            [
                Place("queues", queue.key, field)
                for field in ("open_transaction_since", "open_transaction_offsets")
            ],
            since=queue.open_transaction_since,
            provides=[("queue", queue.name), ("queue", queue.key)],
            token=queue.open_transaction_since,
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
                        depends=[("queue", queue.key), ("backlog", queue.name)],
                        token=pending.id,
                    )


def records_lost(queue: Queue, _: View) -> Iterator[Symptom]:
    """Records were deleted that the group had not read."""
    for problem in queue.problems:
        if problem.reason == "RecordsLost":
            yield Symptom(
                "RecordsLost",
                "queues",
                queue.key,
                f"Records of queue {queue.name} were deleted before group"
                f" {queue.consumer_group} had read them",
                [
                    Place("queues", queue.key, item("problems", "RecordsLost", field))
                    for field in ("reason", "message")
                ],
                since=problem.since,
                provides=[("queue", queue.name), ("queue", queue.key)],
            )


# what they look at


def _of_members(queue: Queue, view: View) -> list[Node]:
    """The workloads whose pods are members of its group, or were when it last had any."""
    keys = {
        workload.key
        for member in queue.members
        if member.host
        for workload in view.find("workloads of address", member.host)
    }
    if keys:
        view.homes[queue.key] = sorted(keys)
    known = view.homes.get(queue.key, ())
    return [("workload", key) for key in known]


def _spins(queue: Queue, view: View) -> bool:
    """Whether it has rebalanced several times in two minutes, and has not committed in one."""
    if not queue.depth or view.trends.gain(("queues", queue.key), 1) < REBALANCES:
        return False
    return queue.consumed_at is None or view.now - queue.consumed_at > timedelta(seconds=60)


def _of_readers(readers: list[Agent]) -> list[Node]:
    nodes: list[Node] = []
    for agent in readers:
        nodes.append(("agent", agent.key))
        workloads = {one.workload for one in agent.instances if one.workload}
        nodes += [("workload", workload) for workload in sorted(workloads)]
        if agent.deployment_name:
            nodes.append(("deployment", agent.namespace or "", agent.deployment_name))
    return nodes


def _capacity(readers: list[Agent]) -> list[Node]:
    """A backlog grows also because pods are missing, not only because none is there."""
    workloads = {one.workload for agent in readers for one in agent.instances if one.workload}
    return [
        *(("pods", workload) for workload in sorted(workloads)),
        *(("maximum", workload) for workload in sorted(workloads)),
        *(("load", agent.key) for agent in readers),
        *(("failing", agent.key) for agent in readers),
        *(("stalls", agent.key) for agent in readers),
    ]


def _works_on(agent: Agent, queue: Queue) -> bool:
    return any(
        task.queue in (None, queue.name) and not task.stalled and not task.last_known
        for task in agent.activity.active_task_ids
    )


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
    hosts = {one.host for one in queue.members if lagging.partition in (one.partitions or ())}
    for instance in agent.instances:
        pods = _pods(instance.workload, instance.pod_id, view)
        has_it = bool(hosts & {pod.ip for pod in pods})
        if has_it and (instance.tasks_lost or 0) > 0 and (instance.lives or 0) > 1:
            path = item("instances", instance.id)
            return [
                Place("agents", agent.key, f"{path}/{field}") for field in ("lives", "tasks_lost")
            ]
    return []


def _pods(workload: str | None, name: str | None, view: View) -> list[Pod]:
    found = view.get("workload", workload) if workload else None
    return [pod for pod in found.pods if pod.pod_id == name] if found else []


def _named(readers: list[Agent]) -> str:
    names = ", ".join(agent.name for agent in readers[:3])
    return f"; it is read by {names}" if names else ""


def _since(at: datetime | None) -> str:
    return f" since {at:%H:%M:%S}Z" if at else " that Telemetron has seen"


RULES = (
    Rule(
        "NoConsumers",
        "queues",
        "critical",
        15,
        5,
        "`consumers` is 0 and `depth` is above 0; or `consumer_group` is null and records arrive",
        "Work waits, and no consumer takes it.",
        "Look at the agents that read the queue and at their workload: do they run, do they"
        " subscribe to this topic, with this group?",
        no_consumers,
        asks=("agents", "workload"),
    ),
    Rule(
        "QueueStuck",
        "queues",
        "warning",
        120,
        5,
        "`depth`, `consumers`, `consumed_at`, and tasks of agents that came from this queue",
        "Consumers are there, but no commit has moved for two minutes, and no agent works on a task"
        " of the queue.",
        "Look at the consumers' logs: does their loop run, do they commit?",
        stuck,
        asks=("agents",),
    ),
    Rule(
        "PoisonTask",
        "queues",
        "critical",
        10,
        10,
        "`lagging[]`, `tasks[]`, and the failures and restarts of the agents that read the queue",
        "One task fails or kills every consumer that takes it, and blocks its partition.",
        "Read the task's record; skip it (commit past its offset) or mend what fails on it.",
        poison,
        asks=("agents", "workload"),
    ),
    Rule(
        "Rebalancing",
        "queues",
        "warning",
        60,
        10,
        "`group_state` is not `Stable`, or `generation` rises while `consumed_at` stands still",
        "The group does not come to rest: members come and go, or are too slow to poll.",
        "Compare `max.poll.interval.ms` with how long a task takes; look for members that restart.",
        rebalancing,
    ),
    Rule(
        "QueueGrowing",
        "queues",
        "warning",
        20,
        30,
        "`depth` over the last two minutes",
        "More work comes than is done. A large backlog that shrinks is no finding.",
        "Add consumers up to the number of partitions, or slow the producers.",
        growing,
        asks=("agents", "workload"),
    ),
    Rule(
        "OpenTransaction",
        "queues",
        "warning",
        60,
        5,
        "`open_transaction_since`",
        "A producer holds a transaction open; consumers that read committed records see nothing"
        " behind it.",
        "Find the producer (`kafka-transactions.sh find-hanging`) and end it or its transaction.",
        open_transaction,
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
    Rule(
        "RecordsLost",
        "queues",
        "critical",
        0,
        5,
        "`problems[].reason` is `RecordsLost`",
        "Retention or a deletion removed records before the group had read them. Their tasks will"
        " never be done.",
        "Lengthen the retention, add consumers, and submit the lost tasks again.",
        records_lost,
    ),
)
