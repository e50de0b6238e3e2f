"""Snapshots that tests make without sources, and random ones with much trouble in them."""

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from telemetron.answers.brief.survey import Survey
from telemetron.document import (
    Activity,
    Agent,
    Effect,
    Evidence,
    Finding,
    Instance,
    LastExit,
    Live,
    ModelDeployment,
    ModelError,
    PendingTask,
    Pod,
    Problem,
    Queue,
    Root,
    SourceProblem,
    SourceRow,
    Task,
    Wait,
    Workload,
)
from telemetron.store.rope import Change, Fragment, Rope
from telemetron.store.snapshot import SectionSnapshot, Snapshot

NOW = datetime(2030, 1, 6, 9, 41, 42, 123456, tzinfo=UTC)
SECTIONS = ("sources", "findings", "agents", "litellm", "queues", "workload")
CHANGE = Change(31, 31, NOW)
NAMES = ("writer", "planner", "w" * 250, "名前" * 60, 'a"b\\c', "x|y`z", "a/b~c", "Ünïcode 🚀")
STATUSES = ("starting", "ok", "degraded", "stale", "failing", "off")
SEVERITIES = ("critical", "warning", "info")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def snapshot(id: str = "test", **entities: Iterable[Any]) -> Snapshot:
    """A revision with these entities by section."""
    sections = {name: SectionSnapshot(_rope(entities.get(name, ())), CHANGE) for name in SECTIONS}
    return Snapshot(id, "1a20508df956bcee8b8", ago(9_000), CHANGE, sections)


def _rope(entities: Iterable[Any]) -> Rope:
    edits = {one.key: Fragment(b"{}", one, b"", CHANGE) for one in entities}
    steps = Rope().edited(edits)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def surveyed(made: Snapshot) -> Survey:
    survey = Survey(made)
    for _ in survey.steps():
        pass
    return survey


def source(key: str, status: str = "ok", **fields: Any) -> SourceRow:
    known = {"since": ago(600), "max_age_seconds": 30.0, "last_ok_at": None, "entities": 1}
    return SourceRow(key=key, collector=key, status=status, **{**known, "problems": [], **fields})


def agent(name: str, *tasks: Task, status: str = "active", **fields: Any) -> Agent:
    known: dict[str, Any] = {
        "key": f"prod/{name.replace('~', '~0').replace('/', '~1')}",
        "namespace": "prod",
        "description": None,
        "max_parallel_invocations": 4,
        "deployment_name": None,
        "models": [],
        "queues": [],
        "activity": Activity(active_task_ids=list(tasks), task_count=len(tasks)),
        "instances": [],
        "instance_count": 1,
        "silent_count": int(status == "silent"),
        "sources": ["heartbeats"],
    }
    return Agent(name=name, status=status, **{**known, **fields})


def queue(name: str, group: str = "g", **fields: Any) -> Queue:
    known = {"consumers": 1, "group_state": "Stable", "depth": 0}
    key = f"kafka/{name}/{group}"
    return Queue(key=key, name=name, consumer_group=group, **{**known, **fields})


def model(id: str, name: str = "gpt", **fields: Any) -> ModelDeployment:
    known = {"status": "healthy", "status_since": ago(50), "provider": "openai"}
    return ModelDeployment(key=f"litellm/{id}", id=id, model=name, **{**known, **fields})


def workload(name: str, *pods: Pod, **fields: Any) -> Workload:
    ready = sum(bool(one.ready) for one in pods)
    known: dict[str, Any] = {
        "key": f"kubernetes/prod/Deployment/{name}",
        "namespace": "prod",
        "kind": "Deployment",
        "live": Live(active_pods=len(pods), desired=len(pods), ready=ready, rollout="complete"),
        "pods": list(pods),
    }
    return Workload(deployment_name=name, **{**known, **fields})


def pod(name: str, **fields: Any) -> Pod:
    return Pod(pod_id=name, **{"status": "Running", "ready": True, "restarts": 0, **fields})


def crashing(name: str) -> Pod:
    end = LastExit(reason="OOMKilled", exit_code=137, at=ago(20), container="main")
    bad = {"ready": False, "reason": "CrashLoopBackOff", "restarts": 8}
    return pod(name, **bad, last_exit=end, node="node-1", ip="10.0.0.1")


def finding(rank: int, root: Root, *effects: Effect, **fields: Any) -> Finding:
    known: dict[str, Any] = {
        "key": f"WorkloadCrashing/{rank}",
        "rule": "WorkloadCrashing",
        "severity": "critical",
        "basis": "observed",
        "summary": "All pods crash",
        "since": ago(95),
        "raised_at": ago(90),
        "observed_at": "1a20508df956bcee8b8.31",
        "runbook": "docs/findings.md#workloadcrashing",
    }
    counted = {"effects": list(effects), "effect_count": len(effects)}
    return Finding(rank=rank, root=root, **{**known, **counted, **fields})


HEALTHY = {
    "sources": [source(key) for key in ("findings", "heartbeats", "kafka", "kubernetes")],
    "agents": [agent("planner"), agent("writer")],
    "queues": [queue("sections")],
    "litellm": [model("a"), model("b")],
    "workload": [workload("writer", pod("writer-1")), workload("planner", pod("planner-1"))],
}


def incident() -> dict[str, list[Any]]:
    """A crashing workload that leaves a queue without consumers and a task that waits for it."""
    stuck = Task(
        id="plan-7",
        stalled=True,
        progressed_at=ago(80),
        waits=[Wait(kind="queue", name="sections", since=ago(85))],
        queue="plans",
        instance="planner-0",
    )
    home = "kubernetes/prod/Deployment/writer"
    one = Instance(id="writer-1", status="silent", silent_since=ago(70), workload=home)
    cause = finding(
        1,
        Root("workload", home),
        Effect("NoConsumers", "queues", "kafka/sections/g", since=ago(88)),
        Effect("TaskStalled", "agents", "prod/planner", "activity/active_task_ids/plan-7"),
        summary="All 2 pods of Deployment writer crash: 16 restarts, last exit OOMKilled",
        evidence=[Evidence("workload", home, "pods/writer-1/reason", "CrashLoopBackOff")],
    )
    return {
        **{name: list(entities) for name, entities in HEALTHY.items()},
        "findings": [cause],
        "agents": [
            agent("planner", stuck, queues=["plans"]),
            agent("writer", status="silent", instances=[one], queues=["sections"]),
            agent("idle", status="idle"),
        ],
        "queues": [queue("plans"), queue("sections", depth=6, consumers=0, group_state="Empty")],
        "workload": [workload("writer", crashing("writer-1"), crashing("writer-2"))],
    }


class RandomSystem:
    """A system with anything wrong in it; equal seeds and sizes make equal ones."""

    def __init__(self, seed: int, size: int, findings: int, names: Sequence[str] = NAMES) -> None:
        self.random = random.Random(seed)
        self._names = names
        self.entities: dict[str, list[Any]] = {
            "sources": [
                source(f"s{n}", **self._source()) for n in range(self.random.randint(1, 8))
            ],
            "agents": [self._agent(n) for n in range(self._some(size))],
            "queues": [self._queue(n) for n in range(self._some(size))],
            "litellm": [self._model(n) for n in range(self._some(size))],
            "workload": [self._workload(n) for n in range(self._some(size))],
        }
        self.entities["findings"] = [self._finding(n + 1) for n in range(findings)]
        self.snapshot = snapshot(self._name(0), **self.entities)

    def _some(self, size: int) -> int:
        return self.random.randint(0, size)

    def _name(self, number: int) -> str:
        return self.random.choice(self._names) + (
            f"-{number}" if self.random.random() < 0.7 else ""
        )

    def _time(self) -> datetime | None:
        return self.random.choice([None, ago(self.random.uniform(0, 200_000))])

    def _source(self) -> dict[str, Any]:
        problem = SourceProblem("", "Timeout", "it did not answer " * 20, ago(60))
        problems = [problem] * self.random.randint(0, 2)
        status = self.random.choice(STATUSES)
        return {"status": status, "problems": problems, "last_ok_at": self._time()}

    def _problems(self) -> list[Problem]:
        return [Problem("Forbidden", "may not read" * 30, ago(60))] * self.random.randint(0, 1)

    def _task(self, number: int) -> Task:
        return Task(
            id=f"t-{number}-{self.random.randint(0, 9)}",
            stalled=self.random.choice([None, False, True]),
            progressed_at=self._time(),
            step=self.random.choice([None, "thinks" * 50]),
            waits=[Wait("llm", self._name(1), self._time())] * self.random.randint(0, 2),
        )

    def _agent(self, number: int) -> Agent:
        tasks = [self._task(number * 10 + n) for n in range(self.random.randint(0, 3))]
        status = self.random.choice(["active", "idle", "silent", "declared"])
        made = agent(f"{self._name(number)}-{number}", *tasks, status=status)
        return agent(made.name, *tasks, status=status, problems=self._problems())

    def _queue(self, number: int) -> Queue:
        return queue(
            self._name(number),
            f"g{number}",
            depth=self.random.choice([None, 0, 7]),
            consumers=self.random.choice([None, 0, 2]),
            consumed_at=self._time(),
            tasks=[PendingTask(id=f"p-{number}", submitted_at=self._time())],
            problems=self._problems(),
        )

    def _model(self, number: int) -> ModelDeployment:
        return model(
            f"d{number}",
            self._name(number),
            status=self.random.choice(["healthy", "unhealthy", "cooling_down", "unknown"]),
            last_error=self.random.choice([None, ModelError("AuthenticationError", 401)]),
            failed_rpm=self.random.choice([None, 0.0, 3.5]),
            problems=self._problems(),
        )

    def _workload(self, number: int) -> Workload:
        makes = [pod, crashing]
        pods = [
            self.random.choice(makes)(f"p{number}-{n}") for n in range(self.random.randint(0, 4))
        ]
        made = workload(f"w{number}", *pods, problems=self._problems())
        key = f"kubernetes/prod/Deployment/{self._name(number)}-{number}"
        lives: Mapping[str, Any] = {} if self.random.random() < 0.8 else {"live": None}
        return workload(self._name(number), *pods, key=key, problems=made.problems, **lives)

    def _finding(self, rank: int) -> Finding:
        section, entity = self._any()
        by_name = self.random.random() < 0.2
        return finding(
            rank,
            Root(section, entity.key, self._path(), *(("tool", self._name(1)) if by_name else ())),
            *[self._effect() for _ in range(self.random.randint(0, 3))],
            severity=self.random.choice(SEVERITIES),
            summary=f"{self._name(rank)} is broken: " + "much is said of it " * 10,
            evidence=[self._evidence() for _ in range(self.random.randint(0, 4))],
            since=self._time(),
            unchecked=self.random.choice([[], ["kafka"]]),
        )

    def _any(self) -> tuple[str, Any]:
        found = [
            (section, one)
            for section in ("agents", "queues", "litellm", "workload", "sources")
            for one in self.entities[section]
        ]
        return self.random.choice(found)

    def _path(self) -> str | None:
        return self.random.choice([None, "pods/" + "p" * 200, "activity/active_task_ids/a~1b"])

    def _effect(self) -> Effect:
        section, entity = self._any()
        return Effect("TaskStalled", section, entity.key, self._path(), self._time())

    def _evidence(self) -> Evidence:
        section, entity = self._any()
        values = [None, True, 7, 2.5, "word " * 200, "2030-01-06T09:41:07.123456Z"]
        return Evidence(section, entity.key, "status", self.random.choice(values))
