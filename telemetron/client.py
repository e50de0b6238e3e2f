"""A client of a running server: what `telemetron state` shows.

Of the standard library alone: where rich and click are installed, the import of httpx takes longer
than all else that the command does.
"""

import json
from collections.abc import Sequence
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from telemetron.config import is_loopback
from telemetron.logs import printable

TIMEOUT_SECONDS = 10


class FetchError(Exception):
    """There is no state; the message says why, in a line."""


class Answer(NamedTuple):
    """The bytes of `/system/state`, and the `Date` they were sent with."""

    body: bytes
    date: str | None


def fetch(url: str, token: str | None, sections: Sequence[str]) -> Answer:
    """Ask the server for the sections, or for all; raises FetchError."""
    server = _base(url)
    if token is not None and not (token.isascii() and token.isprintable()):
        raise FetchError("the token is not one line of ASCII text")
    query = f"?sections={quote(','.join(sections))}" if sections else ""
    request = Request(f"{server}/system/state{query}")  # noqa: S310  (`_base` looked at the scheme)
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with _opener(server).open(request, timeout=TIMEOUT_SECONDS) as response:
            return Answer(response.read(), response.headers["Date"])
    except HTTPError as error:
        with error:
            raise FetchError(f"{server}: {_refusal(error)}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise FetchError(f"{server}: cannot be reached: {reason}") from None


def _base(url: str) -> str:
    """The URL without a slash at its end, if it is one."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise FetchError("--url: expected http://HOST:PORT or https://HOST:PORT")
    if "@" in parts.netloc:
        raise FetchError("--url: takes no user and password; give --token-file")
    return url.rstrip("/")


def _opener(server: str) -> OpenerDirector:
    """No proxy of the environment stands between this machine and itself."""
    local = is_loopback(urlsplit(server).hostname or "")
    return build_opener(ProxyHandler({} if local else None))


def _refusal(error: HTTPError) -> str:
    """Why there is no state, from a problem document (RFC 9457) where it is one."""
    if error.code == 401:
        return "needs the read token: --token-file FILE, or TELEMETRON_TOKEN"
    try:
        detail = str(json.loads(error.read())["detail"])[:1_000]
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        detail = error.reason
    return printable(f"{error.code} {detail}")
