"""A store with its history, whose agents and queues the tests move by hand."""

from datetime import timedelta
from math import inf
from typing import Any

import msgspec
from msgspec.structs import replace

from telemetron.agents import AgentPart
from telemetron.answers.task import Answer, answer
from telemetron.answers.task_draft import Draft, Sought
from telemetron.answers.task_sightings import Sightings
from telemetron.document import Instance, PendingTask, Queue, Task
from telemetron.history.delta import shapes
from telemetron.history.limits import HistoryLimits
from telemetron.history.timeline import Timeline
from telemetron.search import SearchResult
from telemetron.store.store import Store
from telemetron.testing import FakeClock

FEEDS = {"heartbeats": ("agents",), "kafka": ("queues",), "kubernetes": ("workload",)}


class Whereabouts:
    """One system: `beat`, `queue` and `put` change it, `ask` asks where a task is."""

    def __init__(self, **limits: Any) -> None:
        self.clock = FakeClock()
        self.store = Store("test", self.clock)
        self.timeline = Timeline(
            shapes(), self.store.snapshot, HistoryLimits(**limits), lambda name: FEEDS.get(name, ())
        )
        self.store.watchers.append(self._published)
        self.sources = {name: self.store.add(name, name) for name in FEEDS}
        for source in self.sources.values():
            source.start(inf)
            source.confirm()
        self.flush()

    def _published(self, publication: Any) -> None:
        for _ in self.timeline.record(publication, self.clock.monotonic()):
            pass

    def flush(self, seconds: float = 1.0) -> None:
        self.store.flush()
        self.clock.advance(seconds)

    def put(self, source: str, section: str, id: str, part: Any, group: str | None = None) -> None:
        self.store.put(self.sources[source], section, group or id, id, part)
        self.flush()

    def remove(self, source: str, section: str, id: str) -> None:
        self.store.remove(self.sources[source], section, id)
        self.flush()

    def beat(self, agent: str, *tasks: Task, instance: str = "", **fields: Any) -> None:
        """One instance beats; fields are those of the instance, or of the part."""
        id = instance or f"{agent}-0"
        own = {key: fields.pop(key) for key in [*fields] if key in Instance.__struct_fields__}
        status = own.pop("status", "active" if tasks else "idle")
        made = [replace(task, instance=id, last_known=status == "silent") for task in tasks]
        part = AgentPart(
            namespace="prod",
            instance=Instance(id=id, status=status, **{"lives": 1, **own}),
            tasks=made,
            task_count=fields.pop("task_count", len(made)),
            **fields,
        )
        self.put("heartbeats", "agents", id, part, agent)

    def queue(self, name: str, *tasks: PendingTask, group: str | None = "g", **fields: Any) -> None:
        known = {"consumers": 1, "depth": len(tasks), "depth_exact": True}
        part = Queue(name=name, consumer_group=group, tasks=list(tasks), **{**known, **fields})
        self.put("kafka", "queues", f"{name}/{group}", part)

    def pending(self, id: str, offset: int, partition: int = 0, **fields: Any) -> PendingTask:
        known = {"submitted_at": self.clock.now()}
        return PendingTask(id=id, partition=partition, offset=offset, **{**known, **fields})

    def ago(self, seconds: float) -> Any:
        return self.clock.now() - timedelta(seconds=seconds)

    def draft(self, text: str, seen: Any = ()) -> Draft:
        sightings = Sightings(self.store.snapshot)
        return Draft(Sought.parse(text), sightings, self.timeline, FEEDS, seen)

    def found(self, text: str, look: int = 0, **results: SearchResult) -> Answer:
        draft = self.draft(text)
        query = draft.query(look)
        if seen := draft.news(results):
            draft = self.draft(text, seen)
        return answer(draft, results, query)

    def ask(self, text: str, look: int = 0, **results: SearchResult) -> Any:
        """The body as a client decodes it."""
        return msgspec.json.decode(msgspec.json.encode(self.found(text, look, **results).body))

    def close(self) -> None:
        self.timeline.close()
