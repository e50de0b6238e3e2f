"""Agents: instances that fell silent, tasks that get nowhere, and loops between them."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import groupby, pairwise

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Node, Place, Rule, Symptom
from telemetron.diagnosis.view import View
from telemetron.document import Agent, Instance, Pod, Task, Wait

TASKS = "activity/active_task_ids"
PEOPLE = ("human", "auth")
NOT_FOUND = ("NotFound", "BadRequest", "InvalidModel", "ModelNotFound", "UnknownModel")
FAILURES = 3
"""Tasks that must have failed in the window."""
WINDOW_SECONDS = 120.0
OLD = timedelta(hours=24)
"""A dialogue that lasts so long is no work any more."""


# instances


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
                Place("agents", agent.key, item("instances", silent[0].id, "silent_since")),
            ],
            since=min(one.silent_since for one in silent if one.silent_since),
            token=max(one.silent_since for one in silent if one.silent_since),
            provides=[("agent", agent.key), *(_instance(agent, one) for one in silent)],
            depends=[node for one in silent for node in _homes(agent, one, view)],
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
        evidence = [
            Place("agents", agent.key, item("instances", one.id, field))
            for field in ("status", "silent_since")
        ]
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
            depends=() if alive else _homes(agent, one, view),
            severity="info" if alive or (_was_removed(one, view) and not lost) else None,
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


# tasks


def stalled(agent: Agent, view: View) -> Iterator[Symptom]:
    """Tasks make no progress; those that wait for the same thing are one symptom."""
    tasks = [task for task in _stuck(agent) if task.id not in _cycle(agent, view)]
    for awaited, group in groupby(sorted(tasks, key=_awaited), key=_awaited):
        members = sorted(group, key=lambda task: (task.progressed_at is None, task.progressed_at))
        first = members[0]
        yield Symptom(
            "TaskStalled",
            "agents",
            agent.key,
            f"{_tasks(members)} of agent {agent.name} make{'s' * (len(members) == 1)} no"
            f" progress{_waiting(awaited)}",
            [*_of_task(agent, first, "stalled", "progressed_at"), *_of_wait(agent, first)],
            path=item(TASKS, first.id),
            since=first.progressed_at,
            provides=[("stalls", agent.key), *(("task", task.id) for task in members)],
            depends=[
                ("awaited", *awaited),
                *(node for task in members for node in _reasons(agent, task, view)),
            ],
        )


def common_wait(agent: Agent, view: View) -> Iterator[Symptom]:
    """Tasks of several agents make no progress, and wait for the same."""
    tasks = sorted(_stuck(agent), key=_awaited)
    for awaited, group in groupby(tasks, key=_awaited):
        agents = view.find("agents by stalled wait", awaited)
        if not awaited[1] or len(agents) < 2:
            continue
        first = min(group, key=lambda task: task.id)
        names = ", ".join(one.name for one in agents[:4])
        yield Symptom(
            "CommonWait",
            "agents",
            agent.key,
            f"Tasks of {len(agents)} agents make no progress{_waiting(awaited)}: {names}",
            [*_of_task(agent, first, "stalled", "progressed_at"), *_of_wait(agent, first)],
            path=item(TASKS, first.id),
            kind=awaited[0],
            name=awaited[1],
            since=first.progressed_at,
            provides=[("awaited", *awaited)],
            depends=_reasons(agent, first, view),
            is_group=True,
        )


def cycle(agent: Agent, view: View) -> Iterator[Symptom]:
    """Tasks wait for each other in a ring."""
    ring = _cycle(agent, view)
    if ring and min(ring.values()) == agent.key:
        mine = [task for task in _stuck(agent) if task.id in ring]
        first = min(mine, key=lambda task: task.started_on.timestamp() if task.started_on else 0.0)
        names = sorted({key.rpartition("/")[2] for key in ring.values()})
        yield Symptom(
            "WaitCycle",
            "agents",
            agent.key,
            f"Tasks of {' and '.join(names)} wait for each other: {', '.join(sorted(ring)[:4])}",
            [place for id, key in sorted(ring.items())[:4] for place in _waits_of(key, id, view)],
            path=item(TASKS, first.id),
            since=first.progressed_at,
            provides=[
                *(("task", id) for id in ring),
                *(("stalls", key) for key in {*ring.values()}),
            ],
        )


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
        for queue in view.find("queues by name", name)
        for pending in queue.tasks
        if queue.depth
    ]
    asked = {wait.name for task in waiting for wait in task.waits if wait.kind == "queue"}
    asks_itself = any(
        wait.kind == "agent" and agent in _agents_named(wait, agent, view)
        for task in waiting
        for wait in task.waits
    )
    if children and (asked & own or asks_itself):
        yield Symptom(
            "SlotsExhausted",
            "agents",
            agent.key,
            f"All {agent.max_parallel_invocations} slots of agent {agent.name} wait for tasks that"
            " wait in its own queue",
            [
                Place("agents", agent.key, "activity/task_count"),
                Place("agents", agent.key, "max_parallel_invocations"),
                *_of_wait(agent, waiting[0]),
            ],
            since=min((t.progressed_at for t in waiting if t.progressed_at), default=None),
            provides=[
                ("stalls", agent.key),
                ("load", agent.key),
                ("agent", agent.key),
                *(("task", task.id) for task in waiting),
            ],
        )


def orphan(agent: Agent, view: View) -> Iterator[Symptom]:
    """A task goes on whose parent is lost with its instance."""
    found = [
        (task, owner, parent)
        for task in agent.activity.active_task_ids
        if task.parent_id and not task.last_known
        for owner, parent in _owners(task.parent_id, view)
        if parent.last_known
    ]
    if found:
        task, owner, parent = found[0]
        yield Symptom(
            "OrphanTask",
            "agents",
            agent.key,
            f"{_tasks([one for one, _, _ in found])} of agent {agent.name} run for a parent that is"
            f" lost with instance {parent.instance} of agent {owner.name}",
            [
                *_of_task(agent, task, "parent_id"),
                Place("agents", owner.key, item(TASKS, parent.id, "last_known")),
            ],
            path=item(TASKS, task.id),
            since=task.started_on,
            depends=[("instance", owner.key, each.instance or "") for _, owner, each in found],
        )


def ghost(agent: Agent, view: View) -> Iterator[Symptom]:
    """A task is said to run on a pod that has ended."""
    for one in agent.instances:
        pod = _pod(one, view)
        if one.status != "silent" and pod and pod.status in ("Failed", "Succeeded"):
            tasks = [task for task in agent.activity.active_task_ids if task.instance == one.id]
            if tasks:
                yield Symptom(
                    "GhostTask",
                    "agents",
                    agent.key,
                    f"{_tasks(tasks)} of agent {agent.name} are active on pod {pod.pod_id}, which"
                    f" has ended ({pod.reason or pod.status})",
                    [
                        *_of_task(agent, tasks[0], "instance"),
                        Place("workload", one.workload or "", item("pods", pod.pod_id, "status")),
                    ],
                    path=item(TASKS, tasks[0].id),
                    since=pod.last_exit.at if pod.last_exit else None,
                    depends=[("pod", pod.pod_id)],
                )


def duplicate(agent: Agent, view: View) -> Iterator[Symptom]:
    """One task is active in two instances."""
    for task in agent.activity.active_task_ids:
        if task.last_known:
            continue
        owners = [(one, each) for one, each in _owners(task.id, view) if not each.last_known]
        places = {(one.key, each.instance) for one, each in owners}
        if len(places) > 1 and min(places) == (agent.key, task.instance):
            yield Symptom(
                "DuplicateTask",
                "agents",
                agent.key,
                f"Task {task.id} is active in {len(places)} instances at once",
                [
                    Place("agents", one.key, item(TASKS, each.id, "instance"))
                    for one, each in owners[:2]
                ],
                path=item(TASKS, task.id),
                since=max((each.started_on for _, each in owners if each.started_on), default=None),
                depends=[("queue", task.queue)] if task.queue else (),
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
            since=min(
                (t.started_on for t in agent.activity.active_task_ids[most:] if t.started_on),
                default=None,
            ),
            provides=[("load", agent.key)],
            depends=[("stalls", agent.key)],
        )


def failing(agent: Agent, view: View) -> Iterator[Symptom]:
    """Most tasks that ended of late have failed."""
    completed, failed = _outcomes(agent)
    ring = view.trends.add(("agents", agent.key), view.monotonic, completed, failed)
    recent = [numbers for at, numbers in ring if view.monotonic - at <= WINDOW_SECONDS]
    # Counts fall if an instance leaves or starts again; what ended then is not known.
    steps = [(old, new) for old, new in pairwise(recent) if new[0] >= old[0] and new[1] >= old[1]]
    done = sum(new[0] - old[0] for old, new in steps)
    lost = sum(new[1] - old[1] for old, new in steps)
    last = agent.activity.last_failure
    if lost < FAILURES or lost <= done or last is None:
        return
    models = {*agent.models, *(t.model for t in agent.activity.active_task_ids if t.model)}
    yield Symptom(
        "AgentFailing",
        "agents",
        agent.key,
        f"{lost:.0f} tasks of agent {agent.name} failed in two minutes, {done:.0f} completed"
        f"{f': {last.error}' if last.error else ''}",
        [
            Place("agents", agent.key, f"activity/last_failure/{field}")
            for field in ("error", "task_id", "at")
        ],
        since=last.at if done else None,
        provides=[("failing", agent.key)],
        depends=[
            *(("model", name) for name in sorted(models)),
            *(node for name in sorted(models) for node in _proxies(name, view)),
            ("failing", agent.key),
            ("unknown model", agent.key),
        ],
        severity=None if done else "critical",
    )


def unknown_model(agent: Agent, view: View) -> Iterator[Symptom]:
    """Its tasks fail because nobody serves the model that it asks for."""
    last = agent.activity.last_failure
    if last is None or not last.error or not any(word in last.error for word in NOT_FOUND):
        return
    if view.now - (last.at or view.now) > timedelta(minutes=10):
        return
    models = {*agent.models, *(t.model for t in agent.activity.active_task_ids if t.model)}
    for at, name in enumerate(agent.models):
        if name in models and view.serves_models and not view.is_served(name):
            yield Symptom(
                "ModelUnknown",
                "agents",
                agent.key,
                f"Agent {agent.name} asks for model {name}, which no deployment serves; its tasks"
                f" fail with {last.error}",
                [
                    Place("agents", agent.key, f"models/{at}"),
                    Place("agents", agent.key, "activity/last_failure/error"),
                    Place("agents", agent.key, "activity/last_failure/at"),
                ],
                kind="model",
                name=name,
                since=None,
                provides=[("unknown model", agent.key), ("failing", agent.key), ("model", name)],
            )


def loop(agent: Agent, view: View) -> Iterator[Symptom]:
    """Tasks are each other's parents, or have handed work to and fro for a day."""
    for task in agent.activity.active_task_ids:
        chain = _chain(task, view)
        if chain and min(chain)[1] == task.id:
            keys = sorted({key for key, _ in chain})
            yield Symptom(
                "HandoffLoop",
                "agents",
                agent.key,
                f"Tasks of {' and '.join(key.rpartition('/')[2] for key in keys)} are each other's"
                f" parents: {', '.join(sorted(id for _, id in chain)[:4])}",
                [
                    place
                    for key, id in sorted(chain)[:3]
                    for place in (
                        Place("agents", key, item(TASKS, id, "parent_id")),
                        Place("agents", key, item(TASKS, id, "started_on")),
                    )
                ],
                path=item(TASKS, task.id),
                since=task.started_on,
                provides=[("task", id) for _, id in chain],
            )


def idle(agent: Agent, view: View) -> Iterator[Symptom]:
    """It has nothing to do, while work waits in its queue."""
    if agent.status != "idle" or agent.silent_count:
        return
    for name in agent.queues:
        for queue in view.find("queues by name", name):
            if queue.depth and queue.consumer_group is not None:
                yield Symptom(
                    "IdleWhileWorkWaits",
                    "agents",
                    agent.key,
                    f"Agent {agent.name} is idle, while {queue.depth} tasks wait in queue {name}",
                    [
                        Place("agents", agent.key, "status"),
                        Place("queues", queue.key, "depth"),
                        Place("queues", queue.key, "consumers"),
                    ],
                    since=queue.consumed_at or queue.oldest_submitted_at,
                    provides=[("agent", agent.key)] if queue.consumers == 0 else (),
                    depends=[
                        *(("workload", one.workload) for one in agent.instances if one.workload),
                        *([("queue", name), ("queue", queue.key)] if queue.consumers else []),
                    ],
                    token=(queue.key, queue.consumed_at),
                )


# what they look at


def _instance(agent: Agent, one: Instance) -> Node:
    return "instance", agent.key, one.id


def _homes(agent: Agent, one: Instance, view: View) -> list[Node]:
    """What takes an instance with it when it goes: its pod, its workload, its node."""
    nodes: list[Node] = []
    if one.pod_id:
        nodes.append(("pod", one.pod_id))
    if one.workload:
        nodes.append(("workload", one.workload))
    pod = _pod(one, view)
    if pod and pod.node:
        nodes.append(("node", pod.node))
    return nodes


def _pod(one: Instance, view: View) -> Pod | None:
    if one.workload is None or one.pod_id is None:
        return None
    found = view.get("workload", one.workload)
    pods = found.pods if found else ()
    return next((pod for pod in pods if pod.pod_id == one.pod_id), None)


def _was_removed(one: Instance, view: View) -> bool:
    """Whether Kubernetes shows its workload whole, and the pod is not there any more."""
    if one.workload is None or one.pod_id is None:
        return False
    found = view.get("workload", one.workload)
    return bool(found and found.live and not found.truncated) and _pod(one, view) is None


def _is_alive(agent: Agent, one: Instance, view: View) -> tuple[str, list[Place]] | None:
    """What shows that a silent instance works: its group's member has committed since."""
    pod = _pod(one, view)
    if pod is None or pod.ip is None or one.silent_since is None or not pod.ready:
        return None
    for name in agent.queues:
        for queue in view.find("queues by name", name):
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
    return f"; {lost} of its tasks are last known" if lost else ""


def _lost_tasks(agent: Agent, one: Instance) -> int:
    tasks = agent.activity.active_task_ids
    return sum(task.last_known and task.instance == one.id for task in tasks)


def _stuck(agent: Agent) -> list[Task]:
    """Tasks that make no progress though they do not wait for people."""
    return [
        task
        for task in agent.activity.active_task_ids
        if task.stalled and not any(wait.kind in PEOPLE for wait in task.waits) and task.status
    ]


def _awaited(task: Task) -> tuple[str, str]:
    """Kind and name of what it has waited for longest."""
    for wait in task.waits:
        return wait.kind, wait.name or ""
    return "", ""


def _reasons(agent: Agent, task: Task, view: View) -> list[Node]:
    """What would explain that a task makes no progress."""
    nodes: list[Node] = [("blocker", task.id)]
    for wait in task.waits:
        name = wait.name or ""
        if wait.kind == "llm":
            nodes += [("model", name), *_proxies(name, view)]
        elif wait.kind == "queue":
            nodes += [("queue", name), ("backlog", name)]
        elif wait.kind == "agent":
            for one in _agents_named(wait, agent, view):
                nodes += [("agent", one.key), ("stalls", one.key)]
                nodes += [("backlog", queue) for queue in one.queues]
                nodes += [("queue", queue) for queue in one.queues]
        if wait.task:
            nodes.append(("task", wait.task))
    if any(wait.kind == "agent" for wait in task.waits):
        nodes += [("task", one.id) for _, one in _children(task.id, view)]
    return nodes


def _proxies(model: str, view: View) -> list[Node]:
    return [("source", one.source) for one in view.find("deployments of model", model)]


def _agents_named(wait: Wait, agent: Agent, view: View) -> list[Agent]:
    """The agents that a wait names: those of the same namespace, else all of that name."""
    found = view.find("agents by name", wait.name)
    near = [one for one in found if one.namespace == agent.namespace]
    return near or found


def _owners(task: str, view: View) -> list[tuple[Agent, Task]]:
    return [
        (agent, one)
        for agent in view.find("agents by task", task)
        for one in agent.activity.active_task_ids
        if one.id == task
    ]


def _children(task: str, view: View) -> list[tuple[Agent, Task]]:
    return [
        (agent, one)
        for agent in view.find("agents by parent task", task)
        for one in agent.activity.active_task_ids
        if one.parent_id == task
    ]


def _cycle(agent: Agent, view: View) -> dict[str, str]:
    """The tasks that wait for each other in a ring through this agent, and their agents' keys."""
    for start in _stuck(agent):
        trail = {start.id: agent.key}
        if ring := _walk(agent, start, start.id, trail, view):
            return ring
    return {}


def _walk(
    agent: Agent, task: Task, goal: str, trail: dict[str, str], view: View
) -> dict[str, str] | None:
    if len(trail) > 8:
        return None
    for other, next_task in _waited_for(agent, task, view):
        if next_task.id == goal:
            return trail
        if next_task.id in trail:
            continue
        found = _walk(other, next_task, goal, trail | {next_task.id: other.key}, view)
        if found:
            return found
    return None


def _waited_for(agent: Agent, task: Task, view: View) -> Iterator[tuple[Agent, Task]]:
    """Stalled tasks that this one waits for: named, its children, or the one that asks back."""
    for wait in task.waits:
        if wait.task:
            yield from ((one, t) for one, t in _owners(wait.task, view) if t.stalled)
        elif wait.kind == "agent":
            for one in _agents_named(wait, agent, view):
                for other in _stuck(one):
                    if other.parent_id == task.id or task.parent_id == other.id:
                        yield one, other


def _waits_of(key: str, id: str, view: View) -> Iterable[Place]:
    agent = view.get("agents", key)
    for task in agent.activity.active_task_ids if agent else ():
        if task.id == id:
            return [*_of_task(agent, task, "stalled"), *_of_wait(agent, task)[1:2]]
    return ()


def _chain(task: Task, view: View) -> list[tuple[str, str]]:
    """Task and key of those that are each other's ancestors in a ring with this one."""
    chain: list[tuple[str, str]] = []
    current: Task | None = task
    while current is not None and len(chain) < 16:
        owner = next(iter(_owners(current.id, view)), None)
        if owner is None:
            return []
        chain.append((owner[0].key, current.id))
        parent = next(iter(_owners(current.parent_id or "", view)), None)
        if parent and parent[1].id == task.id:
            return chain
        current = parent[1] if parent and (parent[0].key, parent[1].id) not in chain else None
    return []


def _outcomes(agent: Agent) -> tuple[int, int]:
    told = [one.outcomes for one in agent.instances if one.outcomes]
    return sum(one.completed for one in told), sum(one.failed for one in told)


def _of_task(agent: Agent, task: Task, *fields: str) -> list[Place]:
    return [Place("agents", agent.key, item(TASKS, task.id, field)) for field in fields]


def _of_wait(agent: Agent, task: Task) -> list[Place]:
    if not task.waits:
        return []
    fields = ("waits/0/kind", "waits/0/name", "waits/0/since")
    return _of_task(agent, task, *fields)


def _waiting(awaited: tuple[str, str]) -> str:
    kind, name = awaited
    return f", waiting for {kind} {name}".rstrip() if kind else ""


def _tasks(tasks: Sequence[Task]) -> str:
    return f"Task {tasks[0].id}" if len(tasks) == 1 else f"{len(tasks)} tasks"


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
        "Every instance of the agent is silent, and no other source sees one work.",
        "Look at its pods; if they are ready, the process hangs or cannot reach Telemetron.",
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
        "Look at the instance's pod and its log; restart it if it hangs.",
        silent,
        asks=("workload", "queues"),
    ),
    Rule(
        "TaskStalled",
        "agents",
        "warning",
        5,
        5,
        "`active_task_ids[].stalled` and `waits`",
        "A task has made no progress for `stall_after_seconds`; the summary says what it waits "
        "for. A task that waits for a person is no finding.",
        "Look at what it waits for; cancel or restart the task if nothing answers.",
        stalled,
        asks=("queues", "litellm", "workload"),
    ),
    Rule(
        "CommonWait",
        "agents",
        "warning",
        5,
        5,
        "`active_task_ids[].waits` of stalled tasks of several agents",
        "Tasks of several agents make no progress, and all wait for the same tool, model, queue or"
        " agent. `root` names it by `kind` and `name`.",
        "Look at what they wait for.",
        common_wait,
        asks=("queues", "litellm", "workload"),
    ),
    Rule(
        "WaitCycle",
        "agents",
        "critical",
        5,
        5,
        "`active_task_ids[].waits` of tasks that are stalled",
        "Tasks wait for each other in a ring: none of them can go on.",
        "Cancel one of them; let agents answer from what they know instead of asking back.",
        cycle,
    ),
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
        "OrphanTask",
        "agents",
        "warning",
        10,
        5,
        "`active_task_ids[].parent_id`, and `last_known` of that parent",
        "The parent of running tasks was lost with its instance: no task will use their results.",
        "Cancel them, or let the parent be taken up again.",
        orphan,
        asks=("workload",),
    ),
    Rule(
        "GhostTask",
        "agents",
        "warning",
        10,
        5,
        "`active_task_ids[].instance` and the `status` of its pod",
        "An agent reported the task from a pod that has ended.",
        "Submit the task again; look at why the pod ended.",
        ghost,
        asks=("workload",),
    ),
    Rule(
        "DuplicateTask",
        "agents",
        "warning",
        15,
        5,
        "`active_task_ids[].id` of all agents",
        "One task is active in two instances at once: it was delivered twice.",
        "Look for rebalances and for tasks that take longer than `max.poll.interval.ms`.",
        duplicate,
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
        "Add instances, or let it refuse tasks.",
        overloaded,
    ),
    Rule(
        "AgentFailing",
        "agents",
        "warning",
        5,
        30,
        "`instances[].outcomes` over two minutes, and `last_failure`",
        "Most tasks that ended of late have failed. Critical if none completed.",
        "Read `last_failure.error`; look at the models and tools that its tasks use.",
        failing,
        asks=("litellm",),
    ),
    Rule(
        "ModelUnknown",
        "agents",
        "critical",
        5,
        30,
        "`models`, `last_failure.error`, and the models that the proxy serves",
        "The agent asks for a model that no deployment serves, and its tasks fail for it.",
        "Correct the model's name in the agent, or add a deployment of it.",
        unknown_model,
        asks=("litellm",),
    ),
    Rule(
        "HandoffLoop",
        "agents",
        "warning",
        15,
        5,
        "`active_task_ids[].parent_id`",
        "Tasks are each other's parents: agents hand work to and fro, and it never ends.",
        "Cancel one of the tasks; give the dialogue a bound.",
        loop,
    ),
    Rule(
        "IdleWhileWorkWaits",
        "agents",
        "warning",
        45,
        5,
        "`status` is `idle` and `depth` of a queue it reads is above 0",
        "The agent has nothing to do, although work waits for it.",
        "Look at its consumer loop: does it still poll?",
        idle,
        asks=("queues", "workload"),
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
