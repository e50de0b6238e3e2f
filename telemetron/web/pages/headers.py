"""Headers of pages: ETags, and the policies that browsers enforce."""

from hashlib import blake2b

from starlette.requests import Request
from starlette.responses import Response

from telemetron.http import header
from telemetron.web.representation import matches

# A page loads nothing from other servers, whatever the page or its scripts ask for.
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def policy(content: str = NOTHING) -> dict[str, str]:
    """Return headers that restrict a browser; `content` is a Content-Security-Policy."""
    return {
        "content-security-policy": content,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def etag_of(body: bytes) -> str:
    """Return an ETag; equal bytes have the same one."""
    return f'W/"{blake2b(body, digest_size=8).hexdigest()}"'


def unless_known(request: Request, response: Response, etag: str) -> Response:
    """Return the response with its ETag, or 304 if the client has it already."""
    headers = {"etag": etag, "cache-control": "no-cache"}
    if matches(header(request.scope, b"if-none-match"), etag.encode()):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response
