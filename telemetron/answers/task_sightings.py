"""The sightings of tasks in one snapshot: runs, pending records and outcomes, by id and record."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from msgspec import Struct

from telemetron.document import Agent, Instance, PendingTask, Pod, Queue, SourceRow, Task, Workload
from telemetron.search import QueueRecord
from telemetron.store.snapshot import Snapshot

Ids = set[str]
Records = set[QueueRecord]


class Run(Struct, frozen=True, eq=False, gc=False):
    """A task that an agent lists as active."""

    agent: Agent
    task: Task

    @property
    def instance(self) -> Instance | None:
        """The instance that runs it, if it is listed."""
        return next((it for it in self.agent.instances if it.id == self.task.instance), None)


class Pending(Struct, frozen=True, eq=False, gc=False):
    """A task that a queue lists."""

    queue: Queue
    task: PendingTask


class Outcome(Struct, frozen=True, eq=False, gc=False):
    """A task that an agent lists as ended, or as its last failure."""

    agent: Agent
    task: Any
    """An item of `activity.ended`, or the last failure, of which only some fields are known."""


class Found(NamedTuple):
    """All sightings of one task, with every id and record that it has in them."""

    ids: Ids
    records: Records
    runs: list[Run]
    pending: list[Pending]
    outcomes: list[Outcome]
    parents: frozenset[str] = frozenset()
    """Parents that only the history knows."""


class Sightings:
    """The tasks of a snapshot; it is built in one pass, and then answers by lookups."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        # Tuples of what is not collected: thousands of lists would start the garbage collection.
        self.runs: dict[str, tuple[Run, ...]] = {}
        self.pending: dict[str, tuple[Pending, ...]] = {}
        self.outcomes: dict[str, tuple[Outcome, ...]] = {}
        self.children: dict[str, dict[str, None]] = defaultdict(dict)
        self.blockers: dict[str, list[Pending]] = defaultdict(list)
        """Pending tasks by the task that they block."""
        self._by_record: dict[QueueRecord, tuple[Any, ...]] = {}
        for agent in self.entities("agents"):
            self._add_agent(agent)
        for queue in self.entities("queues"):
            for task in queue.tasks:
                self._add_pending(Pending(queue, task))

    def _add_agent(self, agent: Agent) -> None:
        activity = agent.activity
        for task in activity.active_task_ids:
            run = Run(agent, task)
            self.runs[task.id] = (*self.runs.get(task.id, ()), run)
            self._add_record(task, run)
            self._add_child(task)
        for ended in activity.ended:
            outcome = Outcome(agent, ended)
            self.outcomes[ended.id] = (*self.outcomes.get(ended.id, ()), outcome)
            self._add_record(ended, outcome)
            self._add_child(ended)
        if failure := activity.last_failure:
            known = self.outcomes.get(failure.task_id, ())
            if not any(one.agent is agent for one in known):
                self.outcomes[failure.task_id] = (*known, Outcome(agent, failure))

    def _add_record(self, task: Any, sighting: Any) -> None:
        if record := record_of(task):
            self._by_record[record] = (*self._by_record.get(record, ()), sighting)

    def _add_child(self, task: Any) -> None:
        if task.parent_id:
            self.children[task.parent_id][task.id] = None

    def _add_pending(self, one: Pending) -> None:
        self.pending[one.task.id] = (*self.pending.get(one.task.id, ()), one)
        if one.task.partition is not None and one.task.offset is not None:
            record = QueueRecord(one.queue.name, one.task.partition, one.task.offset)
            self._by_record[record] = (*self._by_record.get(record, ()), one)
        if one.task.priority and one.task.priority.blocked_task:
            self.blockers[one.task.priority.blocked_task].append(one)

    def find(self, ids: Iterable[str], records: Iterable[QueueRecord]) -> Found:
        """Return all sightings that share an id or a record with these, or with each other."""
        found = Found(set(ids), set(records), [], [], [])
        seen: set[int] = set()
        while new := [one for one in self._named(found) if id(one) not in seen]:
            for one in new:
                if id(one) not in seen:
                    seen.add(id(one))
                    _add(found, one)
        return found

    def _named(self, found: Found) -> list[Any]:
        by_id = (self.runs, self.pending, self.outcomes)
        named: list[Any] = [
            one for index in by_id for name in found.ids if name in index for one in index[name]
        ]
        known = (record for record in found.records if record in self._by_record)
        return [*named, *(one for record in known for one in self._by_record[record])]

    def names(self) -> set[str]:
        """Return the ids of all tasks."""
        return self.runs.keys() | self.pending.keys() | self.outcomes.keys()

    # what else the snapshot has

    def entities(self, section: str) -> Iterator[Any]:
        """Yield the entities of a section, by key."""
        return (fragment.entity for fragment in self.snapshot.sections[section].rope)

    def rows(self) -> list[SourceRow]:
        """Return the sources."""
        return list(self.entities("sources"))

    def home(self, run: Run) -> tuple[Workload | None, Pod | None]:
        """Return the workload and the pod of a run's instance, as far as they are known.

        A workload without the pod: the pod is gone. It counts only if all its pods are listed.
        """
        one = run.instance
        if one is None or one.pod_id is None:
            return None, None
        for workload in self._workloads(run.agent, one):
            if pod := next((pod for pod in workload.pods if pod.pod_id == one.pod_id), None):
                return workload, pod
        whole = [it for it in self._workloads(run.agent, one) if it.live and not it.truncated]
        return (whole[0], None) if whole else (None, None)

    def _workloads(self, agent: Agent, one: Instance) -> list[Workload]:
        if one.workload:
            fragment = self.snapshot.sections["workload"].rope.get(one.workload)
            return [fragment.entity] if fragment else []
        return [
            workload
            for workload in self.entities("workload")
            if workload.deployment_name == agent.deployment_name
            and agent.namespace in (None, workload.namespace)
        ]


def record_of(task: Any) -> QueueRecord | None:
    """Return the record that a task of an agent came from, if all of it is known."""
    queue, partition = getattr(task, "queue", None), getattr(task, "partition", None)
    offset = getattr(task, "offset", None)
    if queue is None or partition is None or offset is None:
        return None
    return QueueRecord(queue, partition, offset)


def _add(found: Found, one: Any) -> None:
    if isinstance(one, Pending):
        found.pending.append(one)
        found.ids.add(one.task.id)
        if one.task.partition is not None and one.task.offset is not None:
            found.records.add(QueueRecord(one.queue.name, one.task.partition, one.task.offset))
        return
    (found.runs if isinstance(one, Run) else found.outcomes).append(one)
    found.ids.add(getattr(one.task, "id", None) or one.task.task_id)
    if record := record_of(one.task):
        found.records.add(record)
