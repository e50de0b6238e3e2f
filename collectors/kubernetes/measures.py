"""What pods use: CPU and memory by metrics.k8s.io, network by the kubelets' summaries.

Both are polled. Where there are none the figures are null, a problem says so, and the source is ok.
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import msgspec

from collectors.kubernetes import quantity
from collectors.kubernetes.cluster import At, Cluster
from collectors.kubernetes.connection import Connection, RefusedError
from collectors.kubernetes.objects import Lean, Metadata
from collectors.kubernetes.pace import paced
from collectors.kubernetes.show import Show, Traffic, Usage
from telemetron.collector import Output
from telemetron.poll import TroubleError

MIB = 1024 * 1024
# metrics-server takes a sample every 15 to 60 s.
SAMPLE_SECONDS = 60.0
NODES_AT_ONCE = 4


class ContainerUsage(Lean, frozen=True):
    cpu: str | int | float = 0
    memory: str | int | float = 0


class ContainerMetrics(Lean, frozen=True):
    usage: ContainerUsage = ContainerUsage()


class PodMetrics(Lean, frozen=True):
    """`PodMetrics` of metrics.k8s.io/v1beta1."""

    metadata: Metadata
    timestamp: datetime
    containers: list[ContainerMetrics] | None = None


class PodMetricsList(Lean, frozen=True):
    items: list[msgspec.Raw] | None = None


class PodReference(Lean, frozen=True):
    name: str
    namespace: str


class Network(Lean, frozen=True):
    rx_bytes: int | None = None
    tx_bytes: int | None = None


class PodStats(Lean, frozen=True):
    """`PodStats` of the kubelet's stats/v1alpha1."""

    pod_ref: PodReference
    network: Network | None = None


class Summary(Lean, frozen=True):
    pods: list[PodStats] | None = None


_decode_pod = msgspec.json.Decoder(PodMetrics).decode
_decode_list = msgspec.json.Decoder(PodMetricsList).decode
_decode_summary = msgspec.json.Decoder(Summary).decode


def usage_of(pod: PodMetrics) -> Usage:
    """Its containers together, rounded so that an idle pod moves nothing; ValueError."""
    containers = pod.containers or []
    cpu = sum([quantity.parse(one.usage.cpu) for one in containers], Decimal(0))
    memory = sum([quantity.parse(one.usage.memory) for one in containers], Decimal(0))
    return Usage(round(float(cpu), 2), float(round(memory / MIB)), pod.timestamp)


class UsagePoll:
    """The CPU and memory of the pods of one namespace, or of all."""

    def __init__(
        self,
        scope: str,
        namespace: str | None,
        connection: Connection,
        show: Show,
        output: Output,
        *,
        interval_seconds: float,
        selector: str | None = None,
    ) -> None:
        self.scope = scope
        within = "" if namespace is None else f"/namespaces/{namespace}"
        self._path = f"/apis/metrics.k8s.io/v1beta1{within}/pods"
        self._resource = "pods.metrics.k8s.io" + (f" in {namespace}" if namespace else "")
        self._query = {"labelSelector": selector} if selector else {}
        self._connection = connection
        self._show = show
        self._output = output
        self._interval = interval_seconds
        self._answered_at = 0.0
        self._moved: dict[At, tuple[datetime, float]] = {}
        """Each pod's last sample, and when it was new to us: whatever their clocks say."""

    async def once(self) -> None:
        """Ask, and say what is known now."""
        try:
            body = await self._connection.aside(
                self._path, self._query, verb="list", resource=self._resource
            )
            usage = await self._parsed(body)
        except TroubleError as trouble:
            await self._fail(trouble)
            return
        self._answered_at = self._output.clock.monotonic()
        await self._put(usage)
        self._output.confirm(self.scope)

    async def _parsed(self, body: bytes) -> dict[At, Usage]:
        usage: dict[At, Usage] = {}
        try:
            async for item in paced(_decode_list(body).items or ()):
                pod = _decode_pod(item)
                usage[pod.metadata.namespace, pod.metadata.name] = usage_of(pod)
        except ValueError:  # msgspec's are of that kind
            raise TroubleError("BadAnswer", "it cannot be understood") from None
        return usage

    async def _fail(self, trouble: TroubleError) -> None:
        """Figures that are older than two polls are none."""
        if self._output.clock.monotonic() - self._answered_at > 2 * self._interval:
            await self._put({})
        if isinstance(trouble, RefusedError) and trouble.code == 403:
            self._output.confirm(self.scope, reason="Forbidden", message=trouble.message)
        else:
            unavailable(self._output, self.scope, f"metrics.k8s.io: {trouble.message}")

    async def _put(self, usage: dict[At, Usage]) -> None:
        now = self._output.clock.monotonic()
        known = self._show.usage
        moved = [at for at in known if at not in usage and self._is_mine(at)]
        for at in moved:
            del known[at]
        self._moved = {at: sample for at, sample in self._moved.items() if at in usage}
        async for at, one in paced(usage.items()):
            new = one if self._is_fresh(at, one, now) else None
            if known.get(at) == new:
                continue
            moved.append(at)
            if new:
                known[at] = new
            else:
                del known[at]
        self._show.moved(moved)

    def _is_mine(self, at: At) -> bool:
        namespace = self.scope.rpartition("/")[0]
        return namespace in ("", at[0])

    def _is_fresh(self, at: At, usage: Usage, now: float) -> bool:
        """Whether the sample has moved of late."""
        old = self._moved.get(at)
        if old is None or old[0] != usage.measured_at:
            self._moved[at] = usage.measured_at, now
            return True
        return now - old[1] <= 2 * self._interval + SAMPLE_SECONDS


class TrafficPoll:
    """What pods received and sent, by the kubelet of each node that runs one."""

    def __init__(
        self, scope: str, connection: Connection, cluster: Cluster, show: Show, output: Output
    ) -> None:
        self.scope = scope
        self._connection = connection
        self._cluster = cluster
        self._show = show
        self._output = output

    async def once(self) -> None:
        """Ask every node, and say what is known now."""
        nodes = sorted({pod.pod.node for pod in self._cluster.pods.values() if pod.pod.node})
        limit = asyncio.Semaphore(NODES_AT_ONCE)
        answers = await asyncio.gather(*[self._node(node, limit) for node in nodes])
        traffic: dict[At, Traffic] = {}
        troubles = [answer for answer in answers if isinstance(answer, TroubleError)]
        for answer in answers:
            if not isinstance(answer, TroubleError):
                traffic |= answer
        self._put(traffic)
        self._say(len(nodes), troubles)

    async def _node(self, node: str, limit: asyncio.Semaphore) -> dict[At, Traffic] | TroubleError:
        path = f"/api/v1/nodes/{node}/proxy/stats/summary"
        async with limit:
            try:
                body = await self._connection.aside(path, {}, verb="get", resource="nodes/proxy")
                return dict(traffic_of(_decode_summary(body).pods or (), self._cluster))
            except msgspec.DecodeError:
                return TroubleError("BadAnswer", "a summary cannot be understood")
            except TroubleError as trouble:
                return trouble

    def _put(self, traffic: dict[At, Traffic]) -> None:
        known, self._show.traffic = self._show.traffic, traffic
        self._show.moved(
            [at for at in known.keys() | traffic.keys() if known.get(at) != traffic.get(at)]
        )

    def _say(self, nodes: int, troubles: list[TroubleError]) -> None:
        if not troubles:
            self._output.confirm(self.scope)
            return
        first = troubles[0]
        message = f"{len(troubles)} of {nodes} nodes do not tell: {first.message}"
        if isinstance(first, RefusedError) and first.code == 403:
            self._output.confirm(self.scope, reason="Forbidden", message=message)
        else:
            unavailable(self._output, self.scope, message)


def traffic_of(pods: Iterable[PodStats], cluster: Cluster) -> Iterable[tuple[At, Traffic]]:
    """Of the pods that are shown."""
    for pod in pods:
        at = pod.pod_ref.namespace, pod.pod_ref.name
        if pod.network and at in cluster.pods:
            yield at, Traffic(pod.network.rx_bytes, pod.network.tx_bytes)


def unavailable(output: Output, scope: str, message: str) -> None:
    """There are no figures, which is known for certain: null is true."""
    output.confirm(scope, reason="MetricsUnavailable", message=message)
