"""Pages: their ETags, and what binds a browser that shows them."""

from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from telemetron.http import header
from telemetron.web.representation import matches

# Nothing is loaded from elsewhere, whatever a page or its scripts would like to.
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def policy(content: str = NOTHING) -> dict[str, str]:
    """Headers that bind a browser; `content` is a Content-Security-Policy."""
    return {
        "content-security-policy": content,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def etag_of(body: bytes) -> str:
    """The same for the same bytes."""
    return f'W/"{blake2b(body, digest_size=8).hexdigest()}"'


def unless_known(request: Request, response: Response, etag: str) -> Response:
    """The response, to be asked for again with its ETag; 304 to a client that has it already."""
    headers = {"etag": etag, "cache-control": "no-cache"}
    if matches(header(request.scope, b"if-none-match"), etag.encode()):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response
