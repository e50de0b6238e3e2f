"""What pods use: CPU and memory by metrics.k8s.io, network by the kubelets' summaries.

Both are polled. Where there are none the figures are null, a problem says so, and the source is ok.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from telemetron.collector import Output
from telemetron.poll import TroubleError
from telemetron_collectors.kubernetes.api import quantity
from telemetron_collectors.kubernetes.api.connection import Connection, RefusedError
from telemetron_collectors.kubernetes.api.objects import Lean, Metadata
from telemetron_collectors.kubernetes.cluster import At, Cluster
from telemetron_collectors.kubernetes.pace import paced
from telemetron_collectors.kubernetes.presenter import Show, Traffic, Usage

MIB = 1024 * 1024
# The API machinery's own bound of a quantity.
MAX_AMOUNT = 2**63
# Its grammar, with bounds: of `1e999999999` no number is made.
_QUANTITY = re.compile(
    r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?"
)
# metrics-server takes a sample every 15 to 60 s.
SAMPLE_SECONDS = 60.0
NODES_AT_ONCE = 4


class ContainerUsage(Lean, frozen=True):
    cpu: Any = None
    memory: Any = None


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


Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Network(Lean, frozen=True):
    rx_bytes: Bytes | None = None
    tx_bytes: Bytes | None = None


class PodStats(Lean, frozen=True):
    """`PodStats` of the kubelet's stats/v1alpha1."""

    pod_ref: PodReference
    network: Network | None = None


class Summary(Lean, frozen=True):
    pods: list[msgspec.Raw] | None = None


_decode_pod = msgspec.json.Decoder(PodMetrics).decode
_decode_list = msgspec.json.Decoder(PodMetricsList).decode
_decode_summary = msgspec.json.Decoder(Summary).decode
_decode_stats = msgspec.json.Decoder(PodStats).decode


def usage_of(pod: PodMetrics) -> Usage:
    """Its containers together, rounded so that an idle pod moves nothing.

    A figure that any container lacks, or of which it gives no amount, is null.
    """
    usages = [one.usage for one in pod.containers or ()]
    cpu = _total([one.cpu for one in usages])
    memory = _total([one.memory for one in usages])
    return Usage(
        None if cpu is None else round(float(cpu), 2),
        None if memory is None else float(round(memory / MIB)),
        pod.timestamp,
    )


def _total(figures: Sequence[Any]) -> Decimal | None:
    amounts = [_amount(one) for one in figures]
    known = [one for one in amounts if one is not None]
    return sum(known, Decimal(0)) if known and len(known) == len(amounts) else None


def _amount(figure: Any) -> Decimal | None:
    try:
        if not _QUANTITY.fullmatch(str(figure)):
            return None
        amount = quantity.parse(figure)
    except ValueError:
        return None
    return amount if 0 <= amount < MAX_AMOUNT else None


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
            usage, odd = await self._parsed(body)
        except TroubleError as trouble:
            await self._fail(trouble)
            return
        self._answered_at = self._output.clock.monotonic()
        await self._put(usage)
        confirm(self._output, self.scope, odd)

    async def _parsed(self, body: bytes) -> tuple[dict[At, Usage], int]:
        """The usage of each pod, and how many figures or pods cannot be understood."""
        usage: dict[At, Usage] = {}
        odd = 0
        try:
            items = _decode_list(body).items or ()
        except msgspec.DecodeError:
            raise TroubleError("BadAnswer", "it cannot be understood") from None
        async for item in paced(items):
            try:
                pod = _decode_pod(item)
            except msgspec.DecodeError:
                odd += 1
                continue
            one = usage_of(pod)
            odd += None in (one.cpu, one.memory)
            if (one.cpu, one.memory) != (None, None):
                usage[pod.metadata.namespace, pod.metadata.name] = one
        return usage, odd

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
        odd = 0
        for answer in answers:
            if not isinstance(answer, TroubleError):
                traffic |= answer[0]
                odd += answer[1]
        self._put(traffic)
        self._say(len(nodes), troubles, odd)

    async def _node(
        self, node: str, limit: asyncio.Semaphore
    ) -> tuple[dict[At, Traffic], int] | TroubleError:
        path = f"/api/v1/nodes/{node}/proxy/stats/summary"
        async with limit:
            try:
                body = await self._connection.aside(path, {}, verb="get", resource="nodes/proxy")
                return traffic_of(_decode_summary(body).pods or (), self._cluster)
            except msgspec.DecodeError:
                return TroubleError("BadAnswer", "a summary cannot be understood")
            except TroubleError as trouble:
                return trouble

    def _put(self, traffic: dict[At, Traffic]) -> None:
        known, self._show.traffic = self._show.traffic, traffic
        self._show.moved(
            [at for at in known.keys() | traffic.keys() if known.get(at) != traffic.get(at)]
        )

    def _say(self, nodes: int, troubles: list[TroubleError], odd: int) -> None:
        if not troubles:
            confirm(self._output, self.scope, odd)
            return
        first = troubles[0]
        message = f"{len(troubles)} of {nodes} nodes do not tell: {first.message}"
        if isinstance(first, RefusedError) and first.code == 403:
            self._output.confirm(self.scope, reason="Forbidden", message=message)
        else:
            unavailable(self._output, self.scope, message)


def traffic_of(pods: Iterable[msgspec.Raw], cluster: Cluster) -> tuple[dict[At, Traffic], int]:
    """The traffic of the pods that are shown, and how many pods cannot be understood."""
    traffic: dict[At, Traffic] = {}
    odd = 0
    for raw in pods:
        try:
            pod = _decode_stats(raw)
        except msgspec.DecodeError:
            odd += 1
            continue
        at = pod.pod_ref.namespace, pod.pod_ref.name
        if pod.network and at in cluster.pods:
            traffic[at] = Traffic(pod.network.rx_bytes, pod.network.tx_bytes)
    return traffic, odd


def confirm(output: Output, scope: str, odd: int) -> None:
    """Confirm the figures; those that cannot be understood are null, which is known for certain."""
    if odd:
        message = f"the figures of {odd} pods are incomplete or cannot be understood; they are null"
        output.confirm(scope, reason="BadAnswer", message=message)
    else:
        output.confirm(scope)


def unavailable(output: Output, scope: str, message: str) -> None:
    """There are no figures, which is known for certain: null is true."""
    output.confirm(scope, reason="MetricsUnavailable", message=message)
