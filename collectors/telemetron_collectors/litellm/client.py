"""Requests to the proxy. Only this module interprets status codes.

TroubleError                 a problem that the document shows
├── NoAnswerError            no answer of LiteLLM: down, frozen, cut short, another server
└── RefusalError             another status than 200: 401, 403, 404, 429, 500 …
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from telemetron.backoff import retry_after
from telemetron.poll import TroubleError
from telemetron_collectors.litellm.connection import (
    Connections,
    CutError,
    Response,
    TooLargeError,
)
from telemetron_collectors.litellm.key import ProxyKey

# No compression: it costs both sides more time than it saves.
HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "telemetron"}


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

    def __init__(self, connections: Connections, key: ProxyKey, limits: HttpLimits) -> None:
        self.key = key
        self.limits = limits
        self._connections = connections

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
                response = await self._get(target)
        except TimeoutError:
            raise NoAnswerError("Timeout", f"{path}: no answer within {timeout:g} s") from None
        except CutError:
            raise NoAnswerError("BadAnswer", f"{path}: no whole HTTP answer") from None
        except TooLargeError as error:
            limit = error.args[0] // 1024
            raise NoAnswerError("BadAnswer", f"{path}: more than {limit} KiB") from None
        except OSError as error:
            raise NoAnswerError("Unreachable", type(error).__name__) from None
        if response.status != 200:
            raise _refusal(path, response)
        if _media(response) != kind:
            raise NoAnswerError("BadAnswer", f"{path}: the answer is not {kind}")
        return HttpAnswer(response.body, _date(response.headers.get("date", "")))

    async def _get(self, target: str) -> Response:
        headers = HEADERS
        if key := self.key.value:
            if not (key.isascii() and key.isprintable()):
                raise RefusalError("Unauthorized", "the key must be printable ASCII", status=401)
            headers = {**HEADERS, "authorization": f"Bearer {key}"}
        try:
            return await self._connections.get(target, headers, self.limits.max_bytes)
        except (CutError, ConnectionError):
            # The proxy may have closed the kept connection before the request.
            return await self._connections.get(target, headers, self.limits.max_bytes)


@asynccontextmanager
async def connect(url: str, key: ProxyKey, limits: HttpLimits) -> AsyncIterator[Client]:
    """Make a client of the proxy; the first request opens a connection."""
    secure = url.startswith("https:")
    # It reads all certificates of the system.
    context = await asyncio.to_thread(ssl.create_default_context) if secure else None
    connections = Connections(url, context)
    try:
        yield Client(connections, key, limits)
    finally:
        connections.close()


def forbidden(path: str, status: int) -> RefusalError:
    """Return the error for a valid key that may not read this path."""
    return RefusalError("Forbidden", f"{path}: the key is not permitted", status=status, path=path)


def _refusal(path: str, response: Response) -> RefusalError:
    """Interpret the status; without a database LiteLLM answers 400 to a wrong key, 500 to none."""
    status = response.status
    if status == 401 or (status == 400 and b"no_db_connection" in response.body):
        message = "the proxy does not accept the key"
        return RefusalError("Unauthorized", message, status=status, path=path)
    if status == 403:
        return forbidden(path, status)
    if status == 429:
        after = retry_after(response.headers.get("retry-after"))
        return RefusalError("RateLimited", f"{path}: 429", status=status, retry_after=after)
    ambiguous = status == 500 and _media(response) == "text/plain"
    return RefusalError(
        "BadAnswer", f"{path}: answered {status}", status=status, ambiguous=ambiguous
    )


def _media(response: Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip()


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
