"""A small system that sources describe and Telemetron diagnoses, with time moved by hand."""

import asyncio
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any, TypeVar

import msgspec

from telemetron.agents import AgentPart
from telemetron.diagnosis.collector import collector
from telemetron.diagnosis.indexes import indexes
from telemetron.diagnosis.settings import FindingsSettings
from telemetron.diagnosis.trend import Trends
from telemetron.diagnosis.view import View
from telemetron.document import (
    Finding,
    Instance,
    Live,
    ModelDeployment,
    Pod,
    Queue,
    State,
    Task,
    Workload,
)
from telemetron.service.supervisor import Supervisor
from telemetron.store.source import Source
from telemetron.store.store import Store
from telemetron.testing import FakeClock

SOURCES = {
    "heartbeats": "heartbeats",
    "kafka": "kafka",
    "kubernetes": "kubernetes",
    "litellm": "litellm",
}

T = TypeVar("T")

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


class System:
    """`async with System() as system`: sources that are ok, and a diagnosis that runs."""

    def __init__(
        self,
        now: datetime = NEW_YEAR,
        late: str | None = None,
        recalled: Sequence[Finding] = (),
        **findings: Any,
    ) -> None:
        self.clock = FakeClock(now)
        self.store = Store("test", self.clock)
        self.sources = {name: self.store.add(name, kind) for name, kind in SOURCES.items()}
        for name, source in self.sources.items():
            source.start(30 if name == late else inf)
            if name != late:
                source.confirm()
        self._supervisor = Supervisor(self.store)
        self._diagnosed = asyncio.Event()
        self._recalled = list(recalled)
        self._settings = msgspec.convert(findings, FindingsSettings)

    async def __aenter__(self) -> "System":
        self.start()
        await self._diagnosed.wait()
        await self.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._supervisor.stop()

    def again(self, late: str | None = None, recalled: Sequence[Finding] = ()) -> "System":
        """Another process that observes the same, after this one was killed."""
        other = System(self.clock.now(), late, recalled)
        for name, source in self.sources.items():
            for (section, id), part in source.parts.items():
                other.store.put(other.sources[name], section, part.group, id, part.value)
        return other

    def start(self) -> None:
        """Begin to diagnose."""
        own = collector(self.store, self._diagnosed, self._recall)
        self._supervisor.start_own(own, self._settings)

    async def _recall(self) -> list[Finding]:
        return self._recalled

    def view(self) -> View:
        """A view of what is published, as rules are given it."""
        snapshot = self.store.snapshot
        view = View(snapshot, indexes(), Trends())
        sections = snapshot.sections.items()
        refs = [(section, one) for section, shown in sections for one in shown.rope.every_key()]
        for _ in view.show(snapshot, refs):
            pass
        view.now, view.monotonic = self.clock.now(), self.clock.monotonic()
        return view

    async def settle(self) -> None:
        """Let everything happen that happens at once."""
        for _ in range(2):
            self.store.flush()
            for _ in range(10):
                await asyncio.sleep(0)

    async def after(self, seconds: float) -> list[Finding]:
        """Let time pass; returns the findings then, by rank."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            await self.settle()
        return self.findings

    @property
    def state(self) -> State:
        sections = ("findings", "agents", "litellm", "queues", "workload")
        return msgspec.json.decode(b"".join(self.store.snapshot.chunks(sections)), type=State)

    @property
    def findings(self) -> list[Finding]:
        found = self.state.findings
        assert isinstance(found, list)
        return sorted(found, key=lambda one: one.rank)

    def ago(self, seconds: float) -> datetime:
        """So long before now."""
        return self.clock.now() - timedelta(seconds=seconds)

    # what there is

    def agent(
        self,
        name: str,
        *tasks: Task,
        instance: str = "",
        status: str | None = None,
        pod: str | None = None,
        workload: str | None = None,
        **fields: Any,
    ) -> None:
        """One instance that beats, with its tasks."""
        id = instance or f"{name}-0"
        own = {key: fields.pop(key) for key in [*fields] if key in Instance.__struct_fields__}
        status = status or ("active" if tasks else "idle")
        if status == "silent":
            own = {"silent_since": self.ago(10), **own}
        made = Instance(
            id=id, status=status, pod_id=pod, workload=workload, source="heartbeats", **own
        )
        part = AgentPart(
            origin="heartbeat",
            namespace=fields.pop("namespace", "prod"),
            instance=made,
            tasks=[msgspec.structs.replace(task, instance=id) for task in tasks],
            task_count=len(tasks),
            **fields,
        )
        self.store.put(self.sources["heartbeats"], "agents", name, id, part)

    def goodbye(self, instance: str) -> None:
        """The instance leaves."""
        self.store.remove(self.sources["heartbeats"], "agents", instance)

    def source(self, name: str, kind: str) -> Source:
        """Return the source of this name; if there is none, a second one of its kind."""
        if name not in self.sources:
            self.sources[name] = self.store.add(name, kind)
            self.sources[name].start(inf)
            self.sources[name].confirm()
        return self.sources[name]

    def queue(
        self, name: str, group: str | None = "g", source: str = "kafka", **fields: Any
    ) -> None:
        """A queue that is read by one consumer, and empty."""
        known = {"consumers": 1, "group_state": "Stable", "depth": 0, "depth_exact": True}
        queue = Queue(name=name, consumer_group=group, **{**known, **fields})
        self.store.put(self.source(source, "kafka"), "queues", name, f"{name}/{group}", queue)

    def model(self, id: str, model: str = "m", **fields: Any) -> None:
        """A deployment that answers."""
        made = ModelDeployment(id=id, model=model, **{"status": "healthy", **fields})
        self.store.put(self.sources["litellm"], "litellm", id, id, made)

    def workload(self, name: str, *pods: Pod, source: str = "kubernetes", **live: Any) -> str:
        """A Deployment whose pods are ready; returns its key."""
        ready = sum(bool(pod.ready) for pod in pods)
        counted = {"desired": len(pods), "ready": ready, "available": ready, "rollout": "complete"}
        kind = live.pop("kind", "Deployment")
        namespace = live.pop("namespace", "prod")
        made = Workload(
            max_pods=live.pop("max_pods", None),
            deployment_name=name,
            namespace=namespace,
            kind=kind,
            owner=live.pop("owner", None),
            live=Live(**{"active_pods": len(pods), **counted, **live}),
            pods=list(pods),
        )
        group = f"{namespace}/{name}"
        self.store.put(self.source(source, "kubernetes"), "workload", group, group, made)
        return f"{source}/{namespace}/{kind}/{name}"

    def pod(self, name: str, **fields: Any) -> Pod:
        """A pod that runs on `node-1` and is ready."""
        known = {"status": "Running", "ready": True, "restarts": 0, "node": "node-1"}
        return Pod(pod_id=name, **{**known, "created_at": self.ago(3600), **fields})

    def task(self, id: str, *waits: Any, stalled: bool = False, **fields: Any) -> Task:
        """A task that goes on, unless it is stalled: since 400 s."""
        moved = self.ago(400 if stalled else 1)
        known = {"started_on": self.ago(500), "progressed_at": moved, "status": "running"}
        return Task(
            id=id, stalled=stalled, waits=list(waits), wait_count=len(waits), **{**known, **fields}
        )


def result(steps: Generator[None, None, T]) -> T:
    """Return what comes of these steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found


def alarms(findings: list[Finding]) -> list[tuple[str, str]]:
    """Rule and key of those that are more than information, by rank."""
    return [(one.rule, one.root.key) for one in findings if one.severity != "info"]


async def rules(system: System, seconds: float = 60) -> list[tuple[str, str]]:
    """Rule and severity of what is found."""
    return [(one.rule, one.severity) for one in await system.after(seconds)]


async def found(system: System, seconds: float = 90) -> list[tuple[str, str | None, str]]:
    """Rule, item and severity of what is found."""
    return [(one.rule, one.root.path, one.severity) for one in await system.after(seconds)]
