"""What is shown of the cluster: its workloads, and the agents that annotations declare."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from telemetron import key
from telemetron.agents import AgentPart
from telemetron.collector import Output, Put
from telemetron.document import MAX_PODS, Limits, Live, Pod, Problem, Workload
from telemetron_collectors.kubernetes.annotations import Declaration
from telemetron_collectors.kubernetes.cluster import At, Cluster, Home
from telemetron_collectors.kubernetes.limits import common
from telemetron_collectors.kubernetes.pace import paced
from telemetron_collectors.kubernetes.pods import SeenPod
from telemetron_collectors.kubernetes.workloads import SeenWorkload

# A pod may be seen before its owner is; it waits so long for it.
OWNER_SECONDS = 2.0
# What changes in between is shown together.
COST_TO_PAUSE = 4
MAX_PAUSE_SECONDS = 0.01
MAX_PODS_OF_A_FINISHED_JOB = 3
EARLIEST = datetime.min.replace(tzinfo=UTC)


class Usage(Struct, frozen=True, gc=False):
    """What a pod uses."""

    cpu: float | None
    """Cores."""
    memory: float | None
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
        self._known: dict[Home, dict[str, Problem]] = {}
        """The problems of workloads that are found here, by reason."""
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
        """The workload's part, and those of its agents."""
        seen = self._cluster.workloads.get(home)
        pods = self._cluster.pods_of(home)
        if seen is None and not pods:
            self._agents.pop(home, None)
            self._known.pop(home, None)
            return
        id = key.join(*home)
        own = self._problems(home, seen, pods)
        workload = self._workload(home, seen, pods)
        yield Put(
            "workload", id, id, replace(workload, problems=[*own, *self._cluster.doubts(home)])
        )
        agents = list(self._agent_puts(home, pods, own))
        if agents:
            self._agents[home] = {put.id for put in agents}
        else:
            self._agents.pop(home, None)
        yield from agents

    # workloads

    def _workload(self, home: Home, seen: SeenWorkload | None, pods: list[SeenPod]) -> Workload:
        is_over = seen is not None and seen.is_over
        placed = [self._placed(pod) for pod in pods]
        listed = cut(placed, MAX_PODS_OF_A_FINISHED_JOB if is_over else MAX_PODS)
        limits = self._limits(seen, pods)
        return Workload(
            deployment_name=home[2],
            namespace=home[0],
            kind=home[1],
            owner=seen.owner if seen else None,
            max_pods=self._cluster.max_pods(home),
            pod_max_cpu=limits.cpu,
            pod_max_ram=limits.memory,
            live=self._live(home, seen.live, pods) if seen else None,
            pods=[self._measured(pod) for pod in listed],
            truncated={"pods": len(pods)} if len(listed) < len(pods) else None,
        )

    def _limits(self, seen: SeenWorkload | None, pods: list[SeenPod]) -> Limits:
        """Those of its active pods, else its template's, else those of the other pods."""
        active = [pod.pod.limits for pod in pods if pod.is_active]
        if seen:
            return common(active or [seen.limits])
        return common(active or [pod.pod.limits for pod in pods])

    def _live(self, home: Home, live: Live, pods: list[SeenPod]) -> Live:
        if not self._cluster.has_all_pods(home):
            return live
        return replace(live, active_pods=sum([pod.is_active for pod in pods]))

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

    def _placed(self, seen: SeenPod) -> SeenPod:
        """With its node's readiness; a node that is not ready is named, as it explains the rest."""
        pod = seen.pod
        is_ready = self._cluster.is_on_ready_node(seen)
        if is_ready is None:
            return seen
        if is_ready or seen.is_over:
            return replace(seen, pod=replace(pod, node_ready=is_ready))
        node = self._cluster.nodes.get(pod.node or "")
        why = f" ({node.reason})" if node and node.reason else ""
        message = "; ".join(filter(None, (pod.message, f"node {pod.node} is not ready{why}")))
        reason = pod.reason or "NodeNotReady"
        pod = replace(pod, node_ready=False, reason=reason, message=message)
        return replace(seen, pod=pod)

    def _problems(
        self, home: Home, seen: SeenWorkload | None, pods: list[SeenPod]
    ) -> list[Problem]:
        """What is found here; each keeps its time while it says the same."""
        known = self._known.pop(home, {})
        found: dict[str, Problem] = {}
        for reason, message in self._wrong(home, seen, pods):
            old = known.get(reason)
            if old is None or old.message != message:
                old = Problem(reason, message, self._output.clock.now())
            found[reason] = old
        if found:
            self._known[home] = found
        return list(found.values())

    def _wrong(
        self, home: Home, seen: SeenWorkload | None, pods: list[SeenPod]
    ) -> Iterator[tuple[str, str]]:
        if seen and not seen.is_selected:
            yield "NotSelected", "label_selector does not fit all of its pods"
        if self._cluster.is_left_out(home):
            yield "NotSelected", f"label_selector does not fit the {home[1]}, or it was deleted"
        agent = self._agent(seen, pods)
        if agent and agent.wrong:
            yield (
                "InvalidAnnotation",
                f"annotation telemetron.dev/{agent.wrong} is no whole number above 0",
            )

    # agents

    def _agent(self, seen: SeenWorkload | None, pods: list[SeenPod]) -> Declaration | None:
        """What its own annotations declare, else those of a pod."""
        if seen and seen.agent:
            return seen.agent
        return next((pod.agent for pod in pods if pod.agent), None)

    def _agent_puts(
        self, home: Home, pods: list[SeenPod], problems: list[Problem]
    ) -> Iterator[Put]:
        """One part for each agent that the workload declares, or that pods of it do."""
        alive = [pod for pod in pods if not pod.is_over]
        seen = self._cluster.workloads.get(home)
        if seen and seen.agent:
            yield self._agent_put(home, seen.agent, alive, problems)
            return
        declared = {pod.agent.name: pod.agent for pod in reversed(alive) if pod.agent}
        for agent in declared.values():
            own = [pod for pod in alive if pod.agent and pod.agent.name == agent.name]
            yield self._agent_put(home, agent, own, problems)

    def _agent_put(
        self, home: Home, agent: Declaration, pods: list[SeenPod], problems: list[Problem]
    ) -> Put:
        has_all_pods = self._cluster.has_all_pods(home)
        doubts = [one for one in problems if one.reason == "NotSelected"]
        part = AgentPart(
            origin="kubernetes",
            namespace=home[0],
            description=agent.description,
            deployment_name=home[2],
            max_parallel_invocations=agent.max_parallel_invocations,
            models=list(agent.models),
            queues=list(agent.queues),
            workload=key.join(self._output.source, *home),
            pods=[pod.pod.pod_id for pod in pods],
            has_all_pods=has_all_pods,
            problems=[] if has_all_pods else [*doubts, *self._cluster.doubts_of_pods(home)],
        )
        return Put("agents", agent.name, key.join(*home, agent.name), part)


def cut(pods: list[SeenPod], limit: int) -> list[SeenPod]:
    """Those that are listed: all by name, or, of too many, the first by what they tell.

    Those that run and are not well come first, then those that run, failed, succeeded. Among each
    the newest come first, but every reason has its turn: many pods that failed alike hide no other.
    """
    if len(pods) <= limit:
        return pods
    turns: Counter[tuple[int, str | None]] = Counter()
    order = []
    for at, pod in enumerate(sorted(pods, key=_created, reverse=True)):
        kind = _rank(pod), pod.pod.reason
        turns[kind] += 1
        if turns[kind] <= limit:
            order.append((kind[0], turns[kind], at, pod))
    return [pod for *_, pod in sorted(order, key=_place)[:limit]]


def _rank(pod: SeenPod) -> int:
    if pod.pod.status == "Succeeded":
        return 3
    if pod.pod.status == "Failed":
        return 2
    return 1 if pod.is_well else 0


def _place(ranked: tuple[int, int, int, SeenPod]) -> tuple[int, int, int]:
    return ranked[:3]


def _created(pod: SeenPod) -> datetime:
    return pod.pod.created_at or EARLIEST
