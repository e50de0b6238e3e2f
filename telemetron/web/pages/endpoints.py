"""The endpoints of the pages."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import cache

import msgspec
from loguru import logger
from starlette.requests import Request
from starlette.responses import Response

from telemetron.collector import Collector
from telemetron.http import HttpProblem, Receive, Scope, Send
from telemetron.query import parameters
from telemetron.service.service import Service
from telemetron.web.negotiation import preferred
from telemetron.web.pages import openapi, swagger
from telemetron.web.pages.guide import guide
from telemetron.web.pages.headers import NOTHING, etag_of, policy, unless_known
from telemetron.web.pages.openapi import ApiPart
from telemetron.web.pages.schema import schema
from telemetron.web.pages.welcome import WRITERS, base, roles, welcome
from telemetron.web.routes import Endpoint

WELCOME_HEADERS = {
    "cache-control": "no-store",
    "vary": "Accept",
    **policy(f"{NOTHING}; style-src 'unsafe-inline'"),
}


class Pages:
    """All pages of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._documents: dict[tuple[str, ...], bytes] = {}

    def endpoints(self) -> dict[str, Endpoint]:
        """Return the endpoints by the id of their route."""
        return {
            "guide": _endpoint(self._guide),
            "welcome": _endpoint(self._welcome),
            "schema": _endpoint(self._schema),
            "openapi": _endpoint(self._openapi),
            "swagger": _endpoint(swagger.file),
        }

    async def _welcome(self, request: Request) -> Response:
        media = preferred(request.headers.get("accept", ""), list(WRITERS))
        if media is None:
            raise HttpProblem(406, f"this page is {', '.join(WRITERS)}")
        body = WRITERS[media](welcome(self._service, base(request)))
        return Response(body, headers=WELCOME_HEADERS, media_type=media)

    async def _guide(self, request: Request) -> Response:
        return _constant(request, guide(request.scope.get("root_path", "")), "text/plain")

    async def _schema(self, request: Request) -> Response:
        body = await asyncio.to_thread(_encoded_schema)
        return _constant(request, body, "application/schema+json")

    async def _openapi(self, request: Request) -> Response:
        mounts = self._service.supervisor.mounts
        used = {one.name: one for one in mounts.collectors.values()}
        unused = {name: one for name, one in mounts.probing.items() if name not in used}
        root_path = request.scope.get("root_path", "")
        known = (root_path, *used, "", *unused)
        if known not in self._documents:
            parts = [*used.values()], [*unused.values()]
            # In a thread: a collector may take long to describe itself.
            self._documents[known] = await asyncio.to_thread(
                _encoded_openapi, *parts, roles(self._service), root_path
            )
        return _constant(request, self._documents[known], "application/json")


def _endpoint(page: Callable[[Request], Awaitable[Response]]) -> Endpoint:
    """Return the endpoint of a page without query parameters."""

    async def endpoint(scope: Scope, receive: Receive, send: Send, path: str) -> None:
        parameters(scope["query_string"], ())
        response = await page(Request(scope, receive))
        await response(scope, receive, send)

    return endpoint


def _constant(request: Request, body: bytes, media: str) -> Response:
    return unless_known(request, Response(body, media_type=media), etag_of(body))


@cache
def _encoded_schema() -> bytes:
    return msgspec.json.encode(schema())


def _encoded_openapi(
    used: list[Collector], unused: list[Collector], tokens: Collection[str], root_path: str
) -> bytes:
    """Return the document; leave out a collector whose part fails."""

    def encoded(parts: list[ApiPart]) -> bytes:
        return msgspec.json.encode(openapi.document(parts, tokens=tokens, root_path=root_path))

    parts: list[ApiPart] = []
    for collector in [*used, *unused]:
        try:
            part = openapi.part(collector, only_probes=collector in unused)
            encoded([part])
            parts.append(part)
        except Exception as error:  # the collector's own code
            logger.opt(exception=error).error(
                "OpenAPI: collector {} is left out, as its part failed", collector.name
            )
    return encoded(parts)
