"""Reports to Alertmanager: all active alerts every 30 s, and at once when one begins or ends.

Every Alertmanager of a cluster gets them by itself; they remove duplicates among each other.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta

import httpx
import msgspec
from loguru import logger
from msgspec import Struct

from telemetron.backoff import Backoff
from telemetron.document import Finding
from telemetron.notifications.alerts import Alert, Ended, alerts, forget, report
from telemetron.notifications.context import Context
from telemetron.notifications.post import Answer, post
from telemetron.notifications.settings import AlertmanagerSettings
from telemetron.notifications.tracker import Past, Shown, Tracker

NAME = "alertmanager"
SEVERITIES = ("critical", "warning")
PATH = "/api/v2/alerts"
MAX_ENDED = 1_000


class Kept(Struct):
    """The saved state of the alerts."""

    past: Past = msgspec.field(default_factory=Past)
    ended: dict[str, Ended] = {}


class Alertmanager:
    """The alerts, and one `Receiver` for each URL."""

    name = NAME

    def __init__(
        self, settings: AlertmanagerSettings, context: Context, kept: Kept | None = None
    ) -> None:
        kept = kept or Kept()
        self._context = context
        self._clock = context.output.clock
        grace = context.pace.grace
        self._tracker = Tracker(self._clock, context.sight, _is_alert, kept.past, grace)
        self._ended = kept.ended
        self._active = self._alerts()
        self._news = asyncio.Event()
        self._receivers = [Receiver(url, settings, context, self.body) for url in settings.urls]

    @property
    def is_waiting(self) -> bool:
        """Whether time alone can end an alert."""
        return self._tracker.is_waiting

    def look(self, changed: Mapping[str, Shown | None]) -> None:
        """Note the findings that changed."""
        self._tracker.look(changed)

    def settle(self) -> None:
        """Begin and end alerts, and have that reported at once."""
        self._tracker.edges()
        before, self._active = self._active, self._alerts()
        now = self._clock.now()
        for key in before.keys() - self._active.keys():
            self._ended[key] = Ended(before[key], now)
        for key in self._active.keys() & self._ended.keys():
            del self._ended[key]
        forget(self._ended, now - timedelta(seconds=self._context.pace.resolved), MAX_ENDED)
        if before.keys() != self._active.keys():
            self._news.set()
            for receiver in self._receivers:
                receiver.wake()

    def body(self) -> bytes:
        """Return the alerts as they are reported now."""
        now, valid = self._clock.now(), self._context.pace.valid
        forget(self._ended, now - timedelta(seconds=self._context.pace.resolved), MAX_ENDED)
        return msgspec.json.encode(report(self._active.values(), self._ended.values(), now, valid))

    async def run(self) -> None:
        """Report until cancelled."""
        async with asyncio.TaskGroup() as group:
            for receiver in self._receivers:
                group.create_task(receiver.run())
            group.create_task(self._save())

    async def _save(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            kept = Kept(self._tracker.past, self._ended)
            await self._context.memory.save(NAME, msgspec.json.encode(kept))

    def _alerts(self) -> dict[str, Alert]:
        reported = self._tracker.reported.values()
        return alerts(reported, self._context.system, self._context.url)


class Receiver:
    """One Alertmanager; `body` returns what to report now."""

    def __init__(
        self,
        url: str,
        settings: AlertmanagerSettings,
        context: Context,
        body: Callable[[], bytes],
    ) -> None:
        self.scope = f"{NAME} {url}"
        self._url = url.rstrip("/") + PATH
        self._headers, self._auth = _credentials(settings)
        self._context = context
        self._body = body
        self._news = asyncio.Event()
        self._is_failing = False

    def wake(self) -> None:
        """Report as soon as possible."""
        self._news.set()

    async def run(self) -> None:
        """Report until cancelled."""
        pace, clock, http = self._context.pace, self._context.output.clock, self._context.http
        backoff = Backoff(first=pace.least, cap=pace.repeat)
        while True:
            self._news.clear()
            answer = await post(
                http, self._url, self._body(), self._headers, pace.timeout, self._auth
            )
            self._judge(answer)
            if answer.is_ok:
                backoff.reset()
                await self._rest()
            else:
                await clock.sleep(backoff.next(answer.retry_after))

    async def _rest(self) -> None:
        """Wait until something begins or ends, at least a second and at most 30."""
        pace, clock = self._context.pace, self._context.output.clock
        earliest = clock.monotonic() + pace.least
        timer = clock.call_later(pace.repeat, self._news.set)
        await self._news.wait()
        timer.cancel()
        if (early := earliest - clock.monotonic()) > 0:
            await clock.sleep(early)

    def _judge(self, answer: Answer) -> None:
        output = self._context.output
        output.count(f"{NAME}: {'accepted' if answer.is_ok else 'failed'}")
        if answer.is_ok:
            output.confirm(self.scope)
        else:
            output.trouble(self.scope, answer.reason, answer.message)
        if self._is_failing is not answer.is_ok:
            return
        self._is_failing = not answer.is_ok
        if answer.is_ok:
            logger.info("{}: takes alerts again", self.scope)
        else:
            log = logger.bind(reason=answer.reason)
            log.warning("{}: {}; the alerts are sent again later", self.scope, answer.message)


def _credentials(
    settings: AlertmanagerSettings,
) -> tuple[dict[str, str], httpx.BasicAuth | None]:
    headers = {"content-type": "application/json"}
    if settings.token:
        headers["authorization"] = f"Bearer {settings.token.value}"
    if settings.username is None or settings.password is None:
        return headers, None
    return headers, httpx.BasicAuth(settings.username, settings.password.value)


def _is_alert(finding: Finding) -> bool:
    return finding.severity in SEVERITIES
