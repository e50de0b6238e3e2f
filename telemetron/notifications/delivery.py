"""One attempt to deliver an event: signed as Standard Webhooks 1.0 describes it."""

from datetime import datetime

import httpx
from standardwebhooks import Webhook as Signer

from telemetron.notifications.event import MEDIA, Event
from telemetron.notifications.post import Answer, post
from telemetron.notifications.settings import WebhookSettings


async def deliver(
    http: httpx.AsyncClient,
    settings: WebhookSettings,
    event: Event,
    now: datetime,
    timeout: float,
) -> Answer:
    """Send the event once; `now` is the time of this attempt, which the signature covers."""
    body = event.body()
    headers = {
        "content-type": MEDIA,
        "webhook-id": event.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Signer(settings.secret.value).sign(event.id, now, body.decode()),
    }
    return await post(http, settings.url, body, headers, timeout)
