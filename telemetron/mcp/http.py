"""`telemetron mcp --http`: MCP's streamable HTTP, stateless and with JSON answers, on one path.

It serves clients with the handshake of 2025 (`initialize`) and without it. Each call is answered
with the token of its caller.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from mcp.server.transport_security import TransportSecuritySettings

from telemetron.http import HttpProblem, Receive, Scope, Send, answer, header, require_method
from telemetron.mcp.api import Api
from telemetron.mcp.server import Context, server
from telemetron.web.server.server import serve

PATH = "/mcp"
PROBE = "/livez"
MAX_BODY = 1024 * 1024
LOCAL = ("localhost", "127.0.0.1", "::1")
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  (compared, not listened on)
UNAUTHORIZED = "the read token is missing or wrong; send Authorization: Bearer TOKEN to this server"


class Endpoint:
    """The ASGI application: checks a request, then passes it on to the MCP server."""

    def __init__(self, url: str, hosts: Iterable[str] = ()) -> None:
        """`hosts` are the names under which clients may reach it, besides those of loopback.

        Raises FetchError if the URL of Telemetron is not valid.
        """
        self._api = Api(url, UNAUTHORIZED)
        self._hosts = {*LOCAL, *(host.lower() for host in hosts)} - {*WILDCARDS}
        self._mcp = server(self._api, bearer_token).streamable_http_app(
            streamable_http_path=PATH,
            json_response=True,
            stateless_http=True,
            max_request_body_size=MAX_BODY,
            # `_check` knows the names of a Service too.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._mcp(scope, receive, send)
            return await self._api.close()
        try:
            if scope["path"] == PROBE:
                return await answer(scope, send, 200, b"ok", {"content-type": "text/plain"})
            self._check(scope)
        except HttpProblem as problem:
            return await problem(scope, receive, send)
        return await self._mcp(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Refuse foreign names (DNS rebinding), web pages, other paths and other methods."""
        host = header(scope, b"host").decode("latin-1")
        if _name(f"//{host}") not in self._hosts:
            raise HttpProblem(421, "foreign Host header; allow a name with --allow-host NAME")
        origin = header(scope, b"origin").decode("latin-1")
        if origin and _name(origin) not in self._hosts:
            raise HttpProblem(403, "foreign Origin header; allow a name with --allow-host NAME")
        if scope["path"] != PATH:
            raise HttpProblem(404, f"no such path; MCP is at {PATH}")
        require_method(scope, "POST")


def _name(url: str) -> str | None:
    """Return the host of a URL, without the port and the brackets of IPv6."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def bearer_token(context: Context) -> str | None:
    """Return the token of the caller."""
    headers: Any = context.request.headers if context.request is not None else {}
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def run(url: str, host: str, port: int, hosts: Iterable[str]) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code.

    Raises StartError, and FetchError for a bad URL.
    """
    return serve(Endpoint(url, (host, *hosts)), host=host, port=port)
