"""HTTP to the proxy. Here alone httpx is used, and here alone an answer is judged.

TroubleError                 what the document shows
├── NoAnswerError            nothing that LiteLLM said: down, frozen, cut short, another server
└── RefusalError             it said no: 401, 403, 404, 429, 500 …
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
from telemetron_collectors.litellm.key import Key

TIMEOUT_SECONDS = 10.0
MAX_BYTES = 64 * 1024 * 1024
MAX_REFUSAL_BYTES = 64 * 1024
# The proxy's server closes a connection after 5 idle seconds: what is older is not used again.
KEEPALIVE_SECONDS = 3.0
CUT = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class Answer(NamedTuple):
    """A body, and the proxy's clock when it gave it, in seconds since the Unix epoch."""

    body: bytes
    date: float | None


class NoAnswerError(TroubleError):
    """Nothing that LiteLLM said."""


class RefusalError(TroubleError):
    """A status other than 200; `odd`: a 500 in plain text, as where a key is missing."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        status: int,
        path: str = "",
        odd: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason, message, retry_after=retry_after)
        self.status = status
        self.path = path
        self.odd = odd


class Client:
    """GET, and nothing else."""

    def __init__(self, http: httpx.AsyncClient, url: str, key: Key) -> None:
        self.key = key
        self._http = http
        self._url = url

    async def get(
        self, target: str, *, kind: str = "application/json", timeout: float | None = None
    ) -> Answer:
        """An answer of this media type to a path with its query, if it has one.

        Raises NoAnswerError and RefusalError.
        """
        timeout = timeout or TIMEOUT_SECONDS
        path = target.partition("?")[0]
        try:
            async with asyncio.timeout(timeout):
                try:
                    return await self._get(target, path, kind, timeout)
                except CUT:  # what failed before may have closed the connection behind our back
                    return await self._get(target, path, kind, timeout)
        except (TimeoutError, httpx.TimeoutException):
            raise NoAnswerError("Timeout", f"{path}: no answer within {timeout:g} s") from None
        except httpx.RemoteProtocolError:
            raise NoAnswerError("BadAnswer", f"{path}: no whole HTTP answer") from None
        except httpx.TransportError as error:
            raise NoAnswerError("Unreachable", type(error).__name__) from None

    async def _get(self, target: str, path: str, kind: str, timeout: float) -> Answer:
        headers = {"authorization": f"Bearer {self.key.value}"} if self.key.value else {}
        url = _parsed(self._url + target)
        async with self._http.stream("GET", url, headers=headers, timeout=timeout) as response:
            if response.status_code != 200:
                raise _refusal(path, response, await _read(path, response, MAX_REFUSAL_BYTES))
            if response.headers.get("content-type", "").partition(";")[0].strip() != kind:
                raise NoAnswerError("BadAnswer", f"{path}: the answer is not {kind}")
            body = await _read(path, response, MAX_BYTES)
            return Answer(body, _date(response.headers.get("date", "")))


@lru_cache(maxsize=256)
def _parsed(url: str) -> httpx.URL:
    """Parsing a URL takes httpx half a millisecond; the same few are asked for ever."""
    return httpx.URL(url)


@asynccontextmanager
async def connect(url: str, key: Key) -> AsyncIterator[Client]:
    """A client of the proxy; no connection is made yet."""
    async with await asyncio.to_thread(_client, url) as http:
        yield Client(http, url.rstrip("/"), key)


def _client(url: str) -> httpx.AsyncClient:
    """In a thread: what httpx needs is imported when it is first used, which takes 200 ms."""
    anyio.run(anyio.sleep, 0)
    return httpx.AsyncClient(
        # Certificates are loaded only where they are needed.
        verify=ssl.create_default_context() if url.startswith("https:") else False,
        limits=httpx.Limits(max_connections=4, keepalive_expiry=KEEPALIVE_SECONDS),
        # No compression: it would cost both sides more than the bytes do.
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
    """The key is good, but not for this path."""
    return RefusalError("Forbidden", f"{path}: the key is not permitted", status=status, path=path)


def _refusal(path: str, response: httpx.Response, body: bytes) -> RefusalError:
    """What the status means. Without a database a wrong key is a 400, and none at all a 500."""
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
    odd = status == 500 and plain
    return RefusalError("BadAnswer", f"{path}: answered {status}", status=status, odd=odd)


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
