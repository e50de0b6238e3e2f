"""Instances that fell silent, and clocks that differ."""

from collections.abc import Iterator

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Node, Place, Rule, Symptom
from telemetron.diagnosis.rules.homes import home_of, pod_of
from telemetron.diagnosis.rules.queues.readers import queues_named
from telemetron.diagnosis.rules.workload.symptoms import on_nodes
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import be
from telemetron.document import Agent, Instance

ENOUGH_AGENTS = 3
"""Agents that must be silent at once for a claim that heartbeats are lost on their way."""


def gone(agent: Agent, view: View) -> Iterator[Symptom]:
    """All of its instances are silent."""
    if agent.silent_count and agent.silent_count == agent.instance_count:
        silent = [one for one in agent.instances if one.status == "silent"]
        if any(_is_alive(agent, one, view) for one in silent):
            return
        yield Symptom(
            "AgentGone",
            "agents",
            agent.key,
            f"Agent {agent.name} is gone: {_all(agent.silent_count, 'instance')} silent",
            [
                Place("agents", agent.key, "status"),
                Place("agents", agent.key, "silent_count"),
                Place("agents", agent.key, item("instances", silent[0].id, "status")),
            ],
            since=min(one.silent_since for one in silent if one.silent_since),
            token=max(one.silent_since for one in silent if one.silent_since),
            provides=[("agent", agent.key), *(_instance(agent, one) for one in silent)],
            depends=[node for one in silent for node in _homes(agent, one, view)],
            severity="warning" if all(_is_unheard(agent, one, view) for one in silent) else None,
        )


def silent(agent: Agent, view: View) -> Iterator[Symptom]:
    """Some of its instances are silent; if another source sees one work, that is the finding."""
    whole = agent.silent_count == agent.instance_count
    for one in agent.instances:
        if one.status != "silent":
            continue
        alive = _is_alive(agent, one, view)
        if whole and not alive:
            continue
        evidence = [Place("agents", agent.key, item("instances", one.id, "status"))]
        lost = _lost_tasks(agent, one)
        yield Symptom(
            "AgentSilent",
            "agents",
            agent.key,
            f"Instance {one.id} of agent {agent.name} is silent{_but(alive, lost)}",
            [*evidence, *(alive[1] if alive else ())],
            path=item("instances", one.id),
            since=one.silent_since,
            token=one.silent_since,
            provides=() if alive else [_instance(agent, one)],
            depends=[("source", one.source)] if alive else _homes(agent, one, view),
            severity="info" if alive or (_was_removed(agent, one, view) and not lost) else None,
            basis="contradiction" if alive else "observed",
        )


def skewed(agent: Agent, _: View) -> Iterator[Symptom]:
    """A clock that differs; nothing else follows from it."""
    for one in agent.instances:
        if one.clock_offset_seconds is not None:
            yield Symptom(
                "ClockSkew",
                "agents",
                agent.key,
                f"The clock of instance {one.id} differs by {one.clock_offset_seconds} s",
                [Place("agents", agent.key, item("instances", one.id, "clock_offset_seconds"))],
                path=item("instances", one.id),
            )


# lookups


def _instance(agent: Agent, one: Instance) -> Node:
    return "instance", agent.key, one.id


def _homes(agent: Agent, one: Instance, view: View) -> list[Node]:
    """What takes an instance with it when it goes, or hides it."""
    nodes: list[Node] = [("source", one.source)]
    home = home_of(agent, one, view)
    if home:
        nodes += [("workload", home.key), ("pod", home.key, one.pod_id or "")]
    pod = pod_of(home, one)
    if home and pod:
        nodes += on_nodes(home, [pod])
    return nodes


def unheard(view: View, source: str) -> int:
    """Count the silent agents of a source if none of its agents beats any more, and many did."""
    if view.count("agents by beat", (source, "live")):
        return 0
    count = view.count("agents by beat", (source, "silent"))
    return count if count >= ENOUGH_AGENTS else 0


def _is_unheard(agent: Agent, one: Instance, view: View) -> bool:
    """Whether its pod is ready, and no heartbeats of other agents arrive either."""
    pod = pod_of(home_of(agent, one, view), one)
    return pod is not None and pod.ready is True and view.fact(unheard, one.source) > 0


def _was_removed(agent: Agent, one: Instance, view: View) -> bool:
    """Whether its pod is gone, or has ended while its workload has all the pods that it wants."""
    home = home_of(agent, one, view)
    if home is None or home.live is None or one.pod_id is None:
        return False
    pod = pod_of(home, one)
    if pod is None:
        return not home.truncated
    is_whole = home.live.ready is not None and home.live.ready >= (home.live.desired or 0)
    return pod.status in ("Failed", "Succeeded") and is_whole


def _is_alive(agent: Agent, one: Instance, view: View) -> tuple[str, list[Place]] | None:
    """What shows that a silent instance works: its group's member has committed since."""
    pod = pod_of(home_of(agent, one, view), one)
    if pod is None or pod.ip is None or one.silent_since is None or not pod.ready:
        return None
    for name in agent.queues:
        for queue in queues_named(name, agent, view):
            mine = [member for member in queue.members if member.host == pod.ip]
            numbers = {number for member in mine for number in member.partitions or ()}
            if not numbers or not queue.consumed_at or queue.consumed_at <= one.silent_since:
                continue
            if all(
                lagging.consumed_at and lagging.consumed_at > one.silent_since
                for lagging in queue.lagging
                if lagging.partition in numbers
            ):
                places = [
                    Place("queues", queue.key, "consumed_at"),
                    Place("queues", queue.key, item("members", mine[0].client_id, "host")),
                ]
                return f"its member of group {queue.consumer_group} goes on", places
    return None


def _but(alive: tuple[str, list[Place]] | None, lost: int) -> str:
    if alive:
        return f", but {alive[0]}"
    return f"; {lost} of its tasks {be(lost)} last known" if lost else ""


def _lost_tasks(agent: Agent, one: Instance) -> int:
    """Count its last known tasks, except tasks that another instance works on by now."""
    tasks = agent.activity.active_task_ids
    taken = {task.id for task in tasks if not task.last_known}
    lost = [task for task in tasks if task.last_known and task.instance == one.id]
    return sum(task.id not in taken for task in lost)


def _all(count: int, noun: str) -> str:
    return f"its only {noun} is" if count == 1 else f"all {count} {noun}s are"


RULES = (
    Rule(
        "AgentGone",
        "agents",
        "critical",
        10,
        5,
        "`silent_count` equals `instance_count`",
        "Every instance of the agent is silent, and no other source sees one work. A warning if its"
        " pods are ready and no agent is heard any more.",
        "Look at its pods (`kubectl get pods`). If they are ready, the process hangs or cannot "
        "reach Telemetron: read its log, then restart it.",
        gone,
        asks=("workload", "queues"),
    ),
    Rule(
        "AgentSilent",
        "agents",
        "warning",
        10,
        5,
        "`instances[].status` is `silent`",
        "An instance sends no heartbeat, and no other source sees it work. If one does, the "
        "finding has the basis `contradiction` and the severity `info`.",
        "Look at the instance's pod and its log; restart the pod if the process hangs.",
        silent,
        asks=("workload", "queues"),
    ),
    Rule(
        "ClockSkew",
        "agents",
        "info",
        30,
        60,
        "`clock_offset_seconds`",
        "The clock of an instance differs from Telemetron's by 2 s or more. Its times are shown "
        "as it sends them; nothing else follows.",
        "Synchronize the clock of its node.",
        skewed,
    ),
)
