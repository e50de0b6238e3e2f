"""The world: sources, agents and Telemetron, which move on second by second."""

import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests.real.incidents.agents import Instance, Phase, Role, Task
from tests.real.incidents.background import deployments, roles
from tests.real.incidents.broker import Broker
from tests.real.incidents.cluster import Cluster
from tests.real.incidents.group import Group
from tests.real.incidents.inbox import Inbox
from tests.real.incidents.proxy import Deployment, Proxy
from tests.real.incidents.service import Object, Service
from tests.real.incidents.times import ago
from tests.real.incidents.view import View
from tests.real.incidents.workload import Workload

STALL_SECONDS = 10
SAMPLE_TICKS, BOOKMARK_TICKS = 5, 10
AGE_SECONDS = 7000.0
PRIORITIES = ("normal", "normal", "normal", "high", "low")
Shown = Callable[[View], Any]


class World:
    """Everything; the setup of a scenario may change it before it starts."""

    def __init__(self, seed: str, port: int | None = None, has_history: bool = False) -> None:
        self.chance = random.Random(seed)
        self._exit = AsyncExitStack()
        folder = self._exit.enter_context(tempfile.TemporaryDirectory(prefix="incident-"))
        self.folder = Path(folder)
        self.cluster = Cluster(self.chance)
        self.broker = Broker(self.folder, self.chance)
        self.proxy = Proxy(deployments())
        self.roles = {one.name: one for one in roles()}
        self.agents: dict[str, list[Instance]] = {}
        self.has_begun = False
        self.blocked: set[tuple[str | None, str | None]] = set()
        """Waits that never end, as `("llm", "gpt-5")`."""
        self.failing: dict[tuple[str | None, str | None], str] = {}
        """Waits that fail, with the class of the error."""
        self.traffic = 1.0
        self.surge: dict[str, float] = {}
        """By topic: so many times the usual records."""
        self.paused: set[str] = set()
        """Topics that get no records by themselves."""
        self.each_tick: list[Callable[[int], None]] = []
        self.facts: dict[str, str] = {}
        """Names that are known once the scenario is played."""
        self.shown: dict[str, Shown] = {}
        """What the document has to show."""
        self._port = port
        self.inbox = Inbox()
        """Receives the events of Telemetron's webhook."""
        self._has_history = has_history
        self._number = 0
        self._serial = self.chance.randrange(2000, 9000)
        self._due: dict[str, float] = {}

    # its begin and its end

    async def start(self) -> None:
        """Start everything, all of it healthy."""
        for role in self.roles.values():
            self._deploy(role)
        Workload(self.cluster, "gateway", 2, image="registry.example/atlas/gateway:2.3.0")
        image = "qdrant/qdrant:v1.15.1"
        Workload(self.cluster, "qdrant", 1, kind="StatefulSet", image=image, memory="4Gi")
        for part in (self.cluster, self.proxy, self.broker):
            self._exit.push_async_callback(part.stop)
            await part.start()
        self.has_begun = True
        await self._fill()
        self._exit.push_async_callback(self.inbox.stop)
        await self.inbox.start()
        webhook = self.inbox.webhook()
        self.service = Service(self.folder, self._sources(), webhook, self._port, self._has_history)
        self._exit.push_async_callback(self.service.stop)
        await self.service.start()

    async def stop(self) -> None:
        """End everything."""
        await self._exit.aclose()

    def _deploy(self, role: Role) -> None:
        parallel = str(role.parallel)
        about = {"agent": role.name, "max-parallel-invocations": parallel}
        annotations = {f"telemetron.dev/{name}": said for name, said in about.items()}
        workload = Workload(self.cluster, role.name, role.replicas, annotations=annotations)
        self.agents[role.name] = [Instance(self, role, pod, AGE_SECONDS) for pod in workload.pods]
        if role.queue:
            self.broker.add(role.queue, role.partitions, role.name)

    async def _fill(self) -> None:
        """Let every queue have a past, and every instance its partitions."""
        for topic, group in self.broker.groups.items():
            for partition in [*range(group.topic.partitions)] * 3:
                self.broker.produce(topic, self.record(topic), partition)
        await asyncio.gather(*[self.broker.skip(topic) for topic in self.broker.groups])
        for instances in self.agents.values():
            for instance in instances:
                instance.join()

    def _sources(self) -> Object:
        queues = [{"topic": "*"}]
        kafka = {"bootstrap_servers": [self.broker.address], "interval_seconds": 0.5}
        return {
            "heartbeats": {"stall_after_seconds": STALL_SECONDS},
            "kubernetes": self.cluster.source(self.folder),
            "kafka": {**kafka, "queues": queues},
            "litellm": self.proxy.source(),
        }

    async def settle(self, seconds: float = 60.0) -> None:
        """Go on until the document shows everything well; TimeoutError if it does not."""
        if not await self.until(self._is_well, seconds):
            raise TimeoutError("the healthy world is not shown as such")

    def _is_well(self, view: View) -> bool:
        state = view.state
        instances = view.instances()
        return (
            all(one["status"] in ("ok", "off") for one in state["sources"])
            and len(state["queues"]) >= len(self.broker.groups)
            and all(self._is_read(one) for one in state["queues"])
            and len(state["litellm"]) == len(self.proxy.deployments)
            and len(instances) == sum(map(len, self.agents.values()))
            and all(one["status"] in ("active", "idle") for one in instances)
        )

    def _is_read(self, queue: Object) -> bool:
        group = self.broker.groups.get(queue["name"])
        return group is None or queue["consumers"] == len(group.members)

    # a second

    async def tick(self) -> None:
        """Let a second pass."""
        began = time.monotonic()
        self._number += 1
        for action in self.each_tick:
            action(self._number)
        self._move()
        self.proxy.tick(self._number)
        if self._number % SAMPLE_TICKS == 0:
            self.cluster.sample()
        if self._number % BOOKMARK_TICKS == 0:
            self.cluster.bookmark()
        await self._beat()
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))

    def _move(self) -> None:
        for role in self.roles.values():
            if role.queue and role.queue not in self.paused:
                self._feed(role, role.queue)
        for instances in self.agents.values():
            for instance in instances:
                instance.move()
        for group in self.broker.groups.values():
            group.flush()

    def _feed(self, role: Role, topic: str) -> None:
        rate = role.rate * self.traffic * self.surge.get(topic, 1.0)
        due = self._due.get(topic, self.chance.random()) + rate
        for _ in range(int(due)):
            self.broker.produce(topic, self.record(topic))
        self._due[topic] = due - int(due)

    async def _beat(self) -> None:
        for instances in [*self.agents.values()]:
            for one in [*instances]:
                if one.is_alive and one.beats:
                    path = f"/agents/{one.role.name}/heartbeat"
                    await self.service.send("POST", path, one.beat())

    async def run(self, seconds: int) -> None:
        """Let so many seconds pass."""
        for _ in range(seconds):
            await self.tick()

    async def until(self, shown: Shown, seconds: float) -> bool:
        """Go on until the document shows it; return False if it does not in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self.tick()
            with suppress(aiohttp.ClientError, LookupError, StopIteration, TypeError):
                if shown(View(await self.service.state())):
                    return True
        return False

    # what scenarios use

    def shows(self, what: str, shown: Shown) -> None:
        """The document has to show this."""
        self.shown[what] = shown

    def missing(self, view: View) -> list[str]:
        """Return what the document has to show, and does not."""
        return [what for what, shown in self.shown.items() if not _is(shown, view)]

    def id(self, prefix: str) -> str:
        """Return a new id of a task."""
        self._serial += 1
        return f"{prefix}-{self._serial}"

    def record(self, topic: str, **more: Any) -> Object:
        """Return a task as a record of a topic."""
        role = next((one for one in self.roles.values() if one.queue == topic), None)
        parent = self._parent(role) if role else None
        invoker = role.parent if role and role.parent else "gateway"
        return {
            "id": self.id(role.prefix if role else topic),
            "submitted_at": ago(),
            "invoked_by": invoker,
            "priority": self.chance.choice(PRIORITIES),
            **({"parent_id": parent} if parent else {}),
            **more,
        }

    def _parent(self, role: Role) -> str | None:
        instances = self.agents.get(role.parent or "", [])
        tasks = [task for one in instances if one.is_alive for task in one.tasks]
        return self.chance.choice(tasks).id if tasks else None

    def task(self, instance: Instance, phases: list[Phase] | None = None, **more: Any) -> Task:
        """Return a task that came from no queue."""
        more.setdefault("parent", self._parent(instance.role))
        id = self.id(instance.role.prefix)
        return Task(instance, id, phases or instance.role.phases, **more)

    def instances(self, role: str) -> list[Instance]:
        """The instances of an agent."""
        return self.agents[role]

    def workload(self, name: str) -> Workload:
        """A workload."""
        return self.cluster.workloads[name]

    def group(self, topic: str) -> Group:
        """The group that reads a topic."""
        return self.broker.groups[topic]

    def deployment(self, id: str) -> Deployment:
        """A deployment of a model."""
        return self.proxy.deployments[id]


def _is(shown: Shown, view: View) -> bool:
    try:
        return bool(shown(view))
    except (LookupError, StopIteration, TypeError):
        return False
