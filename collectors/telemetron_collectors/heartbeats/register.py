"""The register: every instance that beat, its lives, its silence, and the progress of its tasks.

Telemetron's monotonic clock measures all durations; times by an agent's own clock are only shown.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Set
from datetime import datetime, timedelta
from math import inf
from operator import attrgetter
from typing import NamedTuple

from msgspec import UNSET
from msgspec.structs import asdict, astuple

from telemetron import key
from telemetron.agents import AgentPart
from telemetron.clock import Timer
from telemetron.collector import Output, Put
from telemetron.document import MAX_WAITS, Ended, Failure, Instance, Outcomes, Problem, Task, Wait
from telemetron.http import HttpProblem
from telemetron_collectors.heartbeats.beat import Beat, BeatTask
from telemetron_collectors.heartbeats.ended import (
    AgentKey,
    EndedRegister,
    ends_of,
    last_failure,
)
from telemetron_collectors.heartbeats.states import STATES, is_over, state_of


class RegisterLimits(NamedTuple):
    """The most agents, instances, boots and goodbyes that are remembered."""

    agents: int = 10_000
    instances: int = 30_000
    instances_per_agent: int = 1_000
    goodbyes: int = 10_000


LIMITS = RegisterLimits()
# Earlier boots remembered for each instance id; so many processes may share one by mistake.
MAX_BOOTS = LIMITS.instances_per_agent
# How late a beat may arrive after its boot's goodbye; a later one is from a running process.
GOODBYE_SECONDS = 60.0
SILENT_AFTER_BEATS = 3
FORGET_LAST_SECONDS = 24 * 3600.0
# An offset is shown from 2 s on, and published again only if it moves by 1 s.
MIN_OFFSET_SECONDS = 2.0
OFFSET_STEP_SECONDS = 1.0

DUPLICATE = "another process beats under the same instance id; give each process its own id"

_content = attrgetter(
    *(n for n in Beat.__struct_fields__ if n not in ("boot_id", "sequence", "sent_at", "ended"))
)

InstanceKey = tuple[str, str | None, str]
"""An instance: its agent's name, its namespace, its id."""


class Life:
    """One instance: its present life, and the boots of earlier ones."""

    def __init__(self, where: InstanceKey, beat: Beat, now: float, since: datetime) -> None:
        self.where = where
        self.part_id = key.join(*where)
        self.beat = beat
        self.sequence: int | None = None
        """The highest of this life."""
        self.last_beat_at = self.began = now
        self.since = since
        self.boots: deque[str | None] = deque(maxlen=MAX_BOOTS)
        self.lives = 1
        self.tasks_lost = 0
        """Tasks that were active when a life ended without a goodbye."""
        self.duplicate: Problem | None = None
        """The problem that another process beats under this id."""
        self.duplicated = -inf
        """When a beat of an earlier boot was dropped last."""
        self.progress: dict[str, tuple[datetime, float]] = {}
        self.failure: Failure | None = None
        self.ends: Set[tuple[str, datetime | None]] = frozenset()
        """The ends that the newest beat lists."""
        self.end_count = 0
        """Its tasks that ended, by its outcomes."""
        self.offset: float | None = None
        self.silent_since: datetime | None = None
        self.due = 0.0
        self.timer: Timer | None = None
        self.leaving: Timer | None = None
        """Set after its goodbye, until its last ends have been published."""

    @property
    def agent(self) -> AgentKey:
        """Whose ended tasks it shares."""
        name, namespace, _ = self.where
        return name, namespace, None if namespace else self.beat.pod_id

    def is_later(self, beat: Beat) -> bool:
        """Return whether a beat of the same boot is newer than all before it."""
        if beat.sequence is None or self.sequence is None:
            return True
        return beat.sequence > self.sequence

    def begins_new_life(self, beat: Beat, now: float) -> bool:
        """Return whether the beat begins a new life; without a boot id only after a silence.

        If an earlier boot beats while the newest is silent, and too late for a late beat, its
        process has outlived the other process with the same id.
        """
        if beat.boot_id != self.beat.boot_id:
            survived = bool(self.silent_since) and now - self.began >= GOODBYE_SECONDS
            return survived or beat.boot_id not in self.boots
        return beat.boot_id is None and bool(self.silent_since) and not self.is_later(beat)

    def is_shared(self, now: float) -> bool:
        """Return whether another process recently beat under this id."""
        return self.duplicated > max(self.began, now - GOODBYE_SECONDS)

    def begin(self, beat: Beat, now: float, since: datetime) -> None:
        """Begin a new life: of the earlier ones only the last failure is kept."""
        if beat.boot_id == self.beat.boot_id:
            self.lives += 1
        else:
            self.lives += beat.boot_id not in self.boots
            self.boots.append(self.beat.boot_id)
        self.tasks_lost += _task_count(self.beat)
        self.sequence = None
        self.ends = frozenset()
        self.end_count = 0
        self.began = now
        self.since = since
        self.progress = {}

    def receive(self, beat: Beat, now: float) -> None:
        """Note the newest beat."""
        self.beat = beat
        self.last_beat_at = now
        self.sequence = self.sequence if beat.sequence is None else beat.sequence

    def silent_at(self) -> float:
        """Return the monotonic time at which it becomes silent if no beat comes."""
        return self.last_beat_at + self.max_silence()

    def max_silence(self) -> float:
        """Return how many seconds it may be silent."""
        return SILENT_AFTER_BEATS * self.beat.interval_seconds

    def apply(self, beat: Beat, now: float) -> None:
        """Apply a changed beat: its failure, and since when each task's progress is unchanged."""
        self.silent_since = None
        if now - self.duplicated > GOODBYE_SECONDS:
            self.duplicate = None
        self.failure = last_failure(beat) or self.failure
        moved = {task.id: task.progressed_at for task in beat.tasks if task.progressed_at}
        self.progress = {
            id: old if (old := self.progress.get(id)) and old[0] == at else (at, now)
            for id, at in moved.items()
        }

    def end_tasks(self, beat: Beat) -> tuple[list[Ended], int | None]:
        """Return the ends that are new, oldest first, and how many there were; None: not known.

        A beat repeats ends until one was accepted: only ends that the newest beat did not list are
        new.
        """
        listed = ends_of(beat)
        new = [end for end in listed if (end.id, end.ended_at) not in self.ends]
        self.ends = {(end.id, end.ended_at) for end in listed}
        if beat.outcomes is None:
            return new, len(new) if listed else None
        count = sum(astuple(beat.outcomes))
        grown = count - self.end_count if count >= self.end_count else count
        self.end_count = count
        return new, grown


class Register:
    """All instances that have beaten and are not forgotten."""

    def __init__(
        self,
        output: Output,
        *,
        stall_after: float,
        forget_after: float,
        limits: RegisterLimits = LIMITS,
    ) -> None:
        self._output = output
        self._clock = output.clock
        self._stall_after = stall_after
        self._forget_after = forget_after
        self._limits = limits
        self._agents: dict[str, dict[InstanceKey, Life]] = {}
        self._ended = EndedRegister(output)
        self._count = 0
        self._goodbyes: OrderedDict[tuple[InstanceKey, str | None], float] = OrderedDict()
        """Boots that have said goodbye, and until when their late beats are dropped."""

    def beat(self, name: str, beat: Beat) -> None:
        """Apply a beat, or drop it if it is not newer; raise HttpProblem 429 at a limit."""
        where = name, beat.namespace, beat.instance
        now = self._clock.monotonic()
        life = self._agents.get(name, {}).get(where)
        if life is not None and life.leaving:
            self._forget(life)
            life = None
        if life is None:
            if self._goodbyes.get((where, beat.boot_id), 0.0) > now:
                return self._output.count("beats_dropped")
            life = self._add(where, beat, now)
        elif life.begins_new_life(beat, now):
            life.begin(beat, now, self._clock.now())
        elif beat.boot_id != life.beat.boot_id or not life.is_later(beat):
            self._output.count("beats_dropped")
            return self._note_duplicate(life, beat, now)
        elif not (life.silent_since or life.duplicate) and self._is_same(life, beat):
            return life.receive(beat, now)
        moved = life.beat.pod_id != beat.pod_id
        life.receive(beat, now)
        life.offset = self._offset(life, beat)
        life.apply(beat, now)
        new, count = life.end_tasks(beat)
        if count is not None:
            self._ended.add(life.agent, new, count)
        if moved:
            self._keep_ended(name)
        return self._publish(life, now)

    def goodbye(self, name: str, id: str, namespace: str | None = None) -> None:
        """Forget an instance at once; raise HttpProblem 404 if it is unknown, 409 if ambiguous.

        The namespace `-` means none, as in a key.
        """
        lives = [
            life
            for where, life in self._agents.get(name, {}).items()
            if where[2] == id and namespace in (None, where[1] or "-") and not life.leaving
        ]
        if not lives:
            raise HttpProblem(404, f"agent {name!r} has no instance {id!r}")
        if len(lives) > 1:
            spaces = sorted(str(life.where[1] or "-") for life in lives)
            detail = f"{id!r} is in several namespaces; add ?namespace= with one of them"
            raise HttpProblem(409, detail, namespaces=spaces)
        now = self._clock.monotonic()
        if not lives[0].is_shared(now):
            self._remember_goodbye(lives[0])
        self._leave(lives[0])

    def lives(self, name: str) -> list[Life]:
        """Return the instances of the agents of that name, in all namespaces."""
        return [life for life in self._agents.get(name, {}).values() if not life.leaving]

    def parts(self) -> list[Put]:
        """Return all instances, for a replacement of the source's parts."""
        now = self._clock.monotonic()
        lives = [life for agent in self._agents.values() for life in agent.values()]
        puts = [Put("agents", life.where[0], life.part_id, self._part(life, now)) for life in lives]
        return puts + self._ended.parts()

    def close(self) -> None:
        """Cancel all timers."""
        for agent in self._agents.values():
            for life in agent.values():
                for timer in filter(None, (life.timer, life.leaving)):
                    timer.cancel()
        self._ended.close()

    def _add(self, where: InstanceKey, beat: Beat, now: float) -> Life:
        agent = self._agents.get(where[0], {})
        if not agent and len(self._agents) >= self._limits.agents:
            raise _full("agents", self._limits.agents)
        if len(agent) >= self._limits.instances_per_agent:
            raise _full("instances of one agent", self._limits.instances_per_agent)
        if self._count >= self._limits.instances:
            raise _full("instances", self._limits.instances)
        self._count += 1
        life = Life(where, beat, now, self._clock.now())
        self._agents.setdefault(where[0], {})[where] = life
        return life

    def _remember_goodbye(self, life: Life) -> None:
        """Remember all its boots, so that their late beats are dropped."""
        until = self._clock.monotonic() + GOODBYE_SECONDS
        for boot in filter(None, (life.beat.boot_id, *life.boots)):
            self._goodbyes[life.where, boot] = until
        while len(self._goodbyes) > self._limits.goodbyes:
            self._goodbyes.popitem(last=False)

    def _leave(self, life: Life) -> None:
        """Forget it; the last instance of an agent as soon as its last ends have been published."""
        others = [one for one in self.lives(life.where[0]) if one.agent == life.agent]
        delay = self._ended.seconds_to_publish(life.agent) if others == [life] else 0.0
        if delay:
            life.leaving = self._clock.call_later(delay, self._forget, life)
        else:
            self._forget(life)

    def _keep_ended(self, name: str) -> None:
        """Keep the ended tasks only of agents that have an instance."""
        self._ended.keep(name, {life.agent for life in self._agents.get(name, {}).values()})

    def _forget(self, life: Life) -> None:
        for timer in filter(None, (life.timer, life.leaving)):
            timer.cancel()
        agent = self._agents[life.where[0]]
        del agent[life.where]
        if not agent:
            del self._agents[life.where[0]]
        self._count -= 1
        self._output.remove("agents", life.part_id)
        self._keep_ended(life.where[0])

    def _note_duplicate(self, life: Life, beat: Beat, now: float) -> None:
        """Report a process that still beats long after another took over its instance id."""
        if beat.boot_id == life.beat.boot_id:
            return
        life.duplicated = now
        if not life.duplicate and now - life.began >= GOODBYE_SECONDS:
            message = f"instance {life.where[2]}: {DUPLICATE}"
            life.duplicate = Problem("DuplicateInstance", message, self._clock.now())
            self._publish(life, now)

    def _is_same(self, life: Life, beat: Beat) -> bool:
        return (
            _content(beat) == _content(life.beat)
            and (not beat.ended or beat.ended == life.beat.ended)
            and self._offset(life, beat) == life.offset
        )

    def _offset(self, life: Life, beat: Beat) -> float | None:
        """Return how far the agent's clock is ahead, in steps, so that jitter changes nothing."""
        if beat.sent_at is None:
            return None
        offset = (beat.sent_at - self._clock.now()).total_seconds()
        if life.offset is not None and abs(offset - life.offset) < OFFSET_STEP_SECONDS:
            return life.offset
        return round(offset, 1) if abs(offset) >= MIN_OFFSET_SECONDS else None

    # timers

    def _publish(self, life: Life, now: float) -> None:
        self._output.put("agents", life.where[0], life.part_id, self._part(life, now))
        self._set_timer(life, now)

    def _set_timer(self, life: Life, now: float) -> None:
        """Set one timer for silence, stalls and forgetting; unchanged beats never cancel it."""
        due = min(self._deadlines(life, now))
        if life.timer and life.due <= due:
            return
        if life.timer:
            life.timer.cancel()
        life.due = due
        life.timer = self._clock.call_later(due - now, self._on_timer, life)

    def _deadlines(self, life: Life, now: float) -> Iterator[float]:
        if life.silent_since:
            forget = life.last_beat_at + self._forget_after
            yield forget if forget > now else now + self._forget_after
            yield life.last_beat_at + max(FORGET_LAST_SECONDS, self._forget_after)
            return
        yield life.silent_at()
        for _, since in life.progress.values():
            if since + self._stall_after > now:
                yield since + self._stall_after

    def _on_timer(self, life: Life) -> None:
        life.timer = None
        now = self._clock.monotonic()
        if life.silent_since and self._is_over(life, now):
            self._forget(life)
            return
        if not life.silent_since and life.silent_at() <= now:
            life.silent_since = self._clock.now() - timedelta(
                seconds=round(now - life.last_beat_at, 3)
            )
            life.duplicate = None
        self._publish(life, now)

    def _is_over(self, life: Life, now: float) -> bool:
        """Return whether it is forgotten now; an agent's last instance stays for a day."""
        name, namespace, _ = life.where
        last = sum(where[1] == namespace for where in self._agents[name]) == 1
        patience = max(FORGET_LAST_SECONDS, self._forget_after) if last else self._forget_after
        return now >= life.last_beat_at + patience

    # its part of the document

    def _part(self, life: Life, now: float) -> AgentPart:
        beat = life.beat
        tasks = [self._task(life, task, now) for task in beat.tasks if not is_over(task)]
        task_count = max(len(tasks), beat.task_count or 0)
        return AgentPart(
            namespace=beat.namespace,
            description=beat.description,
            deployment_name=beat.deployment_name,
            models=beat.models,
            queues=beat.queues,
            since=life.since,
            tasks=tasks,
            task_count=task_count,
            last_failure=life.failure,
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
                outcomes=Outcomes(**asdict(beat.outcomes)) if beat.outcomes else None,
                lives=life.lives,
                tasks_lost=life.tasks_lost,
                source=self._output.source,
            ),
            problems=[life.duplicate] if life.duplicate else [],
        )

    def _task(self, life: Life, task: BeatTask, now: float) -> Task:
        status, wait = _status(task)
        waits = _waits(task, wait)
        return Task(
            id=task.id,
            parent_id=None if task.parent_id == task.id else task.parent_id,
            status=status,
            started_on=task.started_on,
            progressed_at=task.progressed_at,
            stalled=self._stalled(life, task, now),
            step=task.step,
            waits=waits[:MAX_WAITS],
            wait_count=max(len(waits), task.wait_count or 0),
            queue=task.queue,
            partition=task.partition,
            offset=task.offset,
            model=task.model,
            instance=life.where[2],
            last_known=life.silent_since is not None,
        )

    def _stalled(self, life: Life, task: BeatTask, now: float) -> bool | None:
        """Return None if progress was never reported, or if the instance is silent."""
        since = life.progress.get(task.id)
        if since is None or life.silent_since:
            return None
        return since[1] + self._stall_after <= now


def _task_count(beat: Beat) -> int:
    """Return the number of active tasks, listed or not."""
    return max(len(beat.tasks) - sum(map(is_over, beat.tasks)), beat.task_count or 0)


def _status(task: BeatTask) -> tuple[str | None, str | None]:
    """Return the published status, and the kind of wait that an A2A state implies."""
    if task.status is UNSET:
        return ("waiting" if task.waits or task.wait_count else "running"), None
    return STATES.get(state_of(task.status or ""), (None, None))


def _waits(task: BeatTask, implied: str | None) -> list[Wait]:
    """Return the waits and an A2A state's implied wait; oldest first, unknown ages last."""
    waits = [Wait(wait.kind, wait.name, wait.since, wait.task) for wait in task.waits]
    if implied and all(wait.kind != implied for wait in waits):
        waits.append(Wait(implied))
    return sorted(waits, key=lambda wait: wait.since.timestamp() if wait.since else inf)


def _full(what: str, most: int) -> HttpProblem:
    detail = f"{most:,} {what} are known already; send a goodbye for the ones that have ended"
    return HttpProblem(429, detail, {"retry-after": "60"}, limit=most)
