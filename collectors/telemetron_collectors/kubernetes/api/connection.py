"""The connection to the API server: raw responses, refusals as TroubleError, and retries.

While the server is unreachable, the whole source sends one request at a time, ever more slowly.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import aiohttp
import msgspec
from kubernetes_asyncio.client import ApiClient

from telemetron.backoff import Backoff, retry_after
from telemetron.clock import Clock
from telemetron.poll import TroubleError
from telemetron_collectors.kubernetes.api.credentials import Credentials
from telemetron_collectors.kubernetes.api.objects import Status
from telemetron_collectors.kubernetes.bounds import DEFAULTS, Bounds

Query = Mapping[str, str]
Load = Callable[[], Awaitable[Credentials]]
Send = Callable[[], Awaitable[aiohttp.ClientResponse]]

_decode_status = msgspec.json.Decoder(Status).decode


class ExpiredError(Exception):
    """HTTP 410: the server no longer has the requested resourceVersion."""


class RefusedError(TroubleError):
    """The server is reachable but refuses the request: 403, 404, 422 and the like."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.code = code


class ApiConnection:
    """One API server. `report(scope, trouble)` is called for each scope that waits for it."""

    def __init__(
        self,
        load: Load,
        clock: Clock,
        report: Callable[[str, TroubleError], None],
        *,
        renew_seconds: float = inf,
        bounds: Bounds = DEFAULTS,
    ) -> None:
        self._load = load
        self._renew_seconds = renew_seconds
        self._clock = clock
        self._report = report
        self._client: ApiClient | None = None
        self._retired: dict[ApiClient, float] = {}
        self._loaded_at = 0.0
        self._is_refused = False
        """The server refused the credentials: load them again before the next request."""
        self._loading = asyncio.Lock()
        self._streams = 0
        self._is_good = False
        """The last request got a response, and no stream has ended since."""
        self._bounds = bounds
        self._backoff = Backoff(bounds.first_retry_seconds, bounds.probe_retry_seconds)
        self._turn = asyncio.Lock()
        self._not_before = 0.0
        self._waiting: dict[str, None] = {}

    @property
    def is_reachable(self) -> bool:
        return self._streams > 0 or self._is_good

    async def connect(self) -> str:
        """Load the credentials and return their namespace; raises TroubleError."""
        credentials = await self._load()
        await self._renew(credentials)
        return credentials.namespace

    async def close(self) -> None:
        for client in filter(None, (self._client, *self._retired)):
            await client.close()

    @asynccontextmanager
    async def open(
        self, scope: str, path: str, query: Query, *, action: str, accept: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield a response with status 200 whose body the caller reads.

        Raises TroubleError or ExpiredError. Errors of the caller's reads become TroubleError too.
        `action` begins every message: "watch pods".
        """
        response = await self._send_in_turn(scope, lambda: self._send(path, query, action, accept))
        self._streams += 1
        try:
            async with _reading(response, action):
                yield response
        except TroubleError as trouble:
            self._is_good &= trouble.reason not in ("Timeout", "Unreachable")
            raise
        finally:
            self._streams -= 1
            self._is_good &= self._streams > 0  # all streams ended: one request probes the server

    async def get(self, scope: str, path: str, query: Query, *, action: str, accept: str) -> bytes:
        """Return a whole body of bounded size."""
        async with (
            self.open(scope, path, query, action=action, accept=accept) as response,
            asyncio.timeout(self._bounds.answer_seconds * 3),
        ):
            return await self._body(response, action)

    async def get_proxied(self, path: str, query: Query, *, action: str) -> bytes:
        """Return a body from a server behind the API server, whose failures are its own."""
        if not self.is_reachable:
            raise TroubleError("Unreachable", f"{action}: the API server is not reachable")
        try:
            response = await self._send(path, query, action, "application/json")
        except ExpiredError:
            raise TroubleError("BadAnswer", f"{action}: HTTP 410") from None
        async with _reading(response, action), asyncio.timeout(self._bounds.answer_seconds):
            return await self._body(response, action)

    # turns

    async def _send_in_turn(self, scope: str, send: Send) -> aiohttp.ClientResponse:
        """Send a request; while the server is unreachable, only one scope at a time may."""
        if self.is_reachable:
            return await self._tracked(send)
        self._waiting[scope] = None
        try:
            async with self._turn:
                if not self.is_reachable:
                    return await self._probe(send)
        finally:
            self._waiting.pop(scope, None)
        return await self._tracked(send)

    async def _probe(self, send: Send) -> aiohttp.ClientResponse:
        await self._clock.sleep(max(0.0, self._not_before - self._clock.monotonic()))
        try:
            return await self._tracked(send)
        except RefusedError:
            raise
        except TroubleError as trouble:
            delay = self._backoff.next(trouble.retry_after)
            self._not_before = self._clock.monotonic() + delay
            for scope in self._waiting:
                self._report(scope, trouble)
            raise

    async def _tracked(self, send: Send) -> aiohttp.ClientResponse:
        """Send a request and note whether the server is reachable; a refusal is a response too."""
        try:
            response = await send()
        except (RefusedError, ExpiredError):
            self._succeed()
            raise
        except TroubleError:
            self._is_good = False
            raise
        self._succeed()
        return response

    def _succeed(self) -> None:
        self._is_good = True
        self._backoff.reset()

    # one request

    async def _send(
        self, path: str, query: Query, action: str, accept: str
    ) -> aiohttp.ClientResponse:
        client = await self._current()
        try:
            async with asyncio.timeout(self._bounds.answer_seconds):
                response: aiohttp.ClientResponse = await client.call_api(
                    path,
                    "GET",
                    query_params=list(query.items()),
                    header_params={"Accept": accept, "Accept-Encoding": "identity"},
                    auth_settings=["BearerToken"],
                    _preload_content=False,
                    _request_timeout=aiohttp.ClientTimeout(connect=self._bounds.connect_seconds),
                )
        except TimeoutError:
            raise TroubleError("Timeout", f"{action}: no response") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TroubleError("Unreachable", f"{action}: {_why(error)}") from None
        if response.status != 200:
            await self._refuse(response, action)
        return response

    async def _refuse(self, response: aiohttp.ClientResponse, action: str) -> None:
        after = retry_after(response.headers.get("Retry-After"))
        response.close()
        self._is_refused |= response.status == 401
        raise error_of(response.status, action, after)

    async def _current(self) -> ApiClient:
        """Return the client, with new credentials if the old were refused or may be rotated."""
        async with self._loading:
            age = self._clock.monotonic() - self._loaded_at
            if self._client is None or self._is_refused or age > self._renew_seconds:
                return await self._renew(await self._load())
            return self._client

    async def _renew(self, credentials: Credentials) -> ApiClient:
        """Use new credentials, with a new client if more than the token may have changed."""
        client, configuration = self._client, credentials.configuration
        is_token = client and _same_place(client.configuration, configuration)
        if client and is_token and not (self._is_refused and configuration.cert_file):
            client.configuration.api_key = configuration.api_key
        else:
            new = _client(configuration)
            await self._retire()
            client = self._client = new
        self._is_refused = False
        self._loaded_at = self._clock.monotonic()
        return client

    async def _retire(self) -> None:
        """Stop using the client; close retired clients that no request can still use."""
        now = self._clock.monotonic()
        if self._client:
            self._retired[self._client] = now
        unused = now - 2 * self._bounds.answer_seconds
        for client in [one for one, at in self._retired.items() if at < unused]:
            del self._retired[client]
            await client.close()

    async def _body(self, response: aiohttp.ClientResponse, action: str) -> bytes:
        parts, size = [], 0
        while part := await response.content.readany():
            parts.append(part)
            size += len(part)
            if size > self._bounds.body_bytes:
                raise TroubleError("BadAnswer", f"{action}: the response is too large")
        return b"".join(parts)


def _client(configuration: Any) -> ApiClient:
    try:
        return ApiClient(configuration)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        message = "cannot read the CA or the client certificate"
        raise TroubleError("InvalidConfig", message) from None


@asynccontextmanager
async def _reading(response: aiohttp.ClientResponse, action: str) -> AsyncIterator[None]:
    """Turn errors of reading a response into TroubleError."""
    try:
        yield
    except TimeoutError:
        raise TroubleError("Timeout", f"{action}: the server stopped sending") from None
    except (aiohttp.ClientError, OSError) as error:
        raise TroubleError("Unreachable", f"{action}: {type(error).__name__}") from None
    finally:
        response.close()


def error_of(status: int, action: str, retry_after: float | None = None) -> Exception:
    """Return the error for a status other than 200."""
    if status == 410:
        return ExpiredError()
    if status == 401:
        return TroubleError(
            "Unauthorized", f"{action}: the server refused the credentials (HTTP 401)"
        )
    if status == 429:
        return TroubleError("RateLimited", f"{action}: HTTP 429", retry_after=retry_after)
    if status == 403:
        return RefusedError(status, "Forbidden", f"no permission to {action}")
    if status in (502, 503, 504):
        message = f"{action}: HTTP {status}"
        return TroubleError("Unreachable", message, retry_after=retry_after)
    if status >= 500 or status < 400:
        return TroubleError("BadAnswer", f"{action}: HTTP {status}", retry_after=retry_after)
    return RefusedError(status, "BadAnswer", f"{action}: HTTP {status}")


def error_of_event(raw: msgspec.Raw, action: str) -> Exception:
    """Return the error for the `Status` object of an ERROR event."""
    try:
        status = _decode_status(raw)
    except msgspec.DecodeError:
        return TroubleError("BadAnswer", f"{action}: an ERROR event that cannot be decoded")
    retry_after = status.details.retry_after_seconds if status.details else None
    return error_of(status.code or 500, action, retry_after)


def _why(error: Exception) -> str:
    cause = getattr(error, "os_error", error)
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "TLS failed: the server's certificate or its protocol is not accepted"
    return getattr(cause, "strerror", None) or type(error).__name__


def _same_place(a: Any, b: Any) -> bool:
    names = (
        "host",
        "ssl_ca_cert",
        "cert_file",
        "key_file",
        "verify_ssl",
        "tls_server_name",
        "proxy",
    )
    return all(getattr(a, name) == getattr(b, name) for name in names)
