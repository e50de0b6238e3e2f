"""Requests to the proxy. Only this module interprets status codes.

TroubleError                 a problem that the document shows
├── NoAnswerError            no answer of LiteLLM: down, frozen, cut short, another server
└── RefusalError             another status than 200: 401, 403, 404, 429, 500 …
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from telemetron.backoff import retry_after
from telemetron.fetch import Fetcher, NoAnswerError, Response, fetcher
from telemetron.poll import TroubleError
from telemetron_collectors.litellm.key import ProxyKey


class HttpLimits(NamedTuple):
    """Limits of one request."""

    timeout_seconds: float = 10.0
    alive_timeout_seconds: float = 5.0
    max_bytes: int = 64 * 1024 * 1024


class HttpAnswer(NamedTuple):
    """A body, and its date by the proxy's clock, in seconds since the Unix epoch."""

    body: bytes
    date: float | None


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

    def __init__(self, fetcher: Fetcher, url: str, key: ProxyKey, limits: HttpLimits) -> None:
        self.key = key
        self.limits = limits
        self._fetcher = fetcher
        self._url = url.rstrip("/")

    async def get(
        self, target: str, *, kind: str = "application/json", timeout: float | None = None
    ) -> HttpAnswer:
        """Return the answer to a path with its query; its media type must be `kind`.

        Raise NoAnswerError or RefusalError.
        """
        path = target.partition("?")[0]
        seconds = timeout or self.limits.timeout_seconds
        response = await self._fetcher.get(self._url + target, path, seconds, self._headers())
        if response.status != 200:
            raise _refusal(path, response)
        if response.media_type != kind:
            raise NoAnswerError("BadAnswer", f"{path}: the answer is not {kind}")
        return HttpAnswer(response.body, _date(response.headers.get("date", "")))

    def _headers(self) -> dict[str, str]:
        key = self.key.value
        if not key:
            return {}
        if not (key.isascii() and key.isprintable()):
            raise RefusalError("Unauthorized", "the key must be printable ASCII", status=401)
        return {"authorization": f"Bearer {key}"}


@asynccontextmanager
async def connect(url: str, key: ProxyKey, limits: HttpLimits) -> AsyncIterator[Client]:
    """Make a client of the proxy; the first request opens a connection."""
    async with fetcher(limits.max_bytes) as its:
        yield Client(its, url, key, limits)


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
    ambiguous = status == 500 and response.media_type == "text/plain"
    return RefusalError(
        "BadAnswer", f"{path}: answered {status}", status=status, ambiguous=ambiguous
    )


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
