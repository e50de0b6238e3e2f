"""Publishes the cluster: its workloads, and the agents that annotations declare."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec.structs import replace

from telemetron import key
from telemetron.agents import AgentPart
from telemetron.collector import Output, Put
from telemetron.document import MAX_PODS, Limits, Live, Pod, Problem, Workload
from telemetron.slices import paced
from telemetron_collectors.kubernetes.annotations import Declaration
from telemetron_collectors.kubernetes.api.objects import ObjectKey
from telemetron_collectors.kubernetes.bounds import DEFAULTS
from telemetron_collectors.kubernetes.cluster import Cluster, WorkloadId
from telemetron_collectors.kubernetes.limits import common
from telemetron_collectors.kubernetes.pods import SeenPod
from telemetron_collectors.kubernetes.workloads import SeenWorkload

# After each round the presenter pauses for 4 times the round's cost, but at most 10 ms. A workload
# that changes several times during the pause is published once.
COST_TO_PAUSE = 4
MAX_PAUSE_SECONDS = 0.01
MAX_PODS_OF_A_FINISHED_JOB = 3
EARLIEST = datetime.min.replace(tzinfo=UTC)


class Presenter:
    """Publishes dirty workloads. Only one task may do so, as `replace` must see every put."""

    def __init__(
        self, cluster: Cluster, output: Output, owner_seconds: float = DEFAULTS.owner_seconds
    ) -> None:
        self._cluster = cluster
        self._output = output
        self._owner_seconds = owner_seconds
        self._agents: dict[WorkloadId, set[str]] = {}
        """The ids of each workload's published agents."""
        self._known: dict[WorkloadId, dict[str, Problem]] = {}
        """The problems that were found here, by reason."""
        self._awaited: set[ObjectKey] = set()

    async def publish_all(self) -> None:
        """Publish everything that is known, in one step."""
        for pod in list(self._cluster.waiting):
            self._cluster.stop_waiting(pod)
        dirty = self._cluster.pop_dirty()
        puts = [put async for id in paced(dirty) for put in self._puts(id)]
        await self._output.replace(puts)

    async def run(self) -> None:
        """Publish changes until cancelled."""
        changed = self._cluster.changed
        while True:
            await changed.wait()
            changed.clear()
            self._await_owners()
            cost = 0.0
            async for id in paced(self._cluster.pop_dirty()):
                start = time.perf_counter()
                self._publish(id)
                cost += time.perf_counter() - start
            await self._output.clock.sleep(min(COST_TO_PAUSE * cost, MAX_PAUSE_SECONDS))

    def _await_owners(self) -> None:
        for pod in self._cluster.waiting.keys() - self._awaited:
            self._awaited.add(pod)
            self._output.clock.call_later(self._owner_seconds, self._stop_waiting, pod)

    def _stop_waiting(self, pod: ObjectKey) -> None:
        self._awaited.discard(pod)
        self._cluster.stop_waiting(pod)

    def _publish(self, id: WorkloadId) -> None:
        before = self._agents.get(id, set())
        puts = list(self._puts(id))
        for put in puts:
            self._output.put(*put)
        if not puts:
            self._output.remove("workload", key.join(*id))
        for agent in before - self._agents.get(id, set()):
            self._output.remove("agents", agent)

    def _puts(self, id: WorkloadId) -> Iterator[Put]:
        """Yield the part of a workload, and those of its agents."""
        seen = self._cluster.workloads.get(id)
        pods = self._cluster.pods_of(id)
        if seen is None and not pods:
            self._agents.pop(id, None)
            self._known.pop(id, None)
            return
        joined = key.join(*id)
        own = self._own_problems(id, seen, pods)
        workload = self._workload(id, seen, pods)
        problems = [*own, *self._cluster.problems(id)]
        yield Put("workload", joined, joined, replace(workload, problems=problems))
        agents = list(self._agent_puts(id, pods, own))
        if agents:
            self._agents[id] = {put.id for put in agents}
        else:
            self._agents.pop(id, None)
        yield from agents

    # workloads

    def _workload(self, id: WorkloadId, seen: SeenWorkload | None, pods: list[SeenPod]) -> Workload:
        is_over = seen is not None and seen.is_over
        placed = [self._with_node(pod) for pod in pods]
        listed = cut(placed, MAX_PODS_OF_A_FINISHED_JOB if is_over else MAX_PODS)
        limits = _limits(seen, pods)
        return Workload(
            deployment_name=id.name,
            namespace=id.namespace,
            kind=id.kind,
            owner=seen.owner if seen else None,
            max_pods=self._cluster.max_pods(id),
            pod_max_cpu=limits.cpu,
            pod_max_ram=limits.memory,
            live=self._live(id, seen.live, pods) if seen else None,
            pods=[self._with_figures(pod) for pod in listed],
            truncated={"pods": len(pods)} if len(listed) < len(pods) else None,
        )

    def _live(self, id: WorkloadId, live: Live, pods: list[SeenPod]) -> Live:
        if not self._cluster.has_all_pods(id):
            return live
        return replace(live, active_pods=sum([pod.is_active for pod in pods]))

    def _with_figures(self, seen: SeenPod) -> Pod:
        """Return a pod with its usage and traffic."""
        pod = seen.pod
        name = seen.namespace, pod.pod_id
        usage = self._cluster.usage.get(name)
        if usage:
            cpu, memory, at = usage.cpu, usage.memory, usage.measured_at
            pod = replace(pod, cpu=cpu, memory=memory, measured_at=at)
        traffic = self._cluster.traffic.get(name)
        if traffic:
            received, sent = traffic.network_in, traffic.network_out
            pod = replace(pod, network_in=received, network_out=sent)
        return pod

    def _with_node(self, seen: SeenPod) -> SeenPod:
        """Return a pod with its node's readiness; a node that is not ready is in its message."""
        pod = seen.pod
        node = self._cluster.readiness_of(seen)
        if node is None and not seen.on_lost_node:
            return seen
        is_ready = node is not None and node.ready
        if is_ready or seen.is_over:
            return replace(seen, pod=replace(pod, node_ready=is_ready))
        why = f" ({node.reason})" if node and node.reason else ""
        message = "; ".join(filter(None, (pod.message, f"node {pod.node} is not ready{why}")))
        reason = pod.reason or "NodeNotReady"
        pod = replace(pod, node_ready=False, reason=reason, message=message)
        return replace(seen, pod=pod)

    def _own_problems(
        self, id: WorkloadId, seen: SeenWorkload | None, pods: list[SeenPod]
    ) -> list[Problem]:
        """Return the problems of selector and annotations; an unchanged one keeps its time."""
        known = self._known.pop(id, {})
        found: dict[str, Problem] = {}
        for reason, message in self._faults(id, seen, pods):
            old = known.get(reason)
            if old is None or old.message != message:
                old = Problem(reason, message, self._output.clock.now())
            found[reason] = old
        if found:
            self._known[id] = found
        return list(found.values())

    def _faults(
        self, id: WorkloadId, seen: SeenWorkload | None, pods: list[SeenPod]
    ) -> Iterator[tuple[str, str]]:
        if seen and not seen.is_selected:
            yield "NotSelected", "label_selector excludes some of its pods"
        if self._cluster.is_left_out(id):
            yield "NotSelected", f"label_selector excludes the {id.kind}, or it was deleted"
        agent = _agent(seen, pods)
        if agent and agent.invalid:
            yield (
                "InvalidAnnotation",
                f"annotation telemetron.dev/{agent.invalid}: expected a whole number above 0",
            )

    # agents

    def _agent_puts(
        self, id: WorkloadId, pods: list[SeenPod], problems: list[Problem]
    ) -> Iterator[Put]:
        """Yield a part for each agent that the workload declares, or else its pods."""
        alive = [pod for pod in pods if not pod.is_over]
        seen = self._cluster.workloads.get(id)
        if seen and seen.agent:
            yield self._agent_put(id, seen.agent, alive, problems)
            return
        declared = {pod.agent.name: pod.agent for pod in reversed(alive) if pod.agent}
        for agent in declared.values():
            own = [pod for pod in alive if pod.agent and pod.agent.name == agent.name]
            yield self._agent_put(id, agent, own, problems)

    def _agent_put(
        self, id: WorkloadId, agent: Declaration, pods: list[SeenPod], problems: list[Problem]
    ) -> Put:
        has_all_pods = self._cluster.has_all_pods(id)
        not_selected = [one for one in problems if one.reason == "NotSelected"]
        part = AgentPart(
            namespace=id.namespace,
            description=agent.description,
            deployment_name=id.name,
            max_parallel_invocations=agent.max_parallel_invocations,
            models=list(agent.models),
            queues=list(agent.queues),
            workload=key.join(self._output.source, *id),
            pods=[pod.pod.pod_id for pod in pods],
            has_all_pods=has_all_pods,
            problems=[] if has_all_pods else [*not_selected, *self._cluster.pod_problems(id)],
        )
        return Put("agents", agent.name, key.join(*id, agent.name), part)


def _limits(seen: SeenWorkload | None, pods: list[SeenPod]) -> Limits:
    """Return the limits of the active pods, else those of the template, else of other pods."""
    active = [pod.pod.limits for pod in pods if pod.is_active]
    if seen:
        return common(active or [seen.limits])
    return common(active or [pod.pod.limits for pod in pods])


def _agent(seen: SeenWorkload | None, pods: list[SeenPod]) -> Declaration | None:
    """Return the declaration of the workload, else that of a pod."""
    if seen and seen.agent:
        return seen.agent
    return next((pod.agent for pod in pods if pod.agent), None)


def cut(pods: list[SeenPod], limit: int) -> list[SeenPod]:
    """Return the pods to list: all, by name; or, of too many, the most informative first.

    Running pods that are not well come first, then other running, failed and succeeded ones. In
    each rank the newest come first, but the reasons take turns: equal failures hide no other.
    """
    if len(pods) <= limit:
        return pods
    turns: Counter[tuple[int, str | None]] = Counter()
    order = []
    for position, pod in enumerate(sorted(pods, key=_created, reverse=True)):
        kind = _rank(pod), pod.pod.reason
        turns[kind] += 1
        if turns[kind] <= limit:
            order.append((kind[0], turns[kind], position, pod))
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
