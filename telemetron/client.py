"""A client of a running server, for the commands that read.

It uses only the standard library, because importing httpx takes longer than the rest of a command.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from telemetron.address import is_loopback
from telemetron.text import printable

TIMEOUT_SECONDS = 10
# The server sends a comment every 15 s.
SILENT_SECONDS = 40
JSON, EVENTS = "application/json", "text/event-stream"


class FetchError(Exception):
    """The server did not answer. The message is one line that says why."""


class Response(NamedTuple):
    """The body of an answer, and the server's time (`Date`) when it was sent."""

    body: bytes
    now: datetime


class ServerSentEvent(NamedTuple):
    """One event of a stream: the place after which to resume, and its data, which may be empty."""

    id: str
    data: str


def fetch(
    url: str, token: str | None, path: str, query: Mapping[str, str], media: str = JSON
) -> Response:
    """Send a GET request for this media type. Raises FetchError."""
    with _opened(url, token, path, query, media, TIMEOUT_SECONDS) as response:
        date = response.headers["Date"]
        return Response(response.read(), parsedate_to_datetime(date) if date else datetime.now(UTC))


def follow(
    url: str, token: str | None, path: str, query: Mapping[str, str], last: str | None
) -> Iterator[ServerSentEvent]:
    """Yield the events after the one with the id `last`, as they arrive.

    Returns if the server ends the stream. Raises FetchError if the server cannot be reached or
    sends nothing for 40 s.
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
                yield ServerSentEvent(last or "", fields.get("data", ""))
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
    request = _request(f"{server}{path}", token, query, media, last)
    try:
        with _opener(server).open(request, timeout=timeout) as response:
            if (given := response.headers.get_content_type()) != media:
                message = f"{server}: expected {media}, got {given}; is this a Telemetron server?"
                raise FetchError(printable(message))
            yield response
    except HTTPError as error:
        with error:
            raise FetchError(f"{server}: {_refusal(error)}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise FetchError(f"{server}: cannot be reached: {reason}") from None


def _request(
    url: str, token: str | None, query: Mapping[str, str], media: str, last: str | None
) -> Request:
    if token is not None and not (token.isascii() and token.isprintable()):
        raise FetchError("the token must be one line of printable ASCII")
    asked = f"?{urlencode(query, quote_via=quote, errors='surrogateescape')}" if query else ""
    headers = {"Accept": media} | ({"Last-Event-ID": last} if last else {})
    request = Request(f"{url}{asked}", headers=headers)  # noqa: S310  (`_base` checks the scheme)
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _base(url: str) -> str:
    """Return the URL without a slash at its end. Raises FetchError if it is not valid."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise FetchError("--url: expected http://HOST:PORT or https://HOST:PORT")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise FetchError("--url: remove the query or the fragment (everything from ? or #)")
    if "@" in parts.netloc:
        raise FetchError("--url: remove the user and password; use --token-file instead")
    return url.rstrip("/")


def _opener(server: str) -> OpenerDirector:
    """Return an opener that ignores the environment's proxies if the server is on loopback."""
    local = is_loopback(urlsplit(server).hostname or "")
    return build_opener(ProxyHandler({} if local else None))


def _refusal(error: HTTPError) -> str:
    """Return the reason of an error response, from its problem document (RFC 9457) if possible."""
    if error.code == 401:
        return "401 the read token is missing or wrong; use --token-file FILE or TELEMETRON_TOKEN"
    try:
        detail = str(json.loads(error.read())["detail"])[:1_000]
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        detail = error.reason
    return printable(f"{error.code} {detail}")
