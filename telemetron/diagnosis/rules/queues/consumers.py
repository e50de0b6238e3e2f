"""Consumers: none, none that commits, or a group that does not come to rest."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from telemetron.diagnosis.rule import Node, Place, Rule, Symptom
from telemetron.diagnosis.rules.queues.dead_letters import is_set_aside
from telemetron.diagnosis.rules.queues.readers import (
    STABLE,
    is_idle,
    is_starting,
    of_members,
    of_readers,
    queues_named,
    readers_of,
)
from telemetron.diagnosis.rules.workload.symptoms import is_job
from telemetron.diagnosis.trend import WINDOW_SECONDS
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import wait
from telemetron.document import Agent, Queue, Workload

REBALANCES = 4
"""Within the window of its trend."""


def no_consumers(queue: Queue, view: View) -> Iterator[Symptom]:
    """Work waits, and no member of the group has a partition of the queue."""
    if queue.consumer_group is None and queue.unacknowledged is None:  # Kafka's alone
        yield from _unread(queue, view)
        return
    waiting = queue.depth if queue.depth is not None else queue.lag
    if not waiting or queue.consumers != 0 or not (_rests(queue) or _assigns(queue)):
        return
    others = [one for one in _of_topic(queue, view) if one.key != queue.key]
    if any(one.consumers for one in others) and queue.consumed_at is None:
        return  # another group does the work; this one was never seen to
    readers = readers_of(queue, view)
    homes = {*of_members(queue, view)}
    around = [*of_readers(readers, view), *sorted(homes)]
    workloads = _workloads(around, view)
    if is_starting(around, view):
        return
    is_meant = not readers and is_set_aside(queue, view)
    is_left = is_meant or any(one.consumers and homes & {*of_members(one, view)} for one in others)
    yield Symptom(
        "NoConsumers",
        "queues",
        queue.key,
        f"{wait(waiting)} in queue {queue.name}, and {_whom(queue)} has no"
        f" consumer{_named(readers)}",
        [Place("queues", queue.key, field) for field in ("consumers", "depth", "group_state")],
        since=queue.oldest_submitted_at,
        provides=[("queue", queue.key)],
        depends=[*around, ("rebalancing", queue.key)],
        # Dead letters; or its members are in another group by now; or none is wanted, which is
        # `ScaledToZero`.
        severity="info" if is_left or (workloads and all(map(_is_at_zero, workloads))) else None,
        token=queue.consumed_at,  # a client without a group may commit, too
    )


def _unread(queue: Queue, view: View) -> Iterator[Symptom]:
    """Records arrive in a topic that no group reads."""
    others = [one for one in _of_topic(queue, view) if one.consumer_group]
    if queue.produced_at is None or others or not _tells_movement(queue):
        return
    starving = _starving(queue, view)
    yield Symptom(
        "NoConsumers",
        "queues",
        queue.key,
        f"Records arrive in queue {queue.name}, and no consumer group reads it"
        + (f", while tasks of agents wait for {starving}, who gets none" if starving else ""),
        [Place("queues", queue.key, field) for field in ("consumers", "produced_at")],
        provides=[
            ("queue", queue.key),
            *(("unread", queue.source, one) for one in _stems(queue.name)),
        ],
        severity=None if starving or readers_of(queue, view) else "info",
    )


def _starving(queue: Queue, view: View) -> str | None:
    """Whom stalled tasks wait for in vain: this queue, an idle one, or an idle agent.

    Without one a topic that nobody reads may be meant so: an audit log, dead letters.
    """
    old = [one for one in _of_source(queue, _stems(queue.name), view) if is_idle(one, view)]
    awaited = {queue.name, *(one.name for one in old)}
    for kind, name in sorted(
        term for term in view.terms("agents by stalled wait") if isinstance(term, tuple)
    ):
        if kind == "queue" and name in awaited:
            return f"queue {name}"
        for agent in view.find("agents by name", name) if kind == "agent" else ():
            if agent.status == "idle" and agent.queues and not _has_work(agent, view):
                return f"agent {name}"
    return None


def _has_work(agent: Agent, view: View) -> bool:
    return any(
        queue.depth is None or queue.depth
        for name in agent.queues
        for queue in queues_named(name, agent, view)
        if queue.consumer_group is not None
    )


def stuck(queue: Queue, view: View) -> Iterator[Symptom]:
    """Consumers are there and commits do not move, while no agent works on a task of it."""
    if not queue.depth or not queue.consumers or not _rests(queue):
        return
    readers = readers_of(queue, view)
    working = [agent for agent in readers if _works_on(agent, queue)]
    if working or queue.open_transaction_since is not None or not _tells_movement(queue):
        return
    yield Symptom(
        "QueueStuck",
        "queues",
        queue.key,
        f"{wait(queue.depth)} in queue {queue.name}; {_all(queue.consumers)}"
        f" {_moved(queue)} nothing{_since(queue.consumed_at)}",
        [Place("queues", queue.key, field) for field in ("depth", "consumers", "consumed_at")],
        since=queue.oldest_submitted_at,
        provides=[("queue", queue.key)],
        depends=[
            ("queue", queue.key),
            *of_readers(readers, view),
            *(("stalls", agent.key) for agent in readers),
        ],
        token=queue.consumed_at,
    )


def rebalancing(queue: Queue, view: View) -> Iterator[Symptom]:
    """The group does not come to rest, or rebalances again and again and commits nothing."""
    if queue.consumer_group is None:
        return
    ring = ("queues", queue.key)
    view.trends.add(ring, view.monotonic, queue.depth or 0, queue.generation or 0)
    homes = of_members(queue, view)
    is_restless = not _rests(queue) and not _assigns(queue)
    if is_restless or _spins(queue, view):
        yield Symptom(
            "Rebalancing",
            "queues",
            queue.key,
            f"Group {queue.consumer_group} of queue {queue.name} does not come to rest: it is"
            f" {queue.group_state}, and has committed nothing{_since(queue.consumed_at)}",
            [Place("queues", queue.key, field) for field in ("group_state", "generation")],
            window_seconds=0.0 if is_restless else WINDOW_SECONDS,
            provides=[("queue", queue.key), ("rebalancing", queue.key)],
            depends=[("pods", key) for _, key in homes],  # what restarts joins again
        )


# lookups


def _of_topic(queue: Queue, view: View) -> list[Queue]:
    """The same topic, as all groups have it."""
    return _of_source(queue, [queue.name], view)


def _of_source(queue: Queue, names: Iterable[str], view: View) -> list[Queue]:
    found = [one for name in names for one in view.find("queues by name", name)]
    return [one for one in found if one.source == queue.source]


def _workloads(nodes: Iterable[Node], view: View) -> list[Workload]:
    keys = dict.fromkeys(key for kind, key, *_ in nodes if kind == "workload")
    return [one for key in keys if (one := view.get("workload", key)) and not is_job(one)]


def _is_at_zero(one: Workload) -> bool:
    return one.live is not None and one.live.desired == 0


def _stems(name: str) -> list[str]:
    """Return the names that a renamed queue may have had: `plans` of `plans-v2`."""
    return [name[: end.start()] for end in re.finditer(r"\b[-._]", name)]


def _spins(queue: Queue, view: View) -> bool:
    """Whether it has rebalanced several times in two minutes, and has not committed in one."""
    if not queue.depth or view.trends.gain(("queues", queue.key), 1) < REBALANCES:
        return False
    return queue.consumed_at is None or view.now - queue.consumed_at > timedelta(seconds=60)


def _works_on(agent: Agent, queue: Queue) -> bool:
    return any(
        task.queue in (None, queue.name) and not task.stalled and not task.last_known
        for task in agent.activity.active_task_ids
    )


def _rests(queue: Queue) -> bool:
    """Whether no rebalance changes who reads it; only groups rebalance."""
    return queue.consumer_group is None or queue.group_state in STABLE


def _assigns(queue: Queue) -> bool:
    return queue.group_state == "Assigning"


def _whom(queue: Queue) -> str:
    return "it" if queue.consumer_group is None else f"group {queue.consumer_group}"


def _moved(queue: Queue) -> str:
    return "acknowledged" if queue.consumer_group is None else "committed"


def _tells_movement(queue: Queue) -> bool:
    return all(problem.reason != "MetricsUnavailable" for problem in queue.problems)


def _all(consumers: int) -> str:
    return "its only consumer has" if consumers == 1 else f"its {consumers} consumers have"


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
        "Work waits, and no consumer takes it. New pods have a minute to start. A topic that no "
        "group reads is information unless an agent declares it or tasks wait in vain.",
        "Look at the agents that read the queue and at their workload: do they run, and do they "
        "subscribe to this topic with this group? `kafka-consumer-groups.sh --describe --group "
        "GROUP` lists the members.",
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
        "Read the consumers' logs: do they still poll and commit? Restart one consumer; if its "
        "partitions move then, restart the others.",
        stuck,
        asks=("agents",),
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
)
