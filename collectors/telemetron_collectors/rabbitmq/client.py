"""Requests to the management plugin and the Prometheus plugins. Only this module reads statuses.

TroubleError                 a problem that the document shows
└── RefusalError             the broker answers, and refuses this one request: 401, 404
"""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from telemetron.backoff import retry_after
from telemetron.fetch import Fetcher, Response, fetcher
from telemetron.poll import TroubleError
from telemetron_collectors.rabbitmq.config import RabbitmqConfig
from telemetron_collectors.rabbitmq.limits import RabbitmqLimits

MAX_DECODED_HERE = 64 * 1024
"""A longer body is decoded in a thread: the event loop must not wait for it."""

T = TypeVar("T")


class RefusalError(TroubleError):
    """The broker refuses one request; `reason` is `Forbidden` or `NotFound`."""


class Client:
    """Sends GET requests, and no others."""

    def __init__(self, fetcher: Fetcher, config: RabbitmqConfig, limits: RabbitmqLimits) -> None:
        self._fetcher = fetcher
        self._url = config.url.rstrip("/")
        self._seconds = limits.timeout_seconds
        user = f"{config.username}:{config.password.value}".encode()
        self._headers = {"authorization": f"Basic {b64encode(user).decode()}"}

    async def get(self, target: str, type: type[T]) -> T:
        """Return the decoded answer of the management plugin; raise TroubleError or RefusalError.

        `target` is a path with its query, below `/api`.
        """
        path = f"/api{target.partition('?')[0]}"
        body = await self._read(f"{self._url}/api{target}", path, self._headers)
        try:
            if len(body) < MAX_DECODED_HERE:
                return msgspec.json.decode(body, type=type)
            return await asyncio.to_thread(msgspec.json.decode, body, type=type)
        except msgspec.DecodeError:
            message = f"{path}: no answer of RabbitMQ's management plugin"
            raise TroubleError("BadAnswer", message) from None

    async def metrics(self, url: str) -> bytes:
        """Return the counts of a node's queues, in the text format; raise TroubleError."""
        families = "family=queue_coarse_metrics&family=queue_consumer_count"
        target = f"{url.rstrip('/')}/metrics/detailed?{families}"
        return await self._read(target, "/metrics/detailed", {})

    async def _read(self, url: str, path: str, headers: dict[str, str]) -> bytes:
        response = await self._fetcher.get(url, path, self._seconds, headers)
        if response.status != 200:
            raise _refusal(path, response)
        return response.body


@asynccontextmanager
async def connect(config: RabbitmqConfig, limits: RabbitmqLimits) -> AsyncIterator[Client]:
    """Make a client of the cluster; the first request opens a connection."""
    context = None
    if config.cafile is not None:
        context = await asyncio.to_thread(ssl.create_default_context, cafile=config.cafile)
    async with fetcher(limits.max_bytes, context) as its:
        yield Client(its, config, limits)


def _refusal(path: str, response: Response) -> TroubleError:
    """Interpret the status: RabbitMQ answers 401 to a wrong password and to a missing permission.

    `not_authorized` is the first, `not_authorised` the second (rabbit_mgmt_util and
    rabbit_web_dispatch_access_control); a user without any tag of the plugin is the first to us.
    """
    status = response.status
    if status == 404:
        return RefusalError("NotFound", f"{path}: it does not exist")
    if status in (401, 403):
        if _is_about_user(response.body):
            return TroubleError("Unauthorized", "the broker does not accept the user and password")
        return RefusalError("Forbidden", f"{path}: the user is not permitted")
    after = retry_after(response.headers.get("retry-after"))
    reason = "RateLimited" if status == 429 else "BadAnswer"
    return TroubleError(reason, f"{path}: answered {status}", retry_after=after)


def _is_about_user(body: bytes) -> bool:
    try:
        answer: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return True
    if not isinstance(answer, dict):
        return True
    return answer.get("error") != "not_authorised" or "Not management" in str(answer.get("reason"))
