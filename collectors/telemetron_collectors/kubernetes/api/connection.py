"""The connection to the API server: raw answers, refusals as troubles, and who may ask when.

While nothing is reachable one request at a time goes out for the whole source, ever more slowly.
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
from telemetron_collectors.kubernetes.api.credentials import Access
from telemetron_collectors.kubernetes.api.objects import Status

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
# With an answer that never comes, still less than half a minute until it is asked for again.
CAP_SECONDS = 10.0
MAX_BODY_BYTES = 256 * 1024 * 1024

Query = Mapping[str, str]
Load = Callable[[], Awaitable[Access]]

_decode_status = msgspec.json.Decoder(Status).decode


class GoneError(Exception):
    """HTTP 410: what was asked for is older than what the server still knows."""


class RefusedError(TroubleError):
    """The server answered, and does not serve this: 403, 404, 422 and their like."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.code = code


class Connection:
    """One API server; `report(scope, trouble)` is told what hinders those that wait for it."""

    def __init__(
        self,
        load: Load,
        clock: Clock,
        report: Callable[[str, TroubleError], None],
        *,
        renew_seconds: float = inf,
    ) -> None:
        self._load = load
        self._renew_seconds = renew_seconds
        self._clock = clock
        self._report = report
        self._client: ApiClient | None = None
        self._retired: dict[ApiClient, float] = {}
        self._loaded_at = 0.0
        self._is_refused = False
        """The credentials were: they are loaded anew before the next request."""
        self._loading = asyncio.Lock()
        self._streams = 0
        self._is_good = False
        """Whether the last request was answered, and a stream has not ended since."""
        self._backoff = Backoff(cap=CAP_SECONDS)
        self._turn = asyncio.Lock()
        self._not_before = 0.0
        self._waiting: dict[str, None] = {}

    @property
    def is_reachable(self) -> bool:
        return self._streams > 0 or self._is_good

    async def connect(self) -> str:
        """Load the credentials; gives the namespace that they are of. TroubleError."""
        access = await self._load()
        await self._renew(access)
        return access.namespace

    async def close(self) -> None:
        for client in filter(None, (self._client, *self._retired)):
            await client.close()

    @asynccontextmanager
    async def open(
        self, scope: str, path: str, query: Query, *, verb: str, resource: str, accept: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer with status 200, its body to be read; TroubleError or GoneError.

        What goes wrong while it is read is a TroubleError too.
        """
        what = f"{verb} {resource}"
        response = await self._admitted(scope, lambda: self._ask(path, query, what, accept))
        self._streams += 1
        try:
            async with _reading(response, what):
                yield response
        except TroubleError as trouble:
            self._is_good &= trouble.reason not in ("Timeout", "Unreachable")
            raise
        finally:
            self._streams -= 1
            self._is_good &= self._streams > 0  # all ended: let one ask whether it is there

    async def get(
        self, scope: str, path: str, query: Query, *, verb: str, resource: str, accept: str
    ) -> bytes:
        """A whole answer, of bounded size."""
        async with (
            self.open(scope, path, query, verb=verb, resource=resource, accept=accept) as response,
            asyncio.timeout(ANSWER_SECONDS * 3),
        ):
            return await _body(response, f"{verb} {resource}")

    async def aside(self, path: str, query: Query, *, verb: str, resource: str) -> bytes:
        """A whole answer of something beside the API server, whose failure tells nothing of it."""
        what = f"{verb} {resource}"
        if not self.is_reachable:
            raise TroubleError("Unreachable", f"{what}: the API server is not reachable")
        try:
            response = await self._ask(path, query, what, "application/json")
        except GoneError:
            raise TroubleError("BadAnswer", f"{what}: HTTP 410") from None
        async with _reading(response, what), asyncio.timeout(ANSWER_SECONDS):
            return await _body(response, what)

    # whose turn it is

    async def _admitted(
        self, scope: str, ask: Callable[[], Awaitable[aiohttp.ClientResponse]]
    ) -> aiohttp.ClientResponse:
        if self.is_reachable:
            return await self._judged(ask)
        self._waiting[scope] = None
        try:
            async with self._turn:
                if not self.is_reachable:
                    return await self._probe(ask)
        finally:
            self._waiting.pop(scope, None)
        return await self._judged(ask)

    async def _probe(
        self, ask: Callable[[], Awaitable[aiohttp.ClientResponse]]
    ) -> aiohttp.ClientResponse:
        await self._clock.sleep(max(0.0, self._not_before - self._clock.monotonic()))
        try:
            return await self._judged(ask)
        except RefusedError:
            raise
        except TroubleError as trouble:
            delay = self._backoff.next(trouble.retry_after)
            self._not_before = self._clock.monotonic() + delay
            for scope in self._waiting:
                self._report(scope, trouble)
            raise

    async def _judged(
        self, ask: Callable[[], Awaitable[aiohttp.ClientResponse]]
    ) -> aiohttp.ClientResponse:
        """Whether the server is there: a refusal is an answer too."""
        try:
            response = await ask()
        except (RefusedError, GoneError):
            self._answered()
            raise
        except TroubleError:
            self._is_good = False
            raise
        self._answered()
        return response

    def _answered(self) -> None:
        self._is_good = True
        self._backoff.reset()

    # one request

    async def _ask(self, path: str, query: Query, what: str, accept: str) -> aiohttp.ClientResponse:
        client = await self._current()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response: aiohttp.ClientResponse = await client.call_api(
                    path,
                    "GET",
                    query_params=list(query.items()),
                    header_params={"Accept": accept, "Accept-Encoding": "identity"},
                    auth_settings=["BearerToken"],
                    _preload_content=False,
                    _request_timeout=aiohttp.ClientTimeout(connect=CONNECT_SECONDS),
                )
        except TimeoutError:
            raise TroubleError("Timeout", f"{what}: no answer") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TroubleError("Unreachable", f"{what}: {_why(error)}") from None
        if response.status != 200:
            await self._refuse(response, what)
        return response

    async def _refuse(self, response: aiohttp.ClientResponse, what: str) -> None:
        after = retry_after(response.headers.get("Retry-After"))
        response.close()
        self._is_refused |= response.status == 401
        raise trouble_of(response.status, what, after)

    async def _current(self) -> ApiClient:
        """The client, its credentials loaded anew where they were refused or may be rotated."""
        async with self._loading:
            age = self._clock.monotonic() - self._loaded_at
            if self._client is None or self._is_refused or age > self._renew_seconds:
                return await self._renew(await self._load())
            return self._client

    async def _renew(self, access: Access) -> ApiClient:
        """New credentials; a new client where more than a token is new, or may be."""
        client, configuration = self._client, access.configuration
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
        """The client is used no more: it is closed when no request is under way."""
        now = self._clock.monotonic()
        if self._client:
            self._retired[self._client] = now
        for client in [one for one, at in self._retired.items() if now - at > 2 * ANSWER_SECONDS]:
            del self._retired[client]
            await client.close()


def _client(configuration: Any) -> ApiClient:
    try:
        return ApiClient(configuration)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        message = "the CA or the client certificate cannot be used"
        raise TroubleError("InvalidConfig", message) from None


@asynccontextmanager
async def _reading(response: aiohttp.ClientResponse, what: str) -> AsyncIterator[None]:
    """What goes wrong while an answer is read is a TroubleError."""
    try:
        yield
    except TimeoutError:
        raise TroubleError("Timeout", f"{what}: the server fell silent") from None
    except (aiohttp.ClientError, OSError) as error:
        raise TroubleError("Unreachable", f"{what}: {type(error).__name__}") from None
    finally:
        response.close()


async def _body(response: aiohttp.ClientResponse, what: str) -> bytes:
    parts, size = [], 0
    while part := await response.content.readany():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise TroubleError("BadAnswer", f"{what}: the answer is too large")
    return b"".join(parts)


def trouble_of(status: int, what: str, retry_after: float | None = None) -> Exception:
    """What a status other than 200 means."""
    if status == 410:
        return GoneError()
    if status == 401:
        return TroubleError("Unauthorized", f"{what}: the credentials are refused (HTTP 401)")
    if status == 429:
        return TroubleError("RateLimited", f"{what}: HTTP 429", retry_after=retry_after)
    if status == 403:
        return RefusedError(status, "Forbidden", f"no permission to {what}")
    if status in (502, 503, 504):
        message = f"{what}: HTTP {status}"
        return TroubleError("Unreachable", message, retry_after=retry_after)
    if status >= 500 or status < 400:
        return TroubleError("BadAnswer", f"{what}: HTTP {status}", retry_after=retry_after)
    return RefusedError(status, "BadAnswer", f"{what}: HTTP {status}")


def status_of(raw: msgspec.Raw, what: str) -> Exception:
    """What a `Status` object in a watch means."""
    try:
        status = _decode_status(raw)
    except msgspec.DecodeError:
        return TroubleError("BadAnswer", f"{what}: an error that cannot be understood")
    retry_after = status.details.retry_after_seconds if status.details else None
    return trouble_of(status.code or 500, what, retry_after)


def _why(error: Exception) -> str:
    cause = getattr(error, "os_error", error)
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its certificate or the TLS connection is refused"
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
