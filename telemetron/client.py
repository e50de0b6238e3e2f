"""A client of a running server, for the commands that read.

It uses only the standard library, because importing httpx takes longer than the rest of a command.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from telemetron.address import is_loopback
from telemetron.text import cut, printable

TIMEOUT_SECONDS = 10
# The server sends a comment every 15 s.
SILENT_SECONDS = 40
JSON, EVENTS = "application/json", "text/event-stream"
MAX_PROBLEM = 65_536
MAX_DETAIL = 1_000
MAX_NEAREST = 300
UNAUTHORIZED = "the read token is missing or wrong; use --token-file FILE or TELEMETRON_TOKEN"


class FetchError(Exception):
    """The server did not answer. The message is one line that says why.

    `nearest` has the valid values that are most similar to a wrong one, if the server names some.
    """

    def __init__(self, message: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.nearest = tuple(nearest)


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
    server = base_url(url)
    request = _request(f"{server}{path}", token, query, media, last)
    try:
        with _opener(server).open(request, timeout=timeout) as response:
            require_media(server, response.headers.get_content_type(), media)
            yield response
    except HTTPError as error:
        with error:
            refused = refusal(error.code, str(error.reason), _body(error))
            raise FetchError(f"{server}: {refused}", refused.nearest) from None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise FetchError(f"{server}: cannot be reached: {reason}") from None


def _request(
    url: str, token: str | None, query: Mapping[str, str], media: str, last: str | None
) -> Request:
    require_printable(token)
    headers = {"Accept": media} | ({"Last-Event-ID": last} if last else {})
    request = Request(f"{url}{query_string(query)}", headers=headers)  # noqa: S310  (`base_url` checks the scheme)
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def base_url(url: str) -> str:
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


def _body(error: HTTPError) -> bytes:
    try:
        return error.read(MAX_PROBLEM)
    except (OSError, HTTPException):
        return b""


# The rules of every client, whatever sends its requests.


def query_string(query: Mapping[str, str]) -> str:
    """Return the query with its `?`, or nothing if there are no parameters."""
    return f"?{urlencode(query, quote_via=quote, errors='surrogateescape')}" if query else ""


def require_printable(token: str | None) -> None:
    """Raise FetchError for a token that cannot be the value of a header."""
    if token is not None and not (token.isascii() and token.isprintable()):
        raise FetchError("the token must be one line of printable ASCII")


def require_media(server: str, given: str, media: str) -> None:
    """Raise FetchError if the answer has another media type than the one asked for."""
    if given != media:
        message = f"{server}: expected {media}, got {given}; is this a Telemetron server?"
        raise FetchError(printable(message))


def refusal(status: int, reason: str, body: bytes, unauthorized: str = UNAUTHORIZED) -> FetchError:
    """Return the error of an error response, from its problem document (RFC 9457) if possible.

    `unauthorized` says how to send a token.
    """
    try:
        problem = json.loads(body)
        detail = str(problem["detail"])
        near = [printable(cut(str(one), MAX_NEAREST)) for one in problem.get("nearest", ())[:3]]
    except (ValueError, LookupError, TypeError, AttributeError):
        detail, near = reason, []
    if status == 401:
        detail = unauthorized
    return FetchError(printable(f"{status} {cut(detail, MAX_DETAIL)}"), near)
