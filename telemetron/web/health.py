"""Probes: the status code is the contract. None of them depends on what Telemetron observes."""

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from telemetron.document import SourceRow
from telemetron.http import HttpProblem
from telemetron.web.query import flag, parameters
from telemetron.web.service import Service

UNCACHED = {"cache-control": "no-store"}
_MARKS = {"ok": "[+]", "starting": "[ ]", "off": "[ ]"}


def routes(service: Service) -> list[Route]:
    """`/livez`: this process answers. `/readyz`: it also takes new requests. `/healthz`: both."""

    async def livez(request: Request) -> PlainTextResponse:
        return _answer(service, request)

    async def readyz(request: Request) -> PlainTextResponse:
        verbose = _answer(service, request)
        if service.stopping:
            raise HttpProblem(503, "the server is stopping; ask another one")
        return verbose

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/healthz", readyz)]


def _answer(service: Service, request: Request) -> PlainTextResponse:
    asked = parameters(request.scope["query_string"], ("verbose",))
    if "verbose" not in asked or not flag("verbose", asked["verbose"] or "true"):
        return PlainTextResponse("ok\n", headers=UNCACHED)
    service.guard.check(request.scope, "read")
    rows = [source.row() for source in service.store.sources.values()]
    lines = [line for row in sorted(rows, key=lambda row: row.key) for line in _lines(row)]
    lines.append(f"{request.url.path.rpartition('/')[2]} check passed")
    return PlainTextResponse("\n".join(lines) + "\n", headers=UNCACHED)


def _lines(row: SourceRow) -> Iterator[str]:
    """One source, as `[+]heartbeats ok since 2030-01-01T00:00:00Z`, and its problems."""
    yield f"{_MARKS.get(row.status, '[-]')}{row.key} {row.status} since {_time(row)}"
    for problem in row.problems:
        scope = f" {problem.scope}:" if problem.scope else ""
        yield f"   {problem.reason}:{scope} {problem.message}"


def _time(row: SourceRow) -> str:
    return row.since.isoformat(timespec="seconds").replace("+00:00", "Z")
