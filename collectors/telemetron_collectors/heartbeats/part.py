"""The part of the document that shows one instance."""

from math import inf

from msgspec import UNSET

from telemetron.agents import AgentPart
from telemetron.document import MAX_WAITS, Instance, Outcomes, Task, Wait
from telemetron_collectors.heartbeats.beat import BeatOutcomes, BeatTask, BeatWait
from telemetron_collectors.heartbeats.ended import EndedTasks
from telemetron_collectors.heartbeats.life import Life
from telemetron_collectors.heartbeats.states import STATES, state_of


def part_of(
    life: Life, ended: EndedTasks | None, source: str, now: float, stall_after: float
) -> AgentPart:
    """Return the part of an instance; `ended`: it also shows its agent's ended tasks."""
    beat = life.beat
    task_count = life.task_count
    return AgentPart(
        namespace=beat.namespace,
        description=beat.description,
        deployment_name=beat.deployment_name,
        models=beat.models,
        queues=beat.queues,
        since=life.since,
        tasks=[_task(life, task, now, stall_after) for task in life.tasks],
        task_count=task_count,
        last_failure=life.failure,
        ended=ended.shown if ended else [],
        ended_count=ended.count if ended else None,
        instance=Instance(
            id=beat.instance,
            status="silent" if life.silent_since else "active" if task_count else "idle",
            pod_id=beat.pod_id,
            version=beat.version,
            started_at=beat.started_at,
            interval_seconds=beat.interval_seconds,
            silent_since=life.silent_since,
            clock_offset_seconds=life.offset,
            max_parallel_invocations=beat.max_parallel_invocations,
            outcomes=_outcomes(beat.outcomes),
            lives=life.lives,
            tasks_lost=life.tasks_lost,
            source=source,
        ),
        problems=[life.duplicate] if life.duplicate else [],
    )


def _outcomes(said: BeatOutcomes | None) -> Outcomes | None:
    return Outcomes(said.completed, said.failed, said.canceled) if said else None


def _task(life: Life, task: BeatTask, now: float, stall_after: float) -> Task:
    status, wait = _status(task)
    waits = _waits(task.waits, wait)
    return Task(
        id=task.id,
        parent_id=None if task.parent_id == task.id else task.parent_id,
        status=status,
        started_on=task.started_on,
        progressed_at=task.progressed_at,
        stalled=_stalled(life, task, now, stall_after),
        step=task.step,
        waits=waits[:MAX_WAITS],
        wait_count=max(len(waits), task.wait_count or 0),
        queue=task.queue,
        partition=task.partition,
        offset=task.offset,
        model=task.model,
        instance=life.beat.instance,
        last_known=life.silent_since is not None,
    )


def _stalled(life: Life, task: BeatTask, now: float, stall_after: float) -> bool | None:
    """Return None if progress was never reported, or if the instance is silent."""
    since = life.progress.get(task.id)
    if since is None or life.silent_since:
        return None
    return since[1] + stall_after <= now


def _status(task: BeatTask) -> tuple[str | None, str | None]:
    """Return the published status, and the kind of wait that an A2A state implies."""
    if task.status is UNSET:
        return ("waiting" if task.waits or task.wait_count else "running"), None
    return STATES.get(state_of(task.status or ""), (None, None))


def _waits(reported: list[BeatWait], implied: str | None) -> list[Wait]:
    """Return the waits and an A2A state's implied wait; oldest first, unknown ages last."""
    waits = [Wait(wait.kind, wait.name, wait.since, wait.task) for wait in reported]
    if implied and all(wait.kind != implied for wait in waits):
        waits.append(Wait(implied))
    if len(waits) > 1:
        waits.sort(key=lambda wait: wait.since.timestamp() if wait.since else inf)
    return waits
