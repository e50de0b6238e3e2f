"""MCP clients of tests: the official one without a socket, and raw JSON-RPC over ASGI."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from telemetron.client import FetchError
from telemetron.mcp.api import Response
from telemetron.mcp.http import PATH, Endpoint

NOW = datetime(2030, 1, 6, 10, 0, 0, tzinfo=UTC)
OLD = {"mcp-protocol-version": "2025-06-18"}
MODERN = {
    "mcp-protocol-version": "2026-07-28",
    "accept": "application/json, text/event-stream",
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class Asked:
    """Stands for the HTTP API: gives each request the same document, and keeps the request."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.requests: list[tuple[str, dict[str, str]]] = []

    async def __call__(self, path: str, query: Mapping[str, str]) -> Response:
        self.requests.append((path, dict(query)))
        if isinstance(self.document, FetchError):
            raise self.document
        return Response(self.document, NOW)


def request(method: str, id: int = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def call(tool: str, id: int = 1, **arguments: Any) -> dict[str, Any]:
    return request("tools/call", id, name=tool, arguments=arguments)


def text(result: Any) -> Any:
    """Return the only content of a result, decoded; a result of the client or of the wire."""
    if isinstance(result, Mapping):
        (one,) = result["content"]
        assert "structuredContent" not in result
        return json.loads(one["text"])
    (one,) = result.content
    assert result.structured_content is None
    return json.loads(one.text)


@asynccontextmanager
async def serving(url: str, *hosts: str) -> AsyncIterator[Endpoint]:
    """Run the ASGI application, as a server runs it."""
    app = Endpoint(url, hosts)
    received: asyncio.Queue[Any] = asyncio.Queue()
    sent: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    life = asyncio.create_task(app(scope, received.get, sent.put))
    await received.put({"type": "lifespan.startup"})
    assert await sent.get() == {"type": "lifespan.startup.complete"}
    try:
        yield app
    finally:
        await received.put({"type": "lifespan.shutdown"})
        await life


@asynccontextmanager
async def official(app: Endpoint, **options: Any) -> AsyncIterator[Client]:
    """Connect the official client without a socket."""
    headers = options.pop("headers", {})
    transport = httpx2.ASGITransport(app)
    async with (
        httpx2.AsyncClient(transport=transport, headers=headers) as http,
        Client(
            streamable_http_client(f"http://localhost{PATH}", http_client=http), **options
        ) as client,
    ):
        yield client


@asynccontextmanager
async def raw(app: Endpoint, host: str = "localhost") -> AsyncIterator[httpx.AsyncClient]:
    """Connect a plain HTTP client without a socket."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        yield client
