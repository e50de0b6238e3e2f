"""Requests to Telemetron that never block the event loop and always end within a time limit."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from telemetron.address import is_loopback
from telemetron.client import (
    JSON,
    TIMEOUT_SECONDS,
    UNAUTHORIZED,
    FetchError,
    base_url,
    query_string,
    refusal,
    require_media,
    require_printable,
)
from telemetron.text import printable

MAX_BYTES = 64 * 1024 * 1024
MAX_CONNECTIONS = 16  # each may hold a whole document


class Response(NamedTuple):
    """The document of an answer, and the server's time (`Date`) when it was sent."""

    document: Any
    now: datetime


Ask = Callable[[str, Mapping[str, str]], Awaitable[Response]]
"""Sends a GET request for a path with a query. Raises FetchError."""


class Api:
    """The HTTP API of one server; requests share connections."""

    def __init__(
        self, url: str, unauthorized: str = UNAUTHORIZED, seconds: float = TIMEOUT_SECONDS
    ) -> None:
        """`unauthorized` says in an error how to send a token. Raises FetchError for a bad URL."""
        self._server = base_url(url)
        self._unauthorized = unauthorized
        self._seconds = seconds
        parts = urlsplit(self._server)
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context() if parts.scheme == "https" else False,
            trust_env=not is_loopback(parts.hostname or ""),  # proxies are for other machines
            timeout=seconds,  # of each step; `get` limits the whole request
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
        )

    async def get(self, token: str | None, path: str, query: Mapping[str, str]) -> Response:
        """Return the document at a path. Raises FetchError, also after the time limit."""
        require_printable(token)
        try:
            async with asyncio.timeout(self._seconds):
                return await self._get(token, f"{self._server}{path}{query_string(query)}")
        except TimeoutError:
            raise self._error(f"no answer within {self._seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            reason = str(error) or type(error).__name__
            raise self._error(f"cannot be reached: {reason}") from None

    async def _get(self, token: str | None, url: str) -> Response:
        headers = {"Accept": JSON, "Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        async with self._client.stream("GET", url, headers=headers) as response:
            body = await self._body(response)
        if response.status_code != 200:
            status, reason = response.status_code, response.reason_phrase
            raise refusal(status, reason, body, self._unauthorized)
        media = response.headers.get("Content-Type", "no media type").partition(";")[0].strip()
        require_media(self._server, media, JSON)
        try:
            return Response(msgspec.json.decode(body, type=dict[str, Any]), _date(response))
        except msgspec.MsgspecError as error:
            raise self._error(f"unexpected response: {error}") from None

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise self._error(f"the answer is larger than {MAX_BYTES >> 20} MiB")
        return bytes(body)

    def _error(self, text: str) -> FetchError:
        return FetchError(printable(f"{self._server}: {text}"))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _date(response: httpx.Response) -> datetime:
    try:
        return parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (LookupError, ValueError):
        return datetime.now(UTC)


def segment(text: str) -> str:
    """Return a text as one segment of a path, also `.` and `..`, which clients would resolve."""
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")
