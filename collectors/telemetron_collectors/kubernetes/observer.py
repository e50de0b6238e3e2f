"""One run of the collector: informers keep the state, a presenter publishes it, polls add usage."""

import asyncio
from pathlib import Path

from telemetron.backoff import Backoff
from telemetron.collector import Output
from telemetron.poll import TroubleError, poll
from telemetron_collectors.kubernetes.api import credentials
from telemetron_collectors.kubernetes.api.connection import ApiConnection
from telemetron_collectors.kubernetes.api.credentials import SERVICE_ACCOUNT
from telemetron_collectors.kubernetes.api.informer import Informer
from telemetron_collectors.kubernetes.api.objects import KINDS, NODES, WatchedKind
from telemetron_collectors.kubernetes.bounds import DEFAULTS, Bounds
from telemetron_collectors.kubernetes.cluster import Cluster
from telemetron_collectors.kubernetes.config import KubernetesConfig
from telemetron_collectors.kubernetes.presenter import Presenter
from telemetron_collectors.kubernetes.scopes import WatchedScopes
from telemetron_collectors.kubernetes.usage import TrafficPoll, UsagePoll

# The kubelet replaces a projected token long before it expires; client-go reads it as often.
RENEW_SECONDS = 60.0


async def observe(
    config: KubernetesConfig,
    output: Output,
    bounds: Bounds = DEFAULTS,
    account: Path = SERVICE_ACCOUNT,
) -> None:
    """Observe until cancelled."""
    connection = ApiConnection(
        lambda: credentials.load(config.config, config.kubeconfig, config.context, account=account),
        output.clock,
        lambda scope, trouble: output.trouble(scope, trouble.reason, trouble.message),
        bounds=bounds,
        **({"renew_seconds": RENEW_SECONDS} if config.config == "in-cluster" else {}),
    )
    try:
        namespace = await _connect(connection, output, bounds)
        namespaces: list[str | None] = [*dict.fromkeys(config.namespaces or [namespace])]
        if "*" in namespaces:
            namespaces = [None]
        await Observer(config, output, connection, namespaces, bounds).run()
    finally:
        await connection.close()


async def _connect(connection: ApiConnection, output: Output, bounds: Bounds) -> str:
    """Return the namespace of the credentials as soon as they can be loaded."""
    backoff = Backoff(bounds.first_retry_seconds, bounds.max_retry_seconds)
    while True:
        try:
            return await connection.connect()
        except TroubleError as trouble:
            output.trouble("", trouble.reason, trouble.message)
            await output.clock.sleep(backoff.next())


class Observer:
    """The informers, polls and presenter of one source. None is a namespace that means all."""

    def __init__(
        self,
        config: KubernetesConfig,
        output: Output,
        connection: ApiConnection,
        namespaces: list[str | None],
        bounds: Bounds,
    ) -> None:
        self._config = config
        self._output = output
        self._connection = connection
        self._namespaces = namespaces
        self._bounds = bounds
        self._selector = config.label_selector or None
        self._cluster = Cluster(
            termination_messages=config.termination_messages,
            label_selector=self._selector,
            max_objects=bounds.objects,
        )
        self._scopes = WatchedScopes(self._cluster, output, bounds)
        self._presenter = Presenter(self._cluster, output, bounds.owner_seconds)

    async def run(self) -> None:
        """Run everything; the polls begin after the first publication."""
        informers, polls = self._informers(), self._polls()
        self._scopes.add(informers)
        scopes = [one.scope for one in (*informers, *polls)]
        self._output.expect(scopes)
        async with asyncio.TaskGroup() as tasks:
            for informer in informers:
                tasks.create_task(informer.run(), name=f"watch {informer.scope}")
            await self._scopes.ready()
            await self._presenter.publish_all()
            self._output.expect(scopes)  # `replace` confirmed the scope "", which is not ours
            self._scopes.confirm_all()
            tasks.create_task(self._presenter.run(), name="presenter")
            for one in polls:
                tasks.create_task(self._poll(one), name=f"poll {one.scope}")

    def _informers(self) -> list[Informer]:
        informers = [
            self._informer(kind, namespace)
            for namespace in self._namespaces
            for kind in KINDS.values()
        ]
        if self._config.nodes:
            informers.append(self._informer(NODES, None))
        return informers

    def _informer(self, kind: WatchedKind, namespace: str | None) -> Informer:
        return Informer(
            kind,
            namespace,
            self._connection,
            self._cluster,
            self._scopes,
            self._output,
            self._selector,
            self._bounds,
        )

    def _polls(self) -> list[UsagePoll | TrafficPoll]:
        polls: list[UsagePoll | TrafficPoll] = [
            UsagePoll(
                namespace,
                self._connection,
                self._cluster,
                self._output,
                interval_seconds=self._config.metrics_interval_seconds,
                selector=self._selector,
                bounds=self._bounds,
            )
            for namespace in self._namespaces
        ]
        if self._config.network:
            polls.append(TrafficPoll(self._connection, self._cluster, self._output, self._bounds))
        return polls

    async def _poll(self, one: UsagePoll | TrafficPoll) -> None:
        await poll(
            self._output,
            one.once,
            interval_seconds=self._config.metrics_interval_seconds,
            timeout_seconds=self._bounds.poll_seconds,
            scope=one.scope,
        )
