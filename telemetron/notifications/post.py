"""POST requests to receivers. Only this module uses httpx; redirects are never followed."""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from telemetron.backoff import retry_after
from telemetron.notifications.pace import DEFAULTS

TIMEOUT_SECONDS = DEFAULTS.timeout
KEEPALIVE_SECONDS = 20.0
MAX_ANSWER_BYTES = 2_048
BODY_SECONDS = 1.0


class Answer(NamedTuple):
    """The outcome of a request: a status, or the reason why there is none."""

    status: int | None
    reason: str
    """One of `telemetron.reason`; empty if the receiver has accepted the request."""
    message: str
    retry_after: float | None = None
    body: bytes = b""
    """The beginning of the answer, which others wrote."""

    @property
    def is_ok(self) -> bool:
        """Whether the receiver has accepted the request."""
        return not self.reason


def client(verify: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """Make a client; call it in a thread, because it reads the system's certificates."""
    return httpx.AsyncClient(
        verify=verify or ssl.create_default_context(),
        limits=httpx.Limits(keepalive_expiry=KEEPALIVE_SECONDS),
        follow_redirects=False,
        headers={"accept-encoding": "identity", "user-agent": "telemetron"},
        trust_env=False,
    )


async def post(
    http: httpx.AsyncClient,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout: float = TIMEOUT_SECONDS,
    auth: httpx.Auth | None = None,
) -> Answer:
    """Send one request and return its outcome; it raises nothing.

    The messages contain neither the URL, which may be secret, nor the answer's text.
    """
    try:
        async with (
            asyncio.timeout(timeout),
            http.stream(
                "POST", url, content=body, headers=headers, timeout=timeout, auth=auth
            ) as response,
        ):
            return _answer(response, await _beginning(response))
    except (TimeoutError, httpx.TimeoutException):
        return Answer(None, "Timeout", f"no answer within {timeout:g} s")
    except httpx.RemoteProtocolError:
        return Answer(None, "BadAnswer", "no whole HTTP answer")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Answer(None, "Unreachable", _cause(error))


async def _beginning(response: httpx.Response) -> bytes:
    """Return the first bytes of the answer; its status counts even if the body never ends."""
    body = b""
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    break
    return body[:MAX_ANSWER_BYTES]


def _answer(response: httpx.Response, body: bytes) -> Answer:
    status = response.status_code
    if response.is_success:
        return Answer(status, "", f"answered {status}", None, body)
    message = f"answered {status} {response.reason_phrase}".rstrip()
    if response.is_redirect:
        message += "; redirects are not followed, so configure the final URL"
    reasons = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 410: "NotFound"}
    reason = "RateLimited" if status == 429 else reasons.get(status, "BadAnswer")
    return Answer(status, reason, message, retry_after(response.headers.get("retry-after")), body)


def _cause(error: Exception) -> str:
    """Return the kind of the innermost error, such as a wrong certificate."""
    while isinstance(cause := error.__cause__ or error.__context__, Exception):
        error = cause
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def origin(url: str) -> str:
    """Return scheme, host and port of a URL: its path may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
