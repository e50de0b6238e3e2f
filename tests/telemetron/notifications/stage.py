"""A store whose findings a test raises and ends, and the notifications that watch it."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from telemetron.document import Finding, Queue, Root
from telemetron.history.history import History
from telemetron.notifications.memory import HistoryMemory
from telemetron.notifications.notifications import Notifications
from telemetron.notifications.pace import DEFAULTS, Pace
from telemetron.notifications.settings import (
    AlertmanagerSettings,
    NotificationSettings,
    WebhookSettings,
)
from telemetron.secret import Secret
from telemetron.store.source import Source
from telemetron.store.store import Store
from telemetron.testing import FakeClock, RecordingOutput
from tests.telemetron.notifications.receiver import SECRET

BEGAN = datetime(2030, 1, 1, 9, 0, tzinfo=UTC)
SYSTEM, URL = "atlas", "https://telemetron.example"


def webhook(url: str, **keys: Any) -> WebhookSettings:
    """The settings of a webhook to this URL."""
    return WebhookSettings(**{"name": "ops", "url": url, "secret": Secret(SECRET)} | keys)


def finding(
    topic: str = "plans",
    *,
    rule: str = "NoConsumers",
    severity: str = "critical",
    since: datetime | None = BEGAN,
    raised_at: datetime | None = BEGAN,
    rank: int = 1,
    section: str = "queues",
) -> Finding:
    """A finding about the queue of this topic, or about the source of this name."""
    key = f"kafka/{topic}/planner" if section == "queues" else topic
    return Finding(
        key=f"{rule}/{section}/{key}",
        rule=rule,
        severity=severity,
        basis="observed",
        rank=rank,
        root=Root(section, key, None, None, None),
        summary=f"Nobody reads {topic}",
        since=since,
        raised_at=raised_at,
        observed_at="0.1",
        runbook=f"docs/findings.md#{rule.lower()}",
    )


def join_histories() -> None:
    """Wait until no thread of a history is left; a stop itself waits only for a short time."""
    for thread in threading.enumerate():
        if thread.name == "history":
            thread.join(30)


class Stage:
    """A system with the sources `kafka` and `findings`; the notifications run in a task."""

    def __init__(
        self,
        *webhooks: WebhookSettings,
        alertmanager: AlertmanagerSettings | None = None,
        file: Path | None = None,
        clock: FakeClock | None = None,
        pace: Pace = DEFAULTS,
        memory: type[HistoryMemory] = HistoryMemory,
    ) -> None:
        self.clock = clock or FakeClock(BEGAN + timedelta(hours=1))
        self.store = Store(SYSTEM, self.clock)
        self.history = History(self.store, path=str(file) if file else None)
        self.output = RecordingOutput(self.clock, "notifications")
        self.settings = NotificationSettings(
            system=SYSTEM, url=URL, alertmanager=alertmanager, webhooks=webhooks
        )
        self._pace = pace
        self.memory = memory(self.history, self.clock)
        self.kafka = self._source("kafka")
        self.findings = self._source("findings")

    def _source(self, name: str) -> Source:
        source = self.store.add(name, name)
        source.start(float("inf"))
        source.confirm()
        return source

    async def __aenter__(self) -> Self:
        self.history.start()
        for topic in ("plans", "reviews", "sections"):
            queue = Queue(name=topic, consumer_group="planner", source="kafka")
            self.store.put(self.kafka, "queues", topic, topic, queue)
        self.store.flush()
        self.notifications = Notifications(
            self.settings, self.store, self.history, self.memory, self.output, self._pace
        )
        self.task = asyncio.create_task(self.notifications.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.history.stop()
        await asyncio.to_thread(join_histories)  # the next stage may use the same file
        for source in self.store.sources.values():
            source.stop()

    async def ready(self) -> None:
        """Wait until the notifications watch the store."""
        async with asyncio.timeout(30):
            await self.output.called("confirm")
            await asyncio.sleep(0)

    def show(self, *findings: Finding) -> None:
        """Raise findings, or change them."""
        for one in findings:
            self.store.put(self.findings, "findings", one.key, one.key, one)
        self.store.flush()

    def end(self, *findings: Finding) -> None:
        """Let findings end."""
        for one in findings:
            self.store.remove(self.findings, "findings", one.key)
        self.store.flush()

    def lose(self, source: Source) -> None:
        """A source no longer observes."""
        source.fail("Crashed", "it crashed")
        self.store.flush()

    def see(self, source: Source) -> None:
        """It observes again."""
        source.start(float("inf"))
        source.confirm()
        self.store.flush()
