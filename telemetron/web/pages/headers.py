"""Headers of pages: ETags, and the policies that browsers enforce."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from telemetron.http import EMPTY, Scope, Send, answer, header
from telemetron.web.representation import matches

# A page loads nothing from other servers, whatever the page or its scripts ask for.
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Page(NamedTuple):
    """A page, and how it is sent."""

    body: bytes
    media: str
    headers: Mapping[str, str]
    etag: str = ""
    """Empty if a client must not keep the page."""


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


async def send_page(scope: Scope, send: Send, page: Page) -> None:
    """Send the page, or 304 if the client has it already."""
    kept = {"etag": page.etag, "cache-control": "no-cache"} if page.etag else {}
    if kept and matches(header(scope, b"if-none-match"), page.etag.encode()):
        raw = [(name.encode(), value.encode()) for name, value in kept.items()]
        await send({"type": "http.response.start", "status": 304, "headers": raw})
        return await send(EMPTY)
    charset = "; charset=utf-8" if page.media.startswith("text/") else ""
    headers = {"content-type": page.media + charset, **page.headers, **kept}
    await answer(scope, send, 200, page.body, headers)
