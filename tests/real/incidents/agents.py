"""The agents: instances that take tasks, work on them phase by phase, and send heartbeats."""

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.real.incidents.cluster import NAMESPACE
from tests.real.incidents.group import SESSION_SECONDS, Member
from tests.real.incidents.pod import Pod
from tests.real.incidents.times import ago, moment

if TYPE_CHECKING:
    from tests.real.incidents.world import World

BUSY = 0.5
"""The share of its capacity that an agent is asked for."""
LOCAL = "127.0.0.1"


@dataclass
class Phase:
    """A part of a task's work: its step, what it waits for, how many seconds it takes."""

    step: str
    kind: str | None = None
    name: str | None = None
    seconds: int = 2


@dataclass
class Role:
    """What all instances of one agent have in common."""

    name: str
    replicas: int
    parallel: int
    phases: list[Phase]
    queue: str | None
    partitions: int
    prefix: str
    parent: str | None
    """The role whose tasks cause these."""
    busy: float = BUSY

    @property
    def models(self) -> list[str]:
        """The models that its phases call."""
        return sorted({one.name for one in self.phases if one.kind == "llm" and one.name})

    @property
    def rate(self) -> float:
        """Return the tasks a second that keep it this busy."""
        seconds = sum(one.seconds for one in self.phases) + 1
        return self.busy * self.replicas * self.parallel / seconds


class Task:
    """One task in an instance."""

    def __init__(
        self,
        instance: "Instance",
        id: str,
        phases: list[Phase],
        *,
        parent: str | None = None,
        record: tuple[int, int] | None = None,
        age: float = 0.0,
    ) -> None:
        self.instance, self.id, self.phases = instance, id, phases
        self.parent, self.record = parent, record
        self.started = time.time() - age
        self.progressed = self.since = time.time()
        self.status = "running"
        self.is_frozen = False
        self._at, self._left = 0, float(phases[0].seconds)

    @property
    def phase(self) -> Phase:
        """The present one."""
        return self.phases[self._at]

    def freeze(self, age: float) -> "Task":
        """Let it hang since so long ago."""
        self.is_frozen = True
        self.since = self.progressed = time.time() - age
        self.started = min(self.started, self.since - 4)
        return self

    def move(self) -> None:
        """Let a second pass."""
        world, waits_for = self.instance.world, (self.phase.kind, self.phase.name)
        if self.is_frozen or waits_for in world.blocked:
            return
        self._left -= 1 / self.instance.slowness
        if self._left > 0:
            return
        if error := world.failing.get(waits_for):
            self.instance.fail(self, error)
        else:
            self._advance()

    def _advance(self) -> None:
        self._at += 1
        self.progressed = self.since = time.time()
        if self._at == len(self.phases):
            self.instance.finish(self)
        else:
            self._left = float(self.phase.seconds)

    def beat(self) -> dict[str, Any]:
        """Return its part of a heartbeat."""
        phase = self.phase
        wait = {"kind": phase.kind, "name": phase.name, "since": moment(self.since)}
        return {
            "id": self.id,
            "parent_id": self.parent,
            "status": self.status,
            "started_on": moment(self.started),
            "progressed_at": moment(self.progressed),
            "step": phase.step,
            "waits": [wait] if phase.kind else [],
            "model": phase.name if phase.kind == "llm" else None,
            **self._place(),
        }

    def _place(self) -> dict[str, Any]:
        """Where its record is, if it came from a queue."""
        if not self.record:
            return {}
        partition, offset = self.record
        return {"queue": self.instance.role.queue, "partition": partition, "offset": offset}


class Instance:
    """One process of an agent, in a pod, and in its queue's group."""

    def __init__(self, world: "World", role: Role, pod: Pod, age: float = 0.0) -> None:
        self.world, self.role, self.pod, self.name = world, role, pod, pod.name
        self.accepts = role.parallel
        """How many tasks it takes at once, whatever it reports."""
        self.slowness = 1.0
        self.takes = self.beats = True
        """Whether it takes new tasks, and whether its heartbeats arrive."""
        self.member: Member | None = None
        self.be_born(age)
        self.join()

    def be_born(self, age: float = 0.0) -> None:
        """Begin a life, as the member of its group that it was."""
        bits = self.world.chance.getrandbits(128)
        self.boot, self.sequence, self.started = uuid.UUID(int=bits).hex[:12], 0, time.time() - age
        done = int(age * self.role.rate / self.role.replicas)
        self.outcomes = {"completed": done, "failed": done // 180, "canceled": 0}
        self.failure: dict[str, Any] | None = None
        self.tasks: list[Task] = []
        self.is_alive = True

    def join(self) -> None:
        """Join the group of its queue; before the world begins it cannot yet."""
        if self.role.queue and self.world.has_begun:
            group = self.world.broker.groups[self.role.queue]
            self.member = Member(group, self.name, self.pod.address)

    def kill(self) -> None:
        """Send nothing any more; the group misses it after its session."""
        self.is_alive = False
        if self.member:
            self.member.leave(SESSION_SECONDS)

    async def leave(self) -> None:
        """End as it should, with a goodbye."""
        self.is_alive = False
        if self.member:
            self.member.leave()
        path = f"/agents/{self.role.name}/instances/{self.name}?namespace={NAMESPACE}"
        await self.world.service.send("DELETE", path)

    def move(self) -> None:
        """Let a second pass."""
        if not self.is_alive:
            return
        self._drop_revoked()
        for task in list(self.tasks):
            task.move()
        while self.takes and len(self.tasks) < self.accepts and (task := self._next()):
            self.tasks.append(task)

    def _drop_revoked(self) -> None:
        """Cancel the tasks that a rebalance has given to another member."""
        if not self.member or self.member.has_left:
            return
        owners = self.member.group.owners
        for task in [*self.tasks]:
            if task.record and owners[task.record[0]] not in (None, self.member):
                self.tasks.remove(task)
                self.outcomes["canceled"] += 1

    def _next(self) -> Task | None:
        if self.role.queue:
            return self._taken()
        if self.world.chance.random() < self.role.rate / self.role.replicas / self.role.parallel:
            return self.world.task(self)
        return None

    def _taken(self) -> Task | None:
        found = self.member.group.take(self.member) if self.member else None
        if not found:
            return None
        partition, offset, record = found
        parent, place = record.get("parent_id"), (partition, offset)
        return Task(self, record["id"], self.role.phases, parent=parent, record=place)

    def finish(self, task: Task) -> None:
        """The task is completed."""
        self.tasks.remove(task)
        self.outcomes["completed"] += 1
        self._commit(task)

    def fail(self, task: Task, error: str, *, commits: bool = True) -> None:
        """The task has failed with a class of error."""
        self.tasks.remove(task)
        self.outcomes["failed"] += 1
        self.failure = {"task_id": task.id, "error": error, "at": ago()}
        if commits:
            self._commit(task)

    def _commit(self, task: Task) -> None:
        if task.record and self.member:
            self.member.group.commit(self.member, *task.record)

    def beat(self) -> dict[str, Any]:
        """Return its next heartbeat."""
        self.sequence += 1
        return {
            "instance": self.name,
            "boot_id": self.boot,
            "sequence": self.sequence,
            "interval_seconds": 1,
            "sent_at": ago(),
            "namespace": NAMESPACE,
            "pod_id": self.pod.name,
            "version": "4.17.2",
            "started_at": moment(self.started),
            "max_parallel_invocations": self.role.parallel,
            "deployment_name": self.role.name,
            "models": self.role.models,
            "queues": [self.role.queue] if self.role.queue else [],
            "tasks": [task.beat() for task in self.tasks],
            "outcomes": self.outcomes,
            "last_failure": self.failure,
        }
