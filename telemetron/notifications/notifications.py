"""A run of the notifications: it watches publications and supplies all receivers."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeVar

import httpx
import msgspec
from loguru import logger

from telemetron.collector import Output
from telemetron.history.history import History
from telemetron.history.place import Place
from telemetron.notifications.alertmanager import NAME, Alertmanager
from telemetron.notifications.alertmanager import Kept as KeptAlerts
from telemetron.notifications.changes import Changes
from telemetron.notifications.context import Context
from telemetron.notifications.labels import labels_of, sources_of
from telemetron.notifications.memory import Memory
from telemetron.notifications.pace import DEFAULTS, Pace
from telemetron.notifications.post import client
from telemetron.notifications.settings import (
    ClientTls,
    NotificationSettings,
    WebhookSettings,
)
from telemetron.notifications.sight import Sight
from telemetron.notifications.tracker import Shown
from telemetron.notifications.webhook import Kept as KeptWebhook
from telemetron.notifications.webhook import Webhook
from telemetron.store.snapshot import Snapshot
from telemetron.store.store import Publication, Store

T = TypeVar("T")
FINDINGS, SOURCES = "findings", "sources"


class Outlet(Protocol):
    """A receiver of findings, or several of one kind."""

    name: str

    @property
    def is_waiting(self) -> bool: ...
    def look(self, changed: dict[str, Shown | None]) -> None: ...
    def settle(self) -> None: ...
    async def run(self) -> None: ...


class Notifications:
    """The state of one run."""

    def __init__(
        self,
        settings: NotificationSettings,
        store: Store,
        history: History,
        memory: Memory,
        output: Output,
        pace: Pace = DEFAULTS,
    ) -> None:
        self._settings = settings
        self._store = store
        self._history = history
        self._memory = memory
        self._output = output
        self._pace = pace
        self._sight = Sight(output.clock)
        self._outlets: list[Outlet] = []
        self._changes: list[Changes] = []
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Notify until cancelled."""
        names = [NAME, *(f"webhook {one.name}" for one in self._settings.webhooks)]
        kept = await self._memory.load(names)
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(await asyncio.to_thread(client))
            for_alerts = http
            if alertmanager := self._settings.alertmanager:
                made = await asyncio.to_thread(_client_with, alertmanager.tls)
                for_alerts = await stack.enter_async_context(made)
            self._outlets = [*self._make(kept, http, for_alerts)]
            self._output.expect(self._scopes())
            for scope in self._scopes():
                self._output.confirm(scope)
            self._store.watchers.append(self._published)
            try:
                self._look_at_all()
                await self._run_all()
            finally:
                self._store.watchers.remove(self._published)
                for changes in self._changes:
                    changes.end()

    def _make(
        self, kept: dict[str, bytes], http: httpx.AsyncClient, for_alerts: httpx.AsyncClient
    ) -> Iterator[Outlet]:
        settings = self._settings
        context = Context(
            settings.system,
            settings.url,
            self._output,
            self._sight,
            self._memory,
            self._pace,
            http,
        )
        if settings.alertmanager:
            alerts = _decoded(kept.get(NAME), KeptAlerts)
            yield Alertmanager(settings.alertmanager, context._replace(http=for_alerts), alerts)
        for one in settings.webhooks:
            yield self._webhook(one, context, kept)

    def _webhook(
        self, settings: WebhookSettings, context: Context, kept: dict[str, bytes]
    ) -> Webhook:
        changes, snapshot = None, self._store.snapshot
        if settings.changes:
            changes = Changes(
                self._history,
                self._output.clock,
                self._pace,
                context.system,
                context.url,
                str(Place(snapshot.epoch, snapshot.change.revision)),
                settings.sections,
            )
            self._changes.append(changes)
        body = kept.get(f"webhook {settings.name}")
        saved = _decoded(body, KeptWebhook)
        webhook = Webhook(settings, context, changes, saved)
        if saved is None and (body is not None or self._memory.has_lost):
            webhook.add_gap(snapshot.epoch)
        return webhook

    def _scopes(self) -> list[str]:
        alertmanager = self._settings.alertmanager
        urls = alertmanager.urls if alertmanager else ()
        return [f"{NAME} {url}" for url in urls] + [
            f"webhook {one.name}" for one in self._settings.webhooks
        ]

    async def _run_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for outlet in self._outlets:
                group.create_task(outlet.run(), name=outlet.name)
            group.create_task(self._tick())
            group.create_task(_raise(self._failed))

    async def _tick(self) -> None:
        """Resolve findings whose time has come; no publication says so."""
        while True:
            await self._output.clock.sleep(self._pace.tick)
            if any(outlet.is_waiting for outlet in self._outlets):
                self._settle()

    # on each publication

    def _published(self, publication: Publication) -> None:
        changed = publication.changed
        if FINDINGS not in changed and SOURCES not in changed:
            return
        try:
            self._look(publication.snapshot, changed.get(SOURCES, ()), changed.get(FINDINGS, ()))
        except Exception as error:  # it belongs to this run, not to the store
            if not self._failed.done():
                self._failed.set_exception(error)

    def _look_at_all(self) -> None:
        snapshot = self._store.snapshot
        shown = snapshot.sections[FINDINGS].rope.every_key()
        self._look(snapshot, snapshot.sections[SOURCES].rope.every_key(), shown)

    def _look(self, snapshot: Snapshot, sources: Iterable[str], findings: Iterable[str]) -> None:
        rows = snapshot.sections[SOURCES].rope
        self._sight.look(row.entity for key in sources if (row := rows.get(key)))
        changed = {key: _shown(snapshot, key) for key in findings}
        for outlet in self._outlets:
            outlet.look(changed)
        self._settle()

    def _settle(self) -> None:
        for outlet in self._outlets:
            outlet.settle()


def _shown(snapshot: Snapshot, key: str) -> Shown | None:
    fragment = snapshot.sections[FINDINGS].rope.get(key)
    if fragment is None:
        return None
    finding = fragment.entity
    return Shown(finding, sources_of(finding, snapshot), labels_of(finding, snapshot))


def _client_with(tls: ClientTls) -> httpx.AsyncClient:
    return client(tls.context())


def _decoded(body: bytes | None, kind: type[T]) -> T | None:
    """Return what an earlier process saved; None if there is nothing, or of another version."""
    if body is None:
        return None
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        logger.warning("the saved state of notifications cannot be read: {}", error)
        return None


async def _raise(failed: "asyncio.Future[Any]") -> None:
    await failed
