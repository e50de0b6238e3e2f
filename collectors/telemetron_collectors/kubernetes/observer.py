"""One run of the collector: its watches, what they say, and what is shown of it."""

import asyncio
from typing import Any

from telemetron.backoff import Backoff
from telemetron.collector import Output
from telemetron.document import Problem
from telemetron.poll import TroubleError, poll
from telemetron_collectors.kubernetes.api import credentials
from telemetron_collectors.kubernetes.api.connection import Connection, RefusedError
from telemetron_collectors.kubernetes.api.informer import Watch
from telemetron_collectors.kubernetes.api.objects import KINDS, NODES
from telemetron_collectors.kubernetes.cluster import MAX_OBJECTS, Cluster
from telemetron_collectors.kubernetes.config import KubernetesConfig
from telemetron_collectors.kubernetes.presenter import Show
from telemetron_collectors.kubernetes.usage import TrafficPoll, UsagePoll

# So long all kinds are waited for before what is there is shown.
FIRST_SECONDS = 10.0
# A projected token is rotated long before it ends; it is re-read as often as by other clients.
RENEW_SECONDS = 60.0
POLL_SECONDS = 45.0


async def observe(config: KubernetesConfig, output: Output) -> None:
    """Watch until cancelled."""
    connection = connection_of(config, output)
    try:
        namespace = await connected(connection, output)
        spaces: list[str | None] = [*dict.fromkeys(config.namespaces or [namespace])]
        await Observer(config, output, connection, [None] if "*" in spaces else spaces).run()
    finally:
        await connection.close()


def connection_of(config: KubernetesConfig, output: Output) -> Connection:
    """As it is configured; nothing is loaded yet."""
    return Connection(
        lambda: credentials.load(config.config, config.kubeconfig, config.context),
        output.clock,
        lambda scope, trouble: output.trouble(scope, trouble.reason, trouble.message),
        **({"renew_seconds": RENEW_SECONDS} if config.config == "in-cluster" else {}),
    )


async def connected(connection: Connection, output: Output) -> str:
    """The namespace of the credentials, once they can be loaded."""
    backoff = Backoff()
    while True:
        try:
            return await connection.connect()
        except TroubleError as trouble:
            output.trouble("", trouble.reason, trouble.message)
            await output.clock.sleep(backoff.next())


class Observer:
    """Reads what the watches see (`watch.Reader`), and lets it be shown."""

    def __init__(
        self,
        config: KubernetesConfig,
        output: Output,
        connection: Connection,
        namespaces: list[str | None],
    ) -> None:
        self._output = output
        selector = config.label_selector or None
        self._cluster = Cluster(
            termination_messages=config.termination_messages, label_selector=selector
        )
        self._show = Show(self._cluster, output)
        self._watches = {
            watch.scope: watch
            for namespace in namespaces
            for kind in KINDS.values()
            for watch in [Watch(kind, namespace, connection, self, output.clock, selector)]
        }
        if config.nodes:
            self._watches["nodes"] = Watch(NODES, None, connection, self, output.clock)
        self._polls: list[UsagePoll | TrafficPoll] = [
            UsagePoll(
                "metrics" if namespace is None else f"{namespace}/metrics",
                namespace,
                connection,
                self._show,
                output,
                interval_seconds=config.metrics_interval_seconds,
                selector=selector,
            )
            for namespace in namespaces
        ]
        if config.network:
            self._polls.append(
                TrafficPoll("network", connection, self._cluster, self._show, output)
            )
        self._interval = config.metrics_interval_seconds
        self._undecided = set(self._watches)
        """Scopes of which it is not known yet what there is, nor that it may not be known."""
        self._untold = set(self._watches)
        """Those of them that have no trouble that would say why."""
        self._odd: dict[str, int] = {}
        """Scopes that are in sync, and how many of their objects are not understood."""
        self._is_late = False
        self._ready = asyncio.Event()
        self._is_shown = False

    async def run(self) -> None:
        scopes = [*self._watches, *[one.scope for one in self._polls]]
        self._output.expect(scopes)
        timer = self._output.clock.call_later(FIRST_SECONDS, self._late)
        try:
            async with asyncio.TaskGroup() as tasks:
                for watch in self._watches.values():
                    tasks.create_task(watch.run(), name=f"watch {watch.scope}")
                await self._first(scopes)
                for one in self._polls:
                    tasks.create_task(self._poll(one), name=f"poll {one.scope}")
                await self._show.run()
        finally:
            timer.cancel()

    async def _first(self, scopes: list[str]) -> None:
        """Once all is known, or it is late and something is."""
        await self._ready.wait()
        for scope in self._undecided & self._untold:
            self._lack(scope, "Timeout", f"not listed within {FIRST_SECONDS:g} s", certain=False)
        await self._show.first()
        self._output.expect(scopes)  # a replacement confirms a scope that is none of ours
        self._is_shown = True
        for scope, odd in self._odd.items():
            self.confirm(scope, odd)

    async def _poll(self, one: UsagePoll | TrafficPoll) -> None:
        await poll(
            self._output,
            one.once,
            interval_seconds=self._interval,
            timeout_seconds=POLL_SECONDS,
            scope=one.scope,
        )

    def _late(self) -> None:
        self._is_late = True
        self._judge()

    def _judge(self) -> None:
        if not self._undecided or (self._is_late and self._odd):
            self._ready.set()

    # what the watches say

    def take(self, kind: str, object: Any) -> None:
        self._cluster.take(kind, object)
        self._tell()

    def drop(self, kind: str, namespace: str, name: str) -> None:
        self._cluster.drop(kind, namespace, name)
        if kind == "Pod":
            self._show.forget((namespace, name))
        self._tell()

    def _tell(self) -> None:
        if self._cluster.dirty or self._cluster.waiting:
            self._show.changed.set()

    def names(self, kind: str, namespace: str | None) -> list[tuple[str, str]]:
        return self._cluster.names(kind, namespace)

    def synced(self, scope: str) -> None:
        watch = self._watches[scope]
        self._cluster.synced(watch.kind.name, watch.namespace)
        self._undecided.discard(scope)
        self._odd[scope] = 0
        self._tell()
        self._judge()

    def confirm(self, scope: str, odd: int) -> None:
        self._odd[scope] = odd
        if not self._is_shown:
            return
        if self._watches[scope].kind.name in self._cluster.left_out:
            message = f"there are more than {MAX_OBJECTS}; the others are left out"
            self._lack(scope, "LimitReached", message)
        elif odd:
            message = (
                f"{odd} of its objects cannot be understood and are as last known, or left out"
            )
            self._output.confirm(scope, reason="BadAnswer", message=message)
        else:
            self._output.confirm(scope)

    def refuse(self, scope: str, refusal: RefusedError) -> None:
        """Denied: null is true, so the scope is confirmed; what is missing is trouble."""
        self._undecided.discard(scope)
        self._judge()
        self._lack(scope, refusal.reason, refusal.message, certain=refusal.code == 403)

    def trouble(self, scope: str, trouble: TroubleError) -> None:
        self._untold.discard(scope)
        self._lack(scope, trouble.reason, trouble.message, certain=False)

    def _lack(self, scope: str, reason: str, message: str, *, certain: bool = True) -> None:
        """Report why a scope is not all known, at the source and at what depends on it."""
        watch, now = self._watches[scope], self._output.clock.now()
        self._cluster.lack(watch.kind.name, watch.namespace, Problem(reason, message, now))
        self._tell()
        if certain:
            self._output.confirm(scope, reason=reason, message=message)
        else:
            self._output.trouble(scope, reason, message)

    def count(self, event: str, number: int = 1) -> None:
        self._output.count(event, number)
