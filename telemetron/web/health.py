"""Probes: the status code is the contract. None depends on what Telemetron observes, but that of an
agent, which depends on what is known of it for certain.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from telemetron.collector import ASGIApp
from telemetron.diagnosis.rule import SEVERITIES
from telemetron.document import SourceRow
from telemetron.http import HttpProblem, Receive, Scope, Send, answer, route_path
from telemetron.query import flag, parameters
from telemetron.service.service import Service

PATHS = ("/livez", "/readyz", "/healthz")
UNCACHED = {"cache-control": "no-store"}
_AGENT = re.compile(r"(/agents/)[^/].*(?<!/instances)/livez")
_MARKS = {"ok": "[+]", "starting": "[ ]", "off": "[ ]"}


def routes(service: Service, known: Sequence[str] = ("verbose",)) -> list[Route]:
    """`/livez`: this process answers. `/readyz`: it also takes new requests. `/healthz`: both.

    `known` are the query parameters that they take.
    """

    async def livez(request: Request) -> PlainTextResponse:
        return _answer(service, request, known)

    async def readyz(request: Request) -> PlainTextResponse:
        verbose = _answer(service, request, known)
        if service.stopping:
            raise HttpProblem(503, "the server is stopping; ask another one")
        return verbose

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/healthz", readyz)]


def agent_probe(service: Service, scope: Scope, path: str) -> ASGIApp | None:
    """What answers `GET /agents/{name}/livez`; None where the request is for something else.

    Where nobody takes beats nothing is known of any agent, and nothing is held against it.
    """
    if not path.endswith("/livez") or scope["method"] not in ("GET", "HEAD"):
        return None
    match = _AGENT.fullmatch(path)
    return service.supervisor.mounts.apps.get(match[1], _ok) if match else None


class Probes:
    """The application of `probe_port`: bare probes and nothing else, so that whoever reaches it may
    ask: no token, no `Host`, no detail.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        handlers = {HttpProblem: _problem, HTTPException: _problem}
        self._own = Starlette(routes=routes(service, ()), exception_handlers=handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = agent_probe(self._service, scope, route_path(scope)) or self._own
        try:
            await app(scope, receive, send)
        except HttpProblem as problem:
            await problem(scope, receive, send)


def _problem(_: Request, error: Exception) -> Any:
    if isinstance(error, HttpProblem):
        return error
    return HttpProblem(404, "here are GET /livez, /readyz, /healthz and /agents/{name}/livez alone")


async def _ok(scope: Scope, _: Receive, send: Send) -> None:
    headers = UNCACHED | {"content-type": "text/plain; charset=utf-8"}
    await answer(scope, send, 200, b"ok\n", headers)


def _answer(service: Service, request: Request, known: Sequence[str]) -> PlainTextResponse:
    asked = parameters(request.scope["query_string"], known)
    if "verbose" not in asked or not flag("verbose", asked["verbose"] or "true"):
        return PlainTextResponse("ok\n", headers=UNCACHED)
    service.guard.check(request.scope, "read")
    rows = [source.row() for source in service.store.sources.values()]
    lines = [line for row in sorted(rows, key=lambda row: row.key) for line in _lines(row)]
    lines.append(f"{request.url.path.rpartition('/')[2]} check passed")
    lines.append(f"findings: {_counted(service)}")
    return PlainTextResponse("\n".join(lines) + "\n", headers=UNCACHED)


def _counted(service: Service) -> str:
    """Return the number of findings by severity, as `1 critical, 2 warning`."""
    if service.settings.findings == "off":
        return "off"
    rope = service.store.snapshot.sections["findings"].rope
    count = Counter(fragment.entity.severity for fragment in rope)
    return ", ".join(f"{count[one]} {one}" for one in SEVERITIES if count[one]) or "none"


def _lines(row: SourceRow) -> Iterator[str]:
    """One source, as `[+]heartbeats ok since 2030-01-01T00:00:00Z`, and its problems."""
    yield f"{_MARKS.get(row.status, '[-]')}{row.key} {row.status} since {_time(row)}"
    for problem in row.problems:
        scope = f" {problem.scope}:" if problem.scope else ""
        yield f"   {problem.reason}:{scope} {problem.message}"


def _time(row: SourceRow) -> str:
    return row.since.isoformat(timespec="seconds").replace("+00:00", "Z")
