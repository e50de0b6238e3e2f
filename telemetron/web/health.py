"""Probes: the status code is the contract, and it never depends on the observed system.

The probes of collectors, such as that of an agent, do depend on it; see `telemetron.collector`.
"""

from collections import Counter
from collections.abc import Iterator

from telemetron.diagnosis.rule import SEVERITIES
from telemetron.document import SourceRow
from telemetron.http import HttpProblem, Receive, Scope, Send, answer, route_path
from telemetron.query import flag, parameters
from telemetron.service.outputs import Mounts
from telemetron.store.store import Store
from telemetron.web.guard import Guard
from telemetron.web.routes import LIVEZ, METHODS, ROUTES
from telemetron.web.waiters import Waiters

HEADERS = {"cache-control": "no-store", "content-type": "text/plain; charset=utf-8"}
PATHS = [route.path for route in ROUTES if route.tag == "health"]
_MARKS = {"ok": "[+]", "starting": "[ ]", "off": "[ ]"}


class HealthApp:
    """The endpoint of the probes: `/livez` always succeeds, the others until the server stops."""

    def __init__(self, store: Store, guard: Guard, waiters: Waiters) -> None:
        self._store = store
        self._guard = guard
        self._waiters = waiters

    async def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        given = parameters(scope["query_string"], ("verbose",))
        verbose = "verbose" in given and flag("verbose", given["verbose"] or "true")
        if verbose:
            self._guard.check(scope, "read")
        _require_success(path, self._waiters)
        text = self._report(path) if verbose else "ok\n"
        await answer(scope, send, 200, text.encode(), HEADERS)

    def _report(self, path: str) -> str:
        rows = [source.row() for source in self._store.sources.values()]
        lines = [line for row in sorted(rows, key=lambda row: row.key) for line in _lines(row)]
        return "\n".join([*lines, f"{path[1:]} check passed", f"findings: {self._count()}\n"])

    def _count(self) -> str:
        """Return the number of findings by severity, as `1 critical, 2 warning`."""
        if self._store.sources["findings"].status == "off":
            return "off"
        rope = self._store.snapshot.sections["findings"].rope
        count = Counter(fragment.entity.severity for fragment in rope)
        return ", ".join(f"{count[one]} {one}" for one in SEVERITIES if count[one]) or "none"


class Probes:
    """The application of the probe port: only bare probes.

    Everybody who reaches the port may ask it: it needs no token, accepts any `Host` and shows no
    details.
    """

    def __init__(self, waiters: Waiters, mounts: Mounts) -> None:
        self._waiters = waiters
        self._mounts = mounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        except HttpProblem as problem:
            if problem.status == 405:
                problem = self._not_found()
            await problem(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = route_path(scope)
        if scope["method"] not in METHODS:
            raise self._not_found()
        if prefix := self._mounts.probe(path):
            return await self._mounts.apps.get(prefix, alive)(scope, receive, send)
        if path not in PATHS:
            raise self._not_found()
        parameters(scope["query_string"], ())
        _require_success(path, self._waiters)
        return await alive(scope, receive, send)

    def _not_found(self) -> HttpProblem:
        known = ", ".join([*PATHS, *self._mounts.probes])
        return HttpProblem(404, f"the probe port answers only GET of {known}")


def _require_success(path: str, waiters: Waiters) -> None:
    """Raise HttpProblem 503 if the probe fails."""
    if waiters.stopping and path != LIVEZ:
        raise HttpProblem(503, "the server is stopping; ask another one")


async def alive(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 200: nothing is known against whatever is probed."""
    await answer(scope, send, 200, b"ok\n", HEADERS)


def _lines(row: SourceRow) -> Iterator[str]:
    """Yield a line such as `[+]heartbeats ok since 2030-01-01T00:00:00Z`, then the problems."""
    since = row.since.isoformat(timespec="seconds").replace("+00:00", "Z")
    yield f"{_MARKS.get(row.status, '[-]')}{row.key} {row.status} since {since}"
    for problem in row.problems:
        scope = f" {problem.scope}:" if problem.scope else ""
        yield f"   {problem.reason}:{scope} {problem.message}"
