"""`telemetron webhooks test`: sends a signed sample to a webhook, and prints the answer."""

import asyncio
import time
from collections.abc import Sequence
from secrets import token_hex

import anyio

from telemetron.cli import output
from telemetron.clock import Clock
from telemetron.config.convert import unknown
from telemetron.config.settings import Settings
from telemetron.notifications import event as events
from telemetron.notifications.delivery import deliver
from telemetron.notifications.event import Event
from telemetron.notifications.post import TIMEOUT_SECONDS, Answer, client, origin
from telemetron.notifications.settings import WebhookSettings
from telemetron.text import one_line

MAX_BODY = 300


def test(settings: Settings, name: str) -> None:
    """Send one event to the webhook of this name. It exits with 1 unless it was accepted."""
    webhook = _find(settings.webhooks, name)
    began = time.monotonic()
    answer = anyio.run(_send, webhook, sample(settings))
    seconds = time.monotonic() - began
    line = f"{name}: {origin(webhook.url)} {_text(answer)} after {seconds:.2f} s"
    if not answer.is_ok:
        output.fail([line])
    output.write(line)


def sample(settings: Settings) -> Event:
    """Return an event that no receiver takes for a finding."""
    data = {
        "system": settings.id,
        "url": f"{settings.server.link_base}/system/state",
        "message": "A test of this webhook. Verify the signature and answer 2xx.",
    }
    return events.make(settings.id, events.TEST, "", Clock().now(), data, token_hex(8))


def _find(webhooks: Sequence[WebhookSettings], name: str) -> WebhookSettings:
    for one in webhooks:
        if one.name == name:
            return one
    names = [one.name for one in webhooks]
    if not names:
        output.fail(["the configuration has no webhooks"], output.BAD_CONFIG)
    output.fail([unknown("webhook", name, names)], output.BAD_CONFIG)


async def _send(webhook: WebhookSettings, event: Event) -> Answer:
    async with await asyncio.to_thread(client) as http:
        return await deliver(http, webhook, event, Clock().now(), TIMEOUT_SECONDS)


def _text(answer: Answer) -> str:
    """Return what came back; its text was written by others."""
    text = one_line(answer.body.decode("utf-8", "replace"), MAX_BODY)
    return f"{answer.message}: {text}" if text else answer.message
