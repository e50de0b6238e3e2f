"""A client of a running server: what `telemetron state` and `telemetron changes` show.

Of the standard library alone: where rich and click are installed, the import of httpx takes longer
than all else that the command does.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from telemetron.config.settings import is_loopback
from telemetron.text import printable

TIMEOUT_SECONDS = 10
# A stream says at least every 15 s that it is still there.
SILENT_SECONDS = 40
JSON, EVENTS = "application/json", "text/event-stream"


class FetchError(Exception):
    """There is no answer; the message says why, in a line."""


class Answer(NamedTuple):
    """The bytes of an answer, and the `Date` they were sent with."""

    body: bytes
    date: str | None


class Event(NamedTuple):
    """One event of a stream: where to go on after it, and its data."""

    id: str
    data: str


def fetch(url: str, token: str | None, path: str, query: Mapping[str, str]) -> Answer:
    """Ask the server; raises FetchError."""
    with _opened(url, token, path, query, JSON, TIMEOUT_SECONDS) as response:
        return Answer(response.read(), response.headers["Date"])


def follow(
    url: str, token: str | None, path: str, query: Mapping[str, str], last: str | None
) -> Iterator[Event]:
    """Events after the one with this id, as they come; data may be empty.

    Ends where the server ends it; raises FetchError where it cannot be reached, or is silent.
    """
    with _opened(url, token, path, query, EVENTS, SILENT_SECONDS, last) as response:
        fields: dict[str, str] = {}
        for raw in response:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            else:
                last = fields.get("id", last)
                yield Event(last or "", fields.get("data", ""))
                fields = {}


@contextmanager
def _opened(
    url: str,
    token: str | None,
    path: str,
    query: Mapping[str, str],
    media: str,
    timeout: float,
    last: str | None = None,
) -> Iterator[Any]:
    server = _base(url)
    if token is not None and not (token.isascii() and token.isprintable()):
        raise FetchError("the token is not one line of ASCII text")
    asked = f"?{urlencode(query, quote_via=quote, errors='surrogateescape')}" if query else ""
    # `_base` looked at the scheme.
    headers = {"Accept": media} | ({"Last-Event-ID": last} if last else {})
    request = Request(f"{server}{path}{asked}", headers=headers)  # noqa: S310
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with _opener(server).open(request, timeout=timeout) as response:
            if (given := response.headers.get_content_type()) != media:
                raise FetchError(
                    printable(f"{server}: answered {given}; is this Telemetron's URL?")
                )
            yield response
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
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise FetchError("--url: takes no query and no fragment: nothing after ? or #")
    if "@" in parts.netloc:
        raise FetchError("--url: takes no user and password; give --token-file")
    return url.rstrip("/")


def _opener(server: str) -> OpenerDirector:
    """No proxy of the environment stands between this machine and itself."""
    local = is_loopback(urlsplit(server).hostname or "")
    return build_opener(ProxyHandler({} if local else None))


def _refusal(error: HTTPError) -> str:
    """Why there is no answer, from a problem document (RFC 9457) where it is one."""
    if error.code == 401:
        return "needs the read token: --token-file FILE, or TELEMETRON_TOKEN"
    try:
        detail = str(json.loads(error.read())["detail"])[:1_000]
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        detail = error.reason
    return printable(f"{error.code} {detail}")
