"""The endpoints of the pages."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import cache

import msgspec
from loguru import logger

from telemetron.collector import Collector
from telemetron.http import HttpProblem, Receive, Scope, Send, header
from telemetron.query import parameters
from telemetron.service.service import Service
from telemetron.web.negotiation import preferred
from telemetron.web.pages import openapi, swagger
from telemetron.web.pages.guide import guide
from telemetron.web.pages.headers import NOTHING, Page, etag_of, policy, send_page
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

    async def _welcome(self, scope: Scope) -> Page:
        media = preferred(header(scope, b"accept").decode("latin-1"), list(WRITERS))
        if media is None:
            raise HttpProblem(406, f"this page is {', '.join(WRITERS)}")
        body = WRITERS[media](welcome(self._service, base(scope)))
        return Page(body, media, WELCOME_HEADERS)

    async def _guide(self, scope: Scope) -> Page:
        return _constant(guide(scope["root_path"]), "text/plain")

    async def _schema(self, _: Scope) -> Page:
        return _constant(await asyncio.to_thread(_encoded_schema), "application/schema+json")

    async def _openapi(self, scope: Scope) -> Page:
        mounts = self._service.supervisor.mounts
        used = {one.name: one for one in mounts.collectors.values()}
        unused = {name: one for name, one in mounts.probing.items() if name not in used}
        root_path = scope["root_path"]
        known = (root_path, *used, "", *unused)
        if known not in self._documents:
            parts = [*used.values()], [*unused.values()]
            # In a thread: a collector may take long to describe itself.
            self._documents[known] = await asyncio.to_thread(
                _encoded_openapi, *parts, roles(self._service), root_path
            )
        return _constant(self._documents[known], "application/json")


def _endpoint(page: Callable[[Scope], Awaitable[Page]]) -> Endpoint:
    """Return the endpoint of a page without query parameters."""

    async def endpoint(scope: Scope, receive: Receive, send: Send, path: str) -> None:
        parameters(scope["query_string"], ())
        await send_page(scope, send, await page(scope))

    return endpoint


def _constant(body: bytes, media: str) -> Page:
    return Page(body, media, {}, etag_of(body))


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
