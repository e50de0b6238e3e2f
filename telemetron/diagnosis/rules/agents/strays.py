"""Tasks that run where they should not: without a parent, on a pod that has ended, or twice."""

from collections.abc import Iterator

from telemetron.diagnosis.evidence import item
from telemetron.diagnosis.rule import Place, Rule, Symptom
from telemetron.diagnosis.rules.agents.tasks import TASKS, counted, of_task, owners
from telemetron.diagnosis.rules.homes import home_of, pod_of
from telemetron.diagnosis.rules.queues.readers import queues_named
from telemetron.diagnosis.view import View
from telemetron.diagnosis.words import be, verb
from telemetron.document import Agent


def orphan(agent: Agent, view: View) -> Iterator[Symptom]:
    """A task goes on whose parent is lost with its instance."""
    found = [
        (task, owner, parent)
        for task in agent.activity.active_task_ids
        if task.parent_id and not task.last_known
        for owner, parent in owners(task.parent_id, view)
        if parent.last_known
    ]
    if found:
        task, owner, parent = found[0]
        yield Symptom(
            "OrphanTask",
            "agents",
            agent.key,
            f"{counted([one for one, _, _ in found])} of agent {agent.name}"
            f" {verb(len(found), 'run')} for a parent that is lost with instance"
            f" {parent.instance} of agent {owner.name}",
            [
                *of_task(agent, task, "parent_id"),
                Place("agents", owner.key, item(TASKS, parent.id, "last_known")),
            ],
            path=item(TASKS, task.id),
            since=task.started_on,
            depends=[("instance", owner.key, each.instance or "") for _, owner, each in found],
        )


def ghost(agent: Agent, view: View) -> Iterator[Symptom]:
    """A task is said to run on a pod that has ended."""
    for one in agent.instances:
        home = home_of(agent, one, view) if one.status != "silent" else None
        pod = pod_of(home, one)
        if home and pod and pod.status in ("Failed", "Succeeded"):
            tasks = [task for task in agent.activity.active_task_ids if task.instance == one.id]
            if tasks:
                yield Symptom(
                    "GhostTask",
                    "agents",
                    agent.key,
                    f"{counted(tasks)} of agent {agent.name} {be(len(tasks))} active on pod"
                    f" {pod.pod_id}, which has ended ({pod.reason or pod.status})",
                    [
                        *of_task(agent, tasks[0], "instance"),
                        Place("workload", home.key, item("pods", pod.pod_id, "status")),
                    ],
                    path=item(TASKS, tasks[0].id),
                    since=pod.last_exit.at if pod.last_exit else None,
                    provides=[("blocker", task.id) for task in tasks],
                    depends=[("pod", home.key, pod.pod_id)],
                )


def duplicate(agent: Agent, view: View) -> Iterator[Symptom]:
    """One task is active in two instances."""
    tasks = [task for task in agent.activity.active_task_ids if not task.last_known]
    if len({task.id for task in tasks}) == len(tasks):
        return
    for task in tasks:
        holders = [one for one in tasks if one.id == task.id]
        places = {one.instance for one in holders}
        if len(places) > 1 and task is holders[0]:
            yield Symptom(
                "DuplicateTask",
                "agents",
                agent.key,
                f"Task {task.id} is active in {len(places)} instances at once",
                of_task(agent, task, "instance"),
                path=item(TASKS, task.id),
                since=max((one.started_on for one in holders if one.started_on), default=None),
                depends=[("queue", one.key) for one in queues_named(task.queue or "", agent, view)],
            )


RULES = (
    Rule(
        "OrphanTask",
        "agents",
        "warning",
        10,
        5,
        "`active_task_ids[].parent_id`, and `last_known` of that parent",
        "The parent of running tasks was lost with its instance: no task will use their results.",
        "Cancel the tasks, or let another instance run their parent again.",
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
        "Submit the task again; run `kubectl describe pod POD` to see why the pod ended.",
        ghost,
        asks=("workload",),
    ),
    Rule(
        "DuplicateTask",
        "agents",
        "warning",
        15,
        5,
        "`active_task_ids[].id` of the agent",
        "One task is active in two instances of an agent at once: it was delivered twice.",
        "Look for rebalances and for tasks that take longer than `max.poll.interval.ms`.",
        duplicate,
        asks=("queues",),
    ),
)
