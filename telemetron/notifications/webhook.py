"""A webhook: a queue of events, which one receiver gets in order and at least once.

An event is saved before it is sent first, so a later process sends it with the same id. It stays
the first of the queue until the receiver has accepted it.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from math import inf

import msgspec
from loguru import logger
from msgspec import Struct

from telemetron.document import Finding
from telemetron.notifications import event as events
from telemetron.notifications.changes import Changes
from telemetron.notifications.context import Context
from telemetron.notifications.delivery import deliver
from telemetron.notifications.event import Event
from telemetron.notifications.post import Answer
from telemetron.notifications.settings import WebhookSettings
from telemetron.notifications.tracker import Past, Shown, Tracker

JITTER = 0.2
MAX_RETRY_AFTER = 300.0
SAVE_SECONDS = 1.0
"""Deliveries are saved at least this often: they are repeated after a crash."""
GONE = "its receiver answered 410 Gone; the webhook is off until the next start"
STARTED = (
    "Telemetron started, and does not know which events it sent before; findings may have ended"
    " since"
)
FULL = "too many events waited for this receiver; the following ones were dropped"


class Kept(Struct):
    """The saved state of a webhook."""

    past: Past = msgspec.field(default_factory=Past)
    queue: list[Event] = []
    place: str | None = None
    """The place after which the next event of changes begins."""


class Webhook:
    """One webhook while it runs."""

    def __init__(
        self,
        settings: WebhookSettings,
        context: Context,
        changes: Changes | None = None,
        kept: Kept | None = None,
    ) -> None:
        kept = kept or Kept()
        self.name = f"webhook {settings.name}"
        self.queue = deque(kept.queue)
        self.is_off = False
        """Whether the receiver has ended it."""
        self._settings = settings
        self._context = context
        self._output, self._pace = context.output, context.pace
        self._clock = context.output.clock
        wants, grace = wanted(settings), context.pace.grace
        self._tracker = Tracker(self._clock, context.sight, wants, kept.past, grace)
        self._changes = changes
        if changes:
            changes.begin(kept.place, self.wake)
        self._news = asyncio.Event()
        self._failures = 0
        self._attempted_at = 0.0
        self._not_before = 0.0
        self._is_unsaved = False
        """Whether there are events that must not be sent before they are saved."""
        self._is_behind = False
        """Whether deliveries are not saved yet."""
        self._saved_at = 0.0

    # called on each publication

    @property
    def is_waiting(self) -> bool:
        """Whether time alone can make an event."""
        return not self.is_off and self._tracker.is_waiting

    def look(self, changed: Mapping[str, Shown | None]) -> None:
        """Note the findings that changed."""
        self._tracker.look(changed)

    def settle(self) -> None:
        """Queue the events of findings that began or ended."""
        if self.is_off:
            return
        for edge in self._tracker.edges():
            context = self._context
            self.add(events.of_edge(context.system, context.url, edge, self._clock.now()))

    def add(self, event: Event) -> None:
        """Queue an event; if there is no room, one event `gap` stands for all further ones."""
        if len(self.queue) >= self._pace.queue:
            if self.queue[-1].type == events.GAP:
                return
            event = self._gap(FULL, self.queue[-1].id)
            logger.warning("{}: {}", self.name, FULL)
        self.queue.append(event)
        self._is_unsaved = True
        self._not_before = min(self._not_before, self._attempted_at + self._pace.newest)
        self.wake()

    def add_gap(self, epoch: str) -> None:
        """Queue that events of an earlier process may be lost."""
        self.add(self._gap(STARTED, epoch))

    def _gap(self, why: str, *identity: object) -> Event:
        context = self._context
        return events.gap(context.system, context.url, why, self._clock.now(), *identity)

    def wake(self) -> None:
        """Let the webhook look again."""
        self._news.set()

    # the task

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            if self.is_off:
                self._output.confirm(self.name, reason="NotFound", message=GONE)
            elif not self._failures:
                self._output.confirm(self.name)
            if self._must_save():
                await self._save()  # more events may have come meanwhile
            elif self.queue and self._clock.monotonic() >= self._not_before:
                await self._attempt(self.queue[0])
            elif self._changes and self._seconds_to_changes() == 0:
                await self._add_changes(self._changes)
            else:
                await self._rest()

    async def _add_changes(self, changes: Changes) -> None:
        place = changes.place
        found = await changes.next()
        if isinstance(found, str):
            self.add(self._gap(found, place))
        elif found:
            self.add(found)
        elif self._clock.monotonic() - self._saved_at >= self._pace.confirm:
            self._is_behind = True  # the place must not become older than the history

    async def _rest(self) -> None:
        seconds = self._pace.confirm
        if self.queue:
            seconds = min(seconds, self._not_before - self._clock.monotonic())
        seconds = max(0.0, min(seconds, self._seconds_to_changes()))
        timer = self._clock.call_later(seconds, self._news.set)
        await self._news.wait()
        timer.cancel()
        self._news.clear()

    def _seconds_to_changes(self) -> float:
        if self._changes is None or self.is_off:
            return inf
        return self._changes.seconds(self.queue)

    def _must_save(self) -> bool:
        if self._is_unsaved:
            return True
        is_due = not self.queue or self._clock.monotonic() - self._saved_at >= SAVE_SECONDS
        return self._is_behind and is_due

    async def _save(self) -> None:
        self._is_unsaved = self._is_behind = False
        self._saved_at = self._clock.monotonic()
        place = self._changes.place if self._changes else None
        kept = Kept() if self.is_off else Kept(self._tracker.past, list(self.queue), place)
        await self._context.memory.save(self.name, msgspec.json.encode(kept))

    async def _attempt(self, event: Event) -> None:
        self._attempted_at = self._clock.monotonic()
        now, timeout = self._clock.now(), self._pace.timeout
        answer = await deliver(self._context.http, self._settings, event, now, timeout)
        self._output.count(f"{self.name}: {'accepted' if answer.is_ok else 'failed'}")
        if answer.is_ok:
            self.queue.popleft()
            self._is_behind = True
            if self._failures:
                logger.bind(webhook=self._settings.name).info("{}: delivers again", self.name)
            self._failures, self._not_before = 0, 0.0
        elif answer.status == 410:
            self._end()
        else:
            self._fail(answer)

    def _end(self) -> None:
        """Stop for good, as the receiver asks; the next process tries again."""
        logger.bind(webhook=self._settings.name).warning("{}: {}", self.name, GONE)
        self.is_off = self._is_unsaved = True
        self._failures = 0
        self.queue.clear()

    def _fail(self, answer: Answer) -> None:
        retries = self._pace.retries
        wait = retries[min(self._failures, len(retries) - 1)]
        wait *= random.uniform(1 - JITTER, 1 + JITTER)
        wait = max(wait, min(answer.retry_after or 0.0, MAX_RETRY_AFTER))
        if not self._failures:
            logger.bind(webhook=self._settings.name, reason=answer.reason).warning(
                "{}: {}; its events wait, in order", self.name, answer.message
            )
        self._failures += 1
        self._not_before = self._clock.monotonic() + wait
        self._output.trouble(self.name, answer.reason, answer.message)


def wanted(settings: WebhookSettings) -> Callable[[Finding], bool]:
    """Return whether a finding is one that the webhook is configured for."""
    rules, severities = frozenset(settings.rules), frozenset(settings.severities)
    sections = frozenset(settings.sections)

    def wants(finding: Finding) -> bool:
        return (
            (not rules or finding.rule in rules)
            and (not severities or finding.severity in severities)
            and (not sections or finding.root.section in sections)
        )

    return wants
