"""HTTP to the proxy. Only this module uses httpx and interprets status codes.

TroubleError                 a problem that the document shows
├── NoAnswerError            no answer of LiteLLM: down, frozen, cut short, another server
└── RefusalError             another status than 200: 401, 403, 404, 429, 500 …
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple

import anyio
import httpx

from telemetron.backoff import retry_after
from telemetron.poll import TroubleError
from telemetron_collectors.litellm.key import ProxyKey

MAX_REFUSAL_BYTES = 64 * 1024
# The proxy's server closes a connection after 5 idle seconds; a reuse then would fail.
KEEPALIVE_SECONDS = 3.0
CUT = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class HttpLimits(NamedTuple):
    """Limits of one request."""

    timeout_seconds: float = 10.0
    alive_timeout_seconds: float = 5.0
    max_bytes: int = 64 * 1024 * 1024


class HttpAnswer(NamedTuple):
    """A body, and its date by the proxy's clock, in seconds since the Unix epoch."""

    body: bytes
    date: float | None


class NoAnswerError(TroubleError):
    """No answer of LiteLLM."""


class RefusalError(TroubleError):
    """A status other than 200; `ambiguous`: a plain-text 500, which may mean the key."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        status: int,
        path: str = "",
        ambiguous: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason, message, retry_after=retry_after)
        self.status = status
        self.path = path
        self.ambiguous = ambiguous


class Client:
    """Sends GET requests, and no others."""

    def __init__(
        self, http: httpx.AsyncClient, url: str, key: ProxyKey, limits: HttpLimits
    ) -> None:
        self.key = key
        self.limits = limits
        self._http = http
        self._url = url

    async def get(
        self, target: str, *, kind: str = "application/json", timeout: float | None = None
    ) -> HttpAnswer:
        """Return the answer to a path with its query; its media type must be `kind`.

        Raise NoAnswerError or RefusalError.
        """
        timeout = timeout or self.limits.timeout_seconds
        path = target.partition("?")[0]
        try:
            async with asyncio.timeout(timeout):
                try:
                    return await self._get(target, path, kind, timeout)
                except CUT:  # the proxy may have closed the pooled connection before the request
                    return await self._get(target, path, kind, timeout)
        except (TimeoutError, httpx.TimeoutException):
            raise NoAnswerError("Timeout", f"{path}: no answer within {timeout:g} s") from None
        except httpx.RemoteProtocolError:
            raise NoAnswerError("BadAnswer", f"{path}: no whole HTTP answer") from None
        except httpx.TransportError as error:
            raise NoAnswerError("Unreachable", type(error).__name__) from None

    async def _get(self, target: str, path: str, kind: str, timeout: float) -> HttpAnswer:
        headers = {"authorization": f"Bearer {self.key.value}"} if self.key.value else {}
        url = _parsed(self._url + target)
        async with self._http.stream("GET", url, headers=headers, timeout=timeout) as response:
            if response.status_code != 200:
                raise _refusal(path, response, await _read(path, response, MAX_REFUSAL_BYTES))
            if response.headers.get("content-type", "").partition(";")[0].strip() != kind:
                raise NoAnswerError("BadAnswer", f"{path}: the answer is not {kind}")
            body = await _read(path, response, self.limits.max_bytes)
            return HttpAnswer(body, _date(response.headers.get("date", "")))


@lru_cache(maxsize=256)
def _parsed(url: str) -> httpx.URL:
    """Parse a URL once: that takes httpx half a millisecond, and the same few recur."""
    return httpx.URL(url)


@asynccontextmanager
async def connect(url: str, key: ProxyKey, limits: HttpLimits) -> AsyncIterator[Client]:
    """Make a client of the proxy; the first request opens a connection."""
    async with await asyncio.to_thread(_client, url) as http:
        yield Client(http, url.rstrip("/"), key, limits)


def _client(url: str) -> httpx.AsyncClient:
    """Make the HTTP client; run this in a thread, because httpx imports for 200 ms at first use."""
    anyio.run(anyio.sleep, 0)
    return httpx.AsyncClient(
        # Load certificates only for https.
        verify=ssl.create_default_context() if url.startswith("https:") else False,
        limits=httpx.Limits(max_connections=4, keepalive_expiry=KEEPALIVE_SECONDS),
        # No compression: it costs both sides more time than it saves.
        headers={"accept-encoding": "identity", "user-agent": "telemetron"},
        trust_env=False,
    )


async def _read(path: str, response: httpx.Response, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise NoAnswerError("BadAnswer", f"{path}: more than {limit // 1024} KiB")
    return bytes(body)


def forbidden(path: str, status: int) -> RefusalError:
    """Return the error for a valid key that may not read this path."""
    return RefusalError("Forbidden", f"{path}: the key is not permitted", status=status, path=path)


def _refusal(path: str, response: httpx.Response, body: bytes) -> RefusalError:
    """Interpret the status; without a database LiteLLM answers 400 to a wrong key, 500 to none."""
    status = response.status_code
    plain = response.headers.get("content-type", "").startswith("text/plain")
    if status == 401 or (status == 400 and b"no_db_connection" in body):
        message = "the proxy does not accept the key"
        return RefusalError("Unauthorized", message, status=status, path=path)
    if status == 403:
        return forbidden(path, status)
    if status == 429:
        after = retry_after(response.headers.get("retry-after"))
        return RefusalError("RateLimited", f"{path}: 429", status=status, retry_after=after)
    ambiguous = status == 500 and plain
    return RefusalError(
        "BadAnswer", f"{path}: answered {status}", status=status, ambiguous=ambiguous
    )


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
