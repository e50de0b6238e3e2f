"""Usage figures of pods: CPU and memory from metrics.k8s.io, traffic from the kubelets' summaries.

Both are polled. Without figures the fields are null, a problem says why, and the source stays ok.
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
from telemetron.slices import paced
from telemetron_collectors.kubernetes.api import quantity
from telemetron_collectors.kubernetes.api.connection import ApiConnection, RefusedError
from telemetron_collectors.kubernetes.api.objects import Lean, ObjectKey, ObjectMeta
from telemetron_collectors.kubernetes.bounds import DEFAULTS, Bounds
from telemetron_collectors.kubernetes.cluster import Cluster
from telemetron_collectors.kubernetes.pods import PodTraffic, PodUsage

MIB = 1024 * 1024
# The API machinery limits every quantity to this.
MAX_AMOUNT = 2**63
# The API machinery's grammar, with limits: parsing `1e999999999` would fill the memory.
_QUANTITY = re.compile(
    r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?"
)


class ContainerUsage(Lean, frozen=True):
    cpu: Any = None
    memory: Any = None


class ContainerMetrics(Lean, frozen=True):
    usage: ContainerUsage = ContainerUsage()


class PodMetrics(Lean, frozen=True):
    """`PodMetrics` of metrics.k8s.io/v1beta1."""

    metadata: ObjectMeta
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


def usage_of(pod: PodMetrics) -> PodUsage:
    """Return the sum of a pod's containers, rounded so that an idle pod causes no changes.

    A figure is None if it is missing or invalid in any container.
    """
    usages = [one.usage for one in pod.containers or ()]
    cpu = _total([one.cpu for one in usages])
    memory = _total([one.memory for one in usages])
    return PodUsage(
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
    """Polls CPU and memory of the pods in one namespace, or in all."""

    def __init__(
        self,
        namespace: str | None,
        connection: ApiConnection,
        cluster: Cluster,
        output: Output,
        *,
        interval_seconds: float,
        selector: str | None = None,
        bounds: Bounds = DEFAULTS,
    ) -> None:
        self.scope = "metrics" if namespace is None else f"{namespace}/metrics"
        self._namespace = namespace
        within = "" if namespace is None else f"/namespaces/{namespace}"
        self._path = f"/apis/metrics.k8s.io/v1beta1{within}/pods"
        self._action = "list pods.metrics.k8s.io" + (f" in {namespace}" if namespace else "")
        self._query = {"labelSelector": selector} if selector else {}
        self._connection = connection
        self._cluster = cluster
        self._output = output
        self._interval = interval_seconds
        self._sample_seconds = bounds.sample_seconds
        self._answered_at = 0.0
        self._samples: dict[ObjectKey, tuple[datetime, float]] = {}
        """Each pod's last sample time and, by our own clock, when we first saw it."""

    async def once(self) -> None:
        """Poll once and update the cluster."""
        try:
            body = await self._connection.get_proxied(self._path, self._query, action=self._action)
            usage, malformed = await self._parsed(body)
        except TroubleError as trouble:
            await self._fail(trouble)
            return
        self._answered_at = self._output.clock.monotonic()
        await self._update(usage)
        confirm(self._output, self.scope, malformed)

    async def _parsed(self, body: bytes) -> tuple[dict[ObjectKey, PodUsage], int]:
        """Return the usage by pod, and the number of malformed or incomplete pods."""
        usage: dict[ObjectKey, PodUsage] = {}
        malformed = 0
        try:
            items = _decode_list(body).items or ()
        except msgspec.DecodeError:
            raise TroubleError("BadAnswer", "the response cannot be decoded") from None
        async for item in paced(items):
            try:
                pod = _decode_pod(item)
            except msgspec.DecodeError:
                malformed += 1
                continue
            one = usage_of(pod)
            malformed += None in (one.cpu, one.memory)
            if (one.cpu, one.memory) != (None, None):
                usage[pod.metadata.namespace, pod.metadata.name] = one
        return usage, malformed

    async def _fail(self, trouble: TroubleError) -> None:
        """Report a failed poll, and drop figures that are older than two polls."""
        if self._output.clock.monotonic() - self._answered_at > 2 * self._interval:
            await self._update({})
        if isinstance(trouble, RefusedError) and trouble.code == 403:
            self._output.confirm(self.scope, reason="Forbidden", message=trouble.message)
        else:
            unavailable(self._output, self.scope, f"metrics.k8s.io: {trouble.message}")

    async def _update(self, usage: dict[ObjectKey, PodUsage]) -> None:
        now = self._output.clock.monotonic()
        known = self._cluster.usage
        changed: dict[ObjectKey, PodUsage | None] = {
            key: None for key in known if key not in usage and self._namespace in (None, key[0])
        }
        self._samples = {key: one for key, one in self._samples.items() if key in usage}
        async for key, one in paced(usage.items()):
            new = one if self._is_fresh(key, one, now) else None
            if known.get(key) != new:
                changed[key] = new
        self._cluster.set_usage(changed)

    def _is_fresh(self, key: ObjectKey, usage: PodUsage, now: float) -> bool:
        """Return whether the sample has changed recently."""
        old = self._samples.get(key)
        if old is None or old[0] != usage.measured_at:
            self._samples[key] = usage.measured_at, now
            return True
        return now - old[1] <= 2 * self._interval + self._sample_seconds


class TrafficPoll:
    """Polls the traffic of pods from the kubelet of each node that runs one."""

    scope = "network"

    def __init__(
        self,
        connection: ApiConnection,
        cluster: Cluster,
        output: Output,
        bounds: Bounds = DEFAULTS,
    ) -> None:
        self._connection = connection
        self._cluster = cluster
        self._output = output
        self._parallel_nodes = bounds.parallel_nodes

    async def once(self) -> None:
        """Poll every node once and update the cluster."""
        nodes = sorted({pod.pod.node for pod in self._cluster.pods.values() if pod.pod.node})
        limit = asyncio.Semaphore(self._parallel_nodes)
        answers = await asyncio.gather(*[self._node(node, limit) for node in nodes])
        traffic: dict[ObjectKey, PodTraffic] = {}
        troubles = [answer for answer in answers if isinstance(answer, TroubleError)]
        malformed = 0
        for answer in answers:
            if not isinstance(answer, TroubleError):
                traffic |= answer[0]
                malformed += answer[1]
        self._cluster.replace_traffic(traffic)
        self._report(len(nodes), troubles, malformed)

    async def _node(
        self, node: str, limit: asyncio.Semaphore
    ) -> tuple[dict[ObjectKey, PodTraffic], int] | TroubleError:
        path = f"/api/v1/nodes/{node}/proxy/stats/summary"
        get = self._connection.get_proxied
        async with limit:
            try:
                body = await get(path, {}, action="get nodes/proxy")
                return traffic_of(_decode_summary(body).pods or (), self._cluster)
            except msgspec.DecodeError:
                return TroubleError("BadAnswer", "a summary cannot be decoded")
            except TroubleError as trouble:
                return trouble

    def _report(self, nodes: int, troubles: list[TroubleError], malformed: int) -> None:
        if not troubles:
            confirm(self._output, self.scope, malformed)
            return
        first = troubles[0]
        message = f"{len(troubles)} of {nodes} nodes return no figures: {first.message}"
        if isinstance(first, RefusedError) and first.code == 403:
            self._output.confirm(self.scope, reason="Forbidden", message=message)
        else:
            unavailable(self._output, self.scope, message)


def traffic_of(
    pods: Iterable[msgspec.Raw], cluster: Cluster
) -> tuple[dict[ObjectKey, PodTraffic], int]:
    """Return the traffic of the cluster's pods, and the number of malformed pods."""
    traffic: dict[ObjectKey, PodTraffic] = {}
    malformed = 0
    for raw in pods:
        try:
            pod = _decode_stats(raw)
        except msgspec.DecodeError:
            malformed += 1
            continue
        key = pod.pod_ref.namespace, pod.pod_ref.name
        if pod.network and key in cluster.pods:
            traffic[key] = PodTraffic(pod.network.rx_bytes, pod.network.tx_bytes)
    return traffic, malformed


def confirm(output: Output, scope: str, malformed: int) -> None:
    """Confirm a scope whose malformed figures are null, which is then their correct value."""
    if malformed:
        message = f"pods with malformed or incomplete figures, shown as null: {malformed}"
        output.confirm(scope, reason="BadAnswer", message=message)
    else:
        output.confirm(scope)


def unavailable(output: Output, scope: str, message: str) -> None:
    """Confirm a scope without figures: null is then the correct value."""
    output.confirm(scope, reason="MetricsUnavailable", message=message)
