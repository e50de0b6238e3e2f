"""What is shown of the cluster: its workloads, and the agents that annotations declare."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from collectors.kubernetes.cluster import At, Cluster, Home
from collectors.kubernetes.declaration import Declaration
from collectors.kubernetes.limits import common
from collectors.kubernetes.pace import paced
from collectors.kubernetes.pods import SeenPod
from collectors.kubernetes.workloads import SeenWorkload
from telemetron import key
from telemetron.agents import AgentPart
from telemetron.collector import Output, Put
from telemetron.document import MAX_PODS, Instance, Limits, Live, Pod, Problem, Workload

# A pod may be seen before its owner is; it waits so long for it.
OWNER_SECONDS = 2.0
# What changes in between is shown together.
COST_TO_PAUSE = 4
MAX_PAUSE_SECONDS = 0.01


class Usage(Struct, frozen=True, gc=False):
    """What a pod uses."""

    cpu: float
    """Cores."""
    memory: float
    """MiB."""
    measured_at: datetime


class Traffic(Struct, frozen=True, gc=False):
    """Bytes since the pod's start."""

    network_in: int | None
    network_out: int | None


class Show:
    """Puts what is dirty; alone, so that nothing is put while all is replaced."""

    def __init__(self, cluster: Cluster, output: Output) -> None:
        self.usage: dict[At, Usage] = {}
        self.traffic: dict[At, Traffic] = {}
        self.changed = asyncio.Event()
        self._cluster = cluster
        self._output = output
        self._agents: dict[Home, set[str]] = {}
        """The ids of the agents' parts that are shown, by workload."""
        self._wrong: dict[Home, Problem] = {}
        self._awaited: set[At] = set()

    def moved(self, pods: Iterable[At]) -> None:
        """The measures of these pods changed."""
        for at in pods:
            if home := self._cluster.home(at):
                self._cluster.dirty[home] = None
        self.changed.set()

    def forget(self, pod: At) -> None:
        """It is no more; one of the same name has figures of its own."""
        self.usage.pop(pod, None)
        self.traffic.pop(pod, None)

    async def first(self) -> None:
        """Show all that is known, in one step."""
        for at in list(self._cluster.waiting):
            self._cluster.give_up(at)
        dirty = self._take_dirty()
        puts = [put async for home in paced(dirty) for put in self._puts(home)]
        await self._output.replace(puts)

    async def run(self) -> None:
        """Show what changes, for ever."""
        while True:
            await self.changed.wait()
            self.changed.clear()
            self._await_owners()
            cost = 0.0
            async for home in paced(self._take_dirty()):
                start = time.perf_counter()
                self._show(home)
                cost += time.perf_counter() - start
            await self._output.clock.sleep(min(COST_TO_PAUSE * cost, MAX_PAUSE_SECONDS))

    def _take_dirty(self) -> dict[Home, None]:
        dirty, self._cluster.dirty = self._cluster.dirty, {}
        return dirty

    def _await_owners(self) -> None:
        for at in self._cluster.waiting.keys() - self._awaited:
            self._awaited.add(at)
            self._output.clock.call_later(OWNER_SECONDS, self._give_up, at)

    def _give_up(self, at: At) -> None:
        self._awaited.discard(at)
        self._cluster.give_up(at)
        self.changed.set()

    def _show(self, home: Home) -> None:
        before = self._agents.get(home, set())
        puts = list(self._puts(home))
        for put in puts:
            self._output.put(*put)
        if not puts:
            self._output.remove("workload", key.join(*home))
        for id in before - self._agents.get(home, set()):
            self._output.remove("agents", id)

    def _puts(self, home: Home) -> Iterator[Put]:
        """The workload's part, and those of its agent."""
        workload, pods = self._workload(home)
        if workload is None:
            self._agents.pop(home, None)
            self._wrong.pop(home, None)
            return
        id = key.join(*home)
        yield Put("workload", id, id, workload)
        agents = list(self._agent_puts(home, pods))
        if agents:
            self._agents[home] = {put.id for put in agents}
        else:
            self._agents.pop(home, None)
        yield from agents

    # workloads

    def _workload(self, home: Home) -> tuple[Workload | None, list[SeenPod]]:
        seen = self._cluster.workloads.get(home)
        pods = self._cluster.pods_of(home)
        if seen is None and not pods:
            return None, []
        listed = cut(pods)
        limits = self._limits(seen, pods)
        return Workload(
            deployment_name=home[2],
            namespace=home[0],
            kind=home[1],
            max_pods=self._cluster.max_pods(home),
            pod_max_cpu=limits.cpu,
            pod_max_ram=limits.memory,
            live=self._live(home, seen.live, pods) if seen else None,
            pods=[self._measured(pod) for pod in listed],
            problems=self._problems(home, pods),
            truncated={"pods": len(pods)} if len(listed) < len(pods) else None,
        ), listed

    def _limits(self, seen: SeenWorkload | None, pods: list[SeenPod]) -> Limits:
        """Those of its active pods, else its template's, else those of the pods that ended."""
        active = [pod.pod.limits for pod in pods if not pod.is_over]
        if seen:
            return common(active or [seen.limits])
        return common(active or [pod.pod.limits for pod in pods])

    def _live(self, home: Home, live: Live, pods: list[SeenPod]) -> Live:
        if not self._cluster.is_synced("Pod", home[0]):
            return live
        return replace(live, active_pods=sum([pod.pod.status == "Running" for pod in pods]))

    def _measured(self, seen: SeenPod) -> Pod:
        pod = seen.pod
        usage = self.usage.get((seen.namespace, pod.pod_id))
        if usage:
            cpu, memory, at = usage.cpu, usage.memory, usage.measured_at
            pod = replace(pod, cpu=cpu, memory=memory, measured_at=at)
        traffic = self.traffic.get((seen.namespace, pod.pod_id))
        if traffic:
            received, sent = traffic.network_in, traffic.network_out
            pod = replace(pod, network_in=received, network_out=sent)
        return pod

    def _problems(self, home: Home, pods: list[SeenPod]) -> list[Problem]:
        agent = self._agent(home, pods)
        if agent is None or agent.wrong is None:
            self._wrong.pop(home, None)
            return []
        message = f"annotation telemetron.dev/{agent.wrong} is no whole number above 0"
        known = self._wrong.get(home)
        if known is None or known.message != message:
            known = Problem("InvalidAnnotation", message, self._output.clock.now())
            self._wrong[home] = known
        return [known]

    # agents

    def _agent(self, home: Home, pods: list[SeenPod]) -> Declaration | None:
        """What its own annotations declare, else those of a pod."""
        seen = self._cluster.workloads.get(home)
        if seen and seen.agent:
            return seen.agent
        return next((pod.agent for pod in pods if pod.agent), None)

    def _agent_puts(self, home: Home, pods: list[SeenPod]) -> Iterator[Put]:
        """One part for the workload that declares an agent, one for each of its pods."""
        seen = self._cluster.workloads.get(home)
        own = seen.agent if seen else None
        id = key.join(*home)
        if own:
            yield Put("agents", own.name, id, self._part(home, own, None))
        for pod in pods:
            agent = own or pod.agent
            if agent and not pod.is_over:
                part = self._part(home, agent, pod.pod.pod_id)
                yield Put("agents", agent.name, key.join(*home, pod.pod.pod_id), part)

    def _part(self, home: Home, agent: Declaration, pod: str | None) -> AgentPart:
        return AgentPart(
            origin="kubernetes",
            namespace=home[0],
            description=agent.description,
            deployment_name=home[2],
            max_parallel_invocations=agent.max_parallel_invocations,
            models=list(agent.models),
            queues=list(agent.queues),
            instance=self._instance(home, pod) if pod else None,
        )

    def _instance(self, home: Home, pod: str) -> Instance:
        source = self._output.source
        return Instance(
            id=pod, status="declared", pod_id=pod, workload=key.join(source, *home), source=source
        )


def cut(pods: list[SeenPod]) -> list[SeenPod]:
    """The pods that are shown, by name: those that are not well first, where there are too many."""
    if len(pods) <= MAX_PODS:
        return pods
    ill = [pod for pod in pods if not pod.is_well][:MAX_PODS]
    well = [pod for pod in pods if pod.is_well][: MAX_PODS - len(ill)]
    return sorted([*ill, *well], key=lambda pod: pod.pod.pod_id)
