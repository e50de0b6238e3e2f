"""The polls of one source: nodes, virtual hosts, queues and counts, each at its interval."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from telemetron.backoff import Backoff
from telemetron.collector import Output, Put
from telemetron.poll import TroubleError
from telemetron_collectors.rabbitmq import metrics
from telemetron_collectors.rabbitmq.client import Client, RefusalError
from telemetron_collectors.rabbitmq.config import RabbitmqConfig
from telemetron_collectors.rabbitmq.limits import RabbitmqLimits
from telemetron_collectors.rabbitmq.metrics import Counts
from telemetron_collectors.rabbitmq.queue import RabbitQueue
from telemetron_collectors.rabbitmq.rows import NodeRow, VhostRow
from telemetron_collectors.rabbitmq.vhost import Vhost

CLUSTER = ""
"""The scope of the cluster as a whole: it answers, and its nodes are well."""
MAX_VHOSTS = 100
NODES = "/nodes?columns=name,running,mem_alarm,disk_free_alarm,partitions"


class Job:
    """A poll that is repeated every `every` seconds."""

    def __init__(self, every: float, once: Callable[[], Awaitable[None]], rest: float = 0) -> None:
        self.every = every
        self.once = once
        self.rest = rest
        """How many times longer than it took it has its rest, at least."""
        self.due = 0.0


class Observer:
    """Polls until cancelled; while the cluster does not answer, it only probes."""

    def __init__(
        self, client: Client, output: Output, config: RabbitmqConfig, limits: RabbitmqLimits
    ) -> None:
        self._client = client
        self._output = output
        self._clock = output.clock
        self._config = config
        self._limits = limits
        self._vhosts: list[Vhost] = []
        self._nodes: list[NodeRow] = []
        self._counted: dict[str, metrics.NodeCounts] = {}
        """The last counts, by URL."""
        self._is_cut = False
        self._logged: set[str] = set()
        self._jobs = self._planned()

    def _planned(self) -> list[Job]:
        config, limits = self._config, self._limits
        nodes = Job(min(limits.nodes_seconds, 10 * config.interval), self._look_at_nodes)
        vhosts = Job(limits.list_seconds, self._look_at_vhosts)
        settings = Job(limits.list_seconds, self._look_at_settings, limits.rest)
        if config.named:
            return [nodes, vhosts, Job(config.interval, self._look_at_named), settings]
        seconds = (
            max(limits.list_seconds, config.interval) if config.metrics_urls else (config.interval)
        )
        lists = Job(seconds, self._look_at_lists, limits.rest)
        if not config.metrics_urls:
            return [nodes, vhosts, lists, settings]
        counts = Job(config.interval, self._look_at_metrics)
        return [nodes, vhosts, lists, settings, counts]

    async def run(self) -> None:
        """Run the due jobs in their order, for ever."""
        backoff = Backoff()
        while True:
            try:
                for job in self._jobs:
                    if job.due <= self._clock.monotonic():
                        await self._attempt(job)
            except TroubleError as trouble:  # the cluster as a whole, or the user
                self._report(CLUSTER, trouble)
                await self._clock.sleep(backoff.next(trouble.retry_after))
                self._jobs[0].due = 0.0
                continue
            backoff.reset()
            due = min(job.due for job in self._jobs)
            await self._clock.sleep(max(0.0, due - self._clock.monotonic()))

    async def _attempt(self, job: Job) -> None:
        begun = self._clock.monotonic()
        await job.once()
        now = self._clock.monotonic()
        job.due = max(begun + job.every, now + job.rest * (now - begun))

    # the cluster

    async def _look_at_nodes(self) -> None:
        """Confirm the cluster, with the alarms of its nodes."""
        try:
            self._nodes = await self._client.get(NODES, list[NodeRow])
        except RefusalError as refusal:
            message = "/api/nodes: alarms are shown to users with the tag `monitoring`"
            self._confirm(CLUSTER, TroubleError(refusal.reason, message))
        else:
            self._confirm(CLUSTER, _ailment(self._nodes))

    async def _look_at_vhosts(self) -> None:
        names = self._config.vhosts
        if names is None:
            rows = await self._client.get("/vhosts?columns=name", list[VhostRow])
            names = sorted(row.name for row in rows)
        self._is_cut = len(names) > MAX_VHOSTS
        known = {vhost.name: vhost for vhost in self._vhosts}
        gone = [vhost for name, vhost in known.items() if name not in names[:MAX_VHOSTS]]
        self._vhosts = [
            known.get(name) or Vhost(name, self._client, self._config)
            for name in names[:MAX_VHOSTS]
        ]
        urls = [_metrics_scope(url) for url in self._counting_urls]
        self._output.expect([CLUSTER, *(vhost.scope for vhost in self._vhosts), *urls])
        for id in (id for vhost in gone for id in vhost.ids):
            self._output.remove("queues", id)

    @property
    def _counting_urls(self) -> tuple[str, ...]:
        return () if self._config.named else self._config.metrics_urls

    # the queues

    async def _look_at_named(self) -> None:
        for vhost in self._vhosts:
            await self._refresh(vhost, vhost.read_named)

    async def _look_at_lists(self) -> None:
        for vhost in self._vhosts:
            await self._refresh(vhost, vhost.read_list)

    async def _look_at_settings(self) -> None:
        for vhost in self._vhosts:
            if vhost.queues:
                await self._refresh(vhost, vhost.read_settings)

    async def _refresh(self, vhost: Vhost, read: Callable[[], Awaitable[None]]) -> None:
        vhost.refusal = None
        try:
            await read()
        except RefusalError as refusal:
            vhost.refusal = refusal
            if refusal.reason == "NotFound":  # the virtual host itself
                vhost.queues = {}
        if self._counting_urls:
            self._count(vhost)
        await self._show(vhost)

    async def _show(self, vhost: Vhost) -> None:
        """Show the queues of a virtual host, and no others."""
        now = self._clock.now()
        shown = {f"{vhost.name}/{name}": queue for name, queue in self._shown(vhost)}
        if not vhost.is_shown:  # an earlier run may have left queues that no longer exist
            puts = [Put("queues", id, id, queue.build(now)) for id, queue in shown.items()]
            await self._output.replace(puts, scope=vhost.scope)
            vhost.ids, vhost.is_shown = {*shown}, True
        for id in vhost.ids.difference(shown):
            self._output.remove("queues", id)
        for id, queue in shown.items():
            self._put(vhost, id, queue)
        vhost.ids = {*shown}
        self._confirm(vhost.scope, self._shortage(vhost, len(shown)))

    def _put(self, vhost: Vhost, id: str, queue: RabbitQueue) -> None:
        before = queue.part
        part = queue.build(self._clock.now())
        if part is not before or id not in vhost.ids:
            self._output.put("queues", id, id, part, scope=vhost.scope)

    def _shown(self, vhost: Vhost) -> list[tuple[str, RabbitQueue]]:
        """Return the deepest queues, as many as there is room for, by name."""
        room = self._limits.max_queues // max(1, len(self._vhosts))
        deepest = sorted(vhost.queues.items(), key=lambda it: (-it[1].depth, it[0]))
        return sorted(deepest[:room])

    def _shortage(self, vhost: Vhost, shown: int) -> TroubleError | None:
        if vhost.refusal:
            return vhost.refusal
        if missing := [name for name in vhost.missing if self._is_missed(name)]:
            names = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            return TroubleError("NotFound", f"these queues do not exist: {names}")
        if shown < len(vhost.queues):
            message = f"{shown} of {len(vhost.queues)} queues are shown, the deepest"
            return TroubleError("LimitReached", message)
        if self._is_cut:
            return TroubleError("LimitReached", f"the first {MAX_VHOSTS} vhosts are shown")
        return None

    def _is_missed(self, name: str) -> bool:
        """Return whether a queue should be in each virtual host, or is in none."""
        return self._config.vhosts is not None or not any(
            name in vhost.queues for vhost in self._vhosts
        )

    # the counts of many queues

    async def _look_at_metrics(self) -> None:
        """Count the queues of each node, side by side: a node that hangs delays no other."""
        await asyncio.gather(*map(self._read_metrics, self._counting_urls))
        for vhost in self._vhosts:
            self._count(vhost)
            await self._show(vhost)

    async def _read_metrics(self, url: str) -> None:
        scope = _metrics_scope(url)
        try:
            body = await self._client.metrics(url)
        except TroubleError as trouble:
            self._report(scope, trouble)
            return
        self._counted[url] = await asyncio.to_thread(metrics.parse, body)
        self._confirm(scope, None)

    def _count(self, vhost: Vhost) -> None:
        """Give each queue its counts; those of the node that leads it count."""
        if not self._counted:
            return
        heard = {counts.node for counts in self._counted.values()}
        for name, queue in vhost.queues.items():
            counts = self._counts_of((vhost.name, name), queue.row.node)
            queue.count(counts)
            queue.uncounted = None
            if counts is None:
                node = queue.row.node
                is_unheard = node is not None and node not in heard
                queue.uncounted = (
                    f"its node {node} is not among `metrics_urls`" if is_unheard else "not counted"
                )

    def _counts_of(self, id: tuple[str, str], node: str | None) -> Counts | None:
        found = {one.node: one.queues[id] for one in self._counted.values() if id in one.queues}
        return found.get(node) or next(iter(found.values()), None)

    # problems

    def _confirm(self, scope: str, known: TroubleError | None) -> None:
        """Confirm the scope, with a known problem if there is one."""
        if known is None:
            self._logged.discard(scope)
            self._output.confirm(scope)
        else:
            self._log(scope, known)
            self._output.confirm(scope, reason=known.reason, message=known.message)

    def _report(self, scope: str, trouble: TroubleError) -> None:
        self._log(scope, trouble)
        self._output.trouble(scope, trouble.reason, trouble.message)

    def _log(self, scope: str, trouble: TroubleError) -> None:
        """Log only the first problem of a scope until it is well again."""
        if scope not in self._logged:
            source = self._output.source
            logger.warning("source {}: {}: {}", source, trouble.reason, trouble.message)
        self._logged.add(scope)


def _metrics_scope(url: str) -> str:
    return f"metrics {url.partition('://')[2]}"


def _ailment(nodes: list[NodeRow]) -> TroubleError | None:
    """Return what is wrong with the nodes: an alarm blocks every publisher of the cluster."""
    for kind, attribute in (("memory", "mem_alarm"), ("disk", "disk_free_alarm")):
        names = [node.name for node in nodes if getattr(node, attribute)]
        if names:
            message = f"{kind} alarm of {', '.join(names[:5])}: publishers are blocked"
            return TroubleError("Alarm", message)
    if split := [node.name for node in nodes if node.partitions]:
        return TroubleError("NodeDown", f"network partition: {', '.join(split[:5])}")
    if down := [node.name for node in nodes if not node.running]:
        return TroubleError("NodeDown", f"not running: {', '.join(down[:5])}")
    return None
