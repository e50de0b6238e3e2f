"""GET requests of collectors: bounded in time and bytes. Only this module uses aiohttp."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from telemetron.poll import TroubleError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

# Many servers close a connection after 5 idle seconds; a reuse then would fail.
KEEPALIVE_SECONDS = 3.0
MAX_HEADER_BYTES = 64 * 1024
MAX_REFUSAL_BYTES = 64 * 1024
# No compression: it costs both sides more time than it saves.
HEADERS = {"accept-encoding": "identity", "user-agent": "telemetron"}


class NoAnswerError(TroubleError):
    """No answer: the server is down or frozen, or its answer is cut short or too long."""


class Response(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    """Their names are case-insensitive."""
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip()


class Fetcher:
    """Sends GET requests, and no others; connections are kept for the next request."""

    def __init__(self, session: "ClientSession", max_bytes: int) -> None:
        self._session = session
        self._max_bytes = max_bytes

    async def get(
        self, url: str, path: str, seconds: float, headers: Mapping[str, str]
    ) -> Response:
        """Return the answer; `path` names the request in errors. Raise NoAnswerError."""
        import aiohttp

        cut = (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionResetError)
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._get(url, path, headers)
                except cut:  # the server may have closed the kept connection before the request
                    return await self._get(url, path, headers)
        except TimeoutError:
            raise NoAnswerError("Timeout", f"{path}: no answer within {seconds:g} s") from None
        except (*cut, aiohttp.ClientResponseError):
            raise NoAnswerError("BadAnswer", f"{path}: no whole HTTP answer") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswerError("Unreachable", _why(error)) from None

    async def _get(self, url: str, path: str, headers: Mapping[str, str]) -> Response:
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            limit = self._max_bytes if response.status == 200 else MAX_REFUSAL_BYTES
            return Response(response.status, response.headers, await _body(path, response, limit))


@asynccontextmanager
async def fetcher(max_bytes: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Fetcher]:
    """Make a fetcher; it loads the system's certificates if `context` is None and a URL is https.

    `max_bytes` bounds a body.
    """
    await asyncio.to_thread(import_module, "aiohttp")  # which takes 0.2 s at first use
    import aiohttp

    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=context or True, limit=100, keepalive_timeout=KEEPALIVE_SECONDS
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        headers=HEADERS,
        auto_decompress=False,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )
    async with session:
        yield Fetcher(session, max_bytes)


async def _body(path: str, response: "ClientResponse", limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise NoAnswerError("BadAnswer", f"{path}: more than {limit // 1024} KiB")
    return b"".join(chunks)


def _why(error: Exception) -> str:
    """Return why there is no connection; the texts of others may contain more than we show."""
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host's name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the server's certificate is not trusted"
    if isinstance(error, aiohttp.ClientSSLError):
        return "no TLS with the server"
    return "no connection"
