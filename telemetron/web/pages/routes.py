"""What a reader finds without knowing anything: the welcome page, the schema, the API's docs."""

import asyncio
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec
from loguru import logger
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetron.collector import Collector
from telemetron.http import HttpProblem
from telemetron.query import parameters
from telemetron.service.service import Service
from telemetron.web.negotiation import preferred
from telemetron.web.pages import openapi, swagger
from telemetron.web.pages.page import NOTHING, etag_of, policy, unless_known
from telemetron.web.pages.schema import schema
from telemetron.web.pages.welcome import WRITERS, asks_tokens, base, welcome

WELCOME_HEADERS = {
    "cache-control": "no-store",
    "vary": "Accept",
    **policy(f"{NOTHING}; style-src 'unsafe-inline'"),
}


def routes(service: Service) -> list[Route]:
    """The routes of all pages."""
    documents: dict[tuple[str, ...], bytes] = {}

    async def root(request: Request) -> Response:
        parameters(request.scope["query_string"], ())
        media = preferred(request.headers.get("accept", ""), list(WRITERS))
        if media is None:
            raise HttpProblem(406, f"this page is {', '.join(WRITERS)}")
        body = WRITERS[media](welcome(service, base(request)))
        return Response(body, headers=WELCOME_HEADERS, media_type=media)

    async def state_schema(request: Request) -> Response:
        return _constant(request, await asyncio.to_thread(_schema), "application/schema+json")

    async def openapi_json(request: Request) -> Response:
        root_path = request.scope.get("root_path", "")
        collectors = {one.name: one for one in service.supervisor.mounts.collectors.values()}
        known = (root_path, *collectors)
        if known not in documents:
            # In a thread: how long a collector takes for its part is its own.
            documents[known] = await asyncio.to_thread(
                _openapi, collectors.values(), asks_tokens(service), root_path
            )
        return _constant(request, documents[known], "application/json")

    return [
        Route("/", root),
        Route("/system/schema", state_schema),
        Route("/openapi.json", openapi_json),
        *swagger.routes(),
    ]


def _constant(request: Request, body: bytes, media: str) -> Response:
    parameters(request.scope["query_string"], ())
    return unless_known(request, Response(body, media_type=media), etag_of(body))


@cache
def _schema() -> bytes:
    return msgspec.json.encode(schema())


def _openapi(collectors: Iterable[Collector], tokens: bool, root_path: str) -> bytes:
    """The document; a collector whose part cannot be made is left out of it."""

    def encoded(parts: list[dict[str, Any]]) -> bytes:
        return msgspec.json.encode(openapi.document(parts, tokens=tokens, root_path=root_path))

    parts: list[dict[str, Any]] = []
    for collector in collectors:
        if collector.openapi is None:
            continue
        try:
            part = collector.openapi()
            encoded([part])
            parts.append(part)
        except Exception as error:  # the collector's own code
            logger.opt(exception=error).error("OpenAPI: {} is left out", collector.name)
    return encoded(parts)
