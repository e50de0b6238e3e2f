"""The service: the settings, the store, the history and the sources of one Telemetron."""

import asyncio
import gc
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import timedelta
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import msgspec
from loguru import logger
from msgspec.structs import replace

from telemetron import key
from telemetron.agents import CONFIGURATION_RANK, AgentPart
from telemetron.clock import Clock
from telemetron.config.settings import DECLARED, DeclaredAgent, Settings
from telemetron.document import Finding
from telemetron.history.history import BusyError, History
from telemetron.history.limits import DEFAULTS, HistoryLimits
from telemetron.history.place import milliseconds
from telemetron.history.queries import end_of_run_before
from telemetron.service.supervisor import Supervisor, SupervisorLimits
from telemetron.store.store import Store

if TYPE_CHECKING:
    from telemetron.notifications.pace import Pace

FINDINGS = "findings"
FULL_COLLECTION_EVERY = 100
"""Younger collections; Python's default is 10. A full one goes through the whole state, which holds
no cycles, and stops the event loop for that long: 10 to 20 ms at 10,000 pods."""
RECALL = timedelta(minutes=10)
"""After a longer time without Telemetron it does not go on with the findings of before."""


class Service:
    """One Telemetron without its HTTP interface."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        history_limits: HistoryLimits = DEFAULTS,
        limits: SupervisorLimits | None = None,
        pace: "Pace | None" = None,
    ) -> None:
        self.settings = settings
        self.store = Store(settings.id, clock)
        self.supervisor = Supervisor(self.store, limits)
        self.history = _history(settings, self.store, history_limits, self._feeds)
        self._pace = pace
        self._freezing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the history and all sources; return before slow collectors are imported."""
        self.history.start()
        for name in self.settings.off:
            self.store.add(name, name)
        self._declare_agents()
        self.supervisor.start(self.settings.sources.values())
        diagnosed = self._start_diagnosis()
        self._start_notifications()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.supervisor.limits.start_seconds):
                await self.supervisor.loaded(None)
                await diagnosed.wait()
        self.store.flush()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_EVERY)
        self._freezing = asyncio.create_task(self._freeze_imports())

    async def stop(self) -> None:
        """Stop the sources and write the rest of the history; give up on sources that hang."""
        if self._freezing:
            self._freezing.cancel()
        await self.supervisor.stop()
        await self.history.stop()

    async def _freeze_imports(self) -> None:
        """Exempt slow imports from collections: some clients have 100 MB, which take 40 ms."""
        await self.supervisor.loaded(None)
        gc.freeze()

    def _start_diagnosis(self) -> asyncio.Event:
        """Start the source `findings` unless it is off; its first round sets the event."""
        diagnosed = asyncio.Event()
        if self.settings.findings == "off":
            self.store.add(FINDINGS, FINDINGS)
            diagnosed.set()
        else:
            from telemetron.diagnosis.collector import collector

            own = collector(self.store, diagnosed, self._recall)
            self.supervisor.start_own(own, self.settings.findings)
        return diagnosed

    def _start_notifications(self) -> None:
        """Start the source `notifications` if there is a receiver."""
        settings = self.settings
        if settings.alertmanager is None and not settings.webhooks:
            return
        from telemetron.notifications.collector import collector
        from telemetron.notifications.pace import DEFAULTS
        from telemetron.notifications.settings import NotificationSettings

        self.supervisor.start_own(
            collector(self.store, self.history, self._pace or DEFAULTS),
            NotificationSettings(
                system=settings.id,
                url=settings.server.link_base,
                alertmanager=settings.alertmanager,
                webhooks=tuple(settings.webhooks),
            ),
        )

    async def _recall(self) -> list[Finding]:
        """Return the findings that were open when the process before this one ended.

        There are none without a file of the history, or if that was too long ago.
        """
        clock = self.store.clock
        oldest = clock.now() - RECALL
        if self.settings.history.path is None or self.store.snapshot.started_at < oldest:
            return []
        try:
            ended = await self.history.ask(partial(end_of_run_before, section=FINDINGS), 5.0)
        except BusyError:
            logger.warning("the history does not answer; findings begin again")
            return []
        if ended is None or ended.alive_at < milliseconds(oldest):
            return []
        found = []
        for body in ended.bodies:
            with suppress(msgspec.MsgspecError):  # of another version
                found.append(msgspec.json.decode(body, type=Finding))
        return found

    def _feeds(self, collector: str) -> Collection[str]:
        """Return the sections that a collector writes; none if it is not imported."""
        found = self.supervisor.collectors.get(collector)
        return found.sections if found else ()

    def _declare_agents(self) -> None:
        """Put the agents of the configuration under a source of their own, which is always ok."""
        if not self.settings.agents:
            return
        source = self.store.add(DECLARED, DECLARED)
        source.start(inf, agent_rank=CONFIGURATION_RANK)
        source.confirm()
        for agent in self.settings.agents:
            id = key.join(agent.namespace, agent.name)
            self.store.put(source, "agents", agent.name, id, _part(agent))


def _part(agent: DeclaredAgent) -> AgentPart:
    return AgentPart(
        namespace=agent.namespace,
        description=agent.description,
        deployment_name=agent.deployment_name,
        max_parallel_invocations=agent.max_parallel_invocations,
        models=agent.models,
        queues=agent.queues,
    )


def _history(
    settings: Settings,
    store: Store,
    limits: HistoryLimits,
    feeds: Callable[[str], Collection[str]],
) -> History:
    configured = settings.history
    mebibyte = 1024 * 1024
    limits = replace(
        limits,
        memory_bytes=configured.memory_mib * mebibyte,
        file_bytes=configured.file_mib * mebibyte,
        max_age=round(configured.max_age_hours * 3_600_000),
    )
    return History(store, limits, configured.path, feeds)
