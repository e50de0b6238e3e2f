"""The places of a task, as the answer shows them: a run, a pending record, an outcome."""

from collections.abc import Mapping, Sequence
from typing import Any

from telemetron.answers.task_relations import waiting_for
from telemetron.answers.task_sightings import Found, Outcome, Run, Sightings
from telemetron.answers.task_steps import Past
from telemetron.document import PendingTask, Queue
from telemetron.search import TaskSighting

MAX_CONSUMERS = 4

Json = dict[str, Any]


def kept(values: Mapping[str, Any]) -> Json:
    """Return the values without nulls and empty lists."""
    return {name: one for name, one in values.items() if one is not None and one != []}


def run_of(sightings: Sightings, run: Run) -> Json:
    """Return a run: its agent, instance and pod, its step, and its waits with their status."""
    task, one = run.task, run.instance
    workload, pod = sightings.home(run)
    found: Json = {
        "agent": run.agent.key,
        "instance": task.instance,
        "status": task.status,
        "step": task.step,
        "started_on": task.started_on,
        "progressed_at": task.progressed_at,
        "stalled": task.stalled,
        "waits": [waiting_for(sightings, wait) for wait in task.waits],
        "wait_count": task.wait_count if task.wait_count > len(task.waits) else None,
        "model": task.model,
        "queue": task.queue,
        "partition": task.partition,
        "offset": task.offset,
        "silent_since": one.silent_since if one else None,
    }
    if pod and workload:
        about = ("pod_id", "status", "ready", "reason", "message", "restarts", "node", "node_ready")
        shown = {name: getattr(pod, name) for name in about}
        found["pod"] = kept({"workload": workload.key, **shown, "last_exit": _exit(pod.last_exit)})
    elif workload:
        found["why"] = f"pod {one.pod_id if one else ''} is not among the pods of {workload.key}"
    return found


def _exit(last: Any) -> str | None:
    """Return the reason of a container's last exit, else its code."""
    if last is None:
        return None
    return last.reason or (None if last.exit_code is None else f"exit code {last.exit_code}")


def waiting_in(
    sightings: Sightings, found: Found, seen: Sequence[tuple[str, TaskSighting]]
) -> list[Json]:
    """Return the pending records: in the document, and of a search.

    A record is there once for each consumer group; `status` is null if the source cannot know.
    """
    places: dict[Any, Json] = {}
    for one in found.pending:
        at = one.queue.source, one.queue.name, one.queue.consumer_group
        place = (*at, one.task.partition, one.task.offset)
        places[place] = _waiting(sightings, one.queue, one.task) | {"status": "pending"}
    queues = {(it.source, it.name, it.consumer_group): it for it in sightings.entities("queues")}
    for source, it in seen:
        place = source, it.queue, it.consumer_group, it.partition, it.offset
        if it.status in (None, "absent") and it.task is None and place not in places:
            continue  # the source only says why it knows nothing
        queue = queues.get(place[:3]) or Queue(name=it.queue, consumer_group=it.consumer_group)
        task = it.task or PendingTask(id="", partition=it.partition, offset=it.offset)
        known = places.get(place) or _waiting(sightings, queue, task)
        places[place] = known | _position(it)
    return list(places.values())


def _position(it: TaskSighting) -> Json:
    is_bound = it.ahead is not None and it.ahead_exact is False
    position = {"ahead": it.ahead, "ahead_exact": False if is_bound else None}
    return {"status": it.status, **position, "why": it.why if it.status is None else None}


def _waiting(sightings: Sightings, queue: Queue, task: PendingTask) -> Json:
    owners = [it for it in queue.members if task.partition in (it.partitions or ())]
    priority = task.priority
    return {
        "queue": queue.name,
        "consumer_group": queue.consumer_group,
        "partition": task.partition,
        "offset": task.offset,
        "submitted_at": task.submitted_at,
        "invoked_by": task.invoked_by,
        "priority": priority.level if priority else None,
        "blocks": priority.blocked_task if priority else None,
        "consumers": queue.consumers,
        "group_state": queue.group_state,
        "consumed_at": queue.consumed_at,
        "consumed_by": [kept({"client_id": it.client_id, "host": it.host}) for it in owners],
        "agents": _agents_of(sightings, queue.name),
        "problem": task.problem.message if task.problem else None,
    }


def _agents_of(sightings: Sightings, queue: str) -> list[str]:
    found = (agent.key for agent in sightings.entities("agents") if queue in agent.queues)
    return [key for _, key in zip(range(MAX_CONSUMERS), found, strict=False)]


def ended_in(found: Found, past: Past, word: str) -> list[Json]:
    """Return the outcomes, newest first; one of the history only if the document has none."""
    outcomes = sorted(map(_outcome, found.outcomes), key=_newest_first)
    last = past.last
    if outcomes or last is None or last.event not in ("ended", "left") or word == "unknown":
        return outcomes
    names = ("instance", "error", "started_on", "ended_at", "queue", "partition", "offset")
    item = {name: last.item.get(name) for name in names}
    status = last.item.get("status") if last.event == "ended" else None
    at = None if item["ended_at"] else last.at
    return [{"agent": last.key, "status": status, **item, "left_at": at, "why": last.why}]


def _outcome(one: Outcome) -> Json:
    task = one.task
    is_failure = not hasattr(task, "status")  # an agent's last failure
    named = ("started_on", "ended_at", "queue", "partition", "offset")
    fields = {name: getattr(task, name, None) for name in named}
    if is_failure:
        fields["ended_at"] = task.at
    status = "failed" if is_failure else task.status
    by = getattr(task, "instance", None)
    return {"agent": one.agent.key, "instance": by, "status": status, "error": task.error, **fields}


def _newest_first(outcome: Json) -> float:
    return -outcome["ended_at"].timestamp() if outcome["ended_at"] else 0.0
