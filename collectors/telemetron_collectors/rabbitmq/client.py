"""HTTP to the management plugin and the Prometheus plugins. Only this module uses httpx.

TroubleError                 a problem that the document shows
└── RefusalError             the broker answers, and refuses this one request: 401, 404
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec

from telemetron.backoff import retry_after
from telemetron.poll import TroubleError
from telemetron_collectors.rabbitmq.config import RabbitmqConfig
from telemetron_collectors.rabbitmq.limits import RabbitmqLimits

MAX_REFUSAL_BYTES = 64 * 1024
CUT = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
SEVERAL_MS = 64 * 1024
"""A longer body is decoded in a thread: the event loop must not wait for it."""

T = TypeVar("T")


class RefusalError(TroubleError):
    """The broker refuses one request; `reason` is `Forbidden` or `NotFound`."""


class Client:
    """Sends GET requests, and no others."""

    def __init__(self, http: httpx.AsyncClient, url: str, limits: RabbitmqLimits) -> None:
        self.limits = limits
        self._http = http
        self._url = url.rstrip("/")

    async def get(self, target: str, type: type[T]) -> T:
        """Return the decoded answer of the management plugin; raise TroubleError or RefusalError.

        `target` is a path with its query, below `/api`.
        """
        path = f"/api{target.partition('?')[0]}"
        body = await self._read(f"{self._url}/api{target}", path)
        try:
            if len(body) < SEVERAL_MS:
                return msgspec.json.decode(body, type=type)
            return await asyncio.to_thread(msgspec.json.decode, body, type=type)
        except msgspec.DecodeError:
            message = f"{path}: no answer of RabbitMQ's management plugin"
            raise TroubleError("BadAnswer", message) from None

    async def metrics(self, url: str) -> bytes:
        """Return the counts of a node's queues, in the text format; raise TroubleError."""
        families = "family=queue_coarse_metrics&family=queue_consumer_count"
        target = f"{url.rstrip('/')}/metrics/detailed?{families}"
        return await self._read(target, "/metrics/detailed", is_private=False)

    async def _read(self, url: str, path: str, *, is_private: bool = True) -> bytes:
        seconds = self.limits.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._get(url, path, is_private)
                except CUT:  # the broker may have closed the pooled connection before the request
                    return await self._get(url, path, is_private)
        except (TimeoutError, httpx.TimeoutException):
            raise TroubleError("Timeout", f"{path}: no answer within {seconds:g} s") from None
        except httpx.RemoteProtocolError:
            raise TroubleError("BadAnswer", f"{path}: no whole HTTP answer") from None
        except (httpx.TransportError, OSError) as error:
            raise TroubleError("Unreachable", type(error).__name__) from None

    async def _get(self, url: str, path: str, is_private: bool) -> bytes:
        auth = httpx.USE_CLIENT_DEFAULT if is_private else None
        async with self._http.stream("GET", url, auth=auth) as response:
            limit = self.limits.max_bytes if response.status_code == 200 else MAX_REFUSAL_BYTES
            body = await _body(path, response, limit)
        if response.status_code != 200:
            raise _refusal(path, response, body)
        return body


@asynccontextmanager
async def connect(config: RabbitmqConfig, limits: RabbitmqLimits) -> AsyncIterator[Client]:
    """Make a client of the cluster; the first request opens a connection."""
    async with await asyncio.to_thread(_client, config, limits) as http:
        yield Client(http, config.url, limits)


def _client(config: RabbitmqConfig, limits: RabbitmqLimits) -> httpx.AsyncClient:
    """Make the HTTP client; run this in a thread: it reads certificates."""
    is_secret = any(url.startswith("https:") for url in (config.url, *config.metrics_urls))
    return httpx.AsyncClient(
        auth=(config.username, config.password.value),
        verify=ssl.create_default_context(cafile=config.cafile) if is_secret else False,
        timeout=limits.timeout_seconds,
        limits=httpx.Limits(max_connections=4 + len(config.metrics_urls)),
        headers={"accept-encoding": "identity", "user-agent": "telemetron"},
        trust_env=False,
    )


async def _body(path: str, response: httpx.Response, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise TroubleError("BadAnswer", f"{path}: more than {limit // 1024} KiB")
    return bytes(body)


def _refusal(path: str, response: httpx.Response, body: bytes) -> TroubleError:
    """Interpret the status: RabbitMQ answers 401 to a wrong password and to a missing permission.

    `not_authorized` is the first, `not_authorised` the second (rabbit_mgmt_util and
    rabbit_web_dispatch_access_control); a user without any tag of the plugin is the first to us.
    """
    status = response.status_code
    if status == 404:
        return RefusalError("NotFound", f"{path}: it does not exist")
    if status in (401, 403):
        if _is_about_user(body):
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
