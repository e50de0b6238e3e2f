"""`GET /system/state`, against servers that send the same bytes: Go's, a bare protocol, uvicorn's.

`go` is net/http with one thread for Go code, `protocol` asyncio with httptools, `uvicorn` a bare
ASGI application. Each server has the first core for itself while it is measured, the client has the
last. The ratio is that of the processor time that a request costs the server.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import process, wrk
from bench.process import Server
from bench.report import Row, figure
from bench.wrk import Load, middle

LIMIT_RATIO, SAME_RATIO = 0.7, 1.2
NONE = {"ignore": [{"rule": "*"}]}
"""Findings appear some seconds after the start; without them the document keeps its size."""

Runs = dict[str, Callable[[], Load]]


class Size(NamedTuple):
    """A document: its content, and the goals of reading it against other servers."""

    name: str
    agents: int
    pods: int
    goals: dict[str, float]


SMALL, MIDDLE, LARGE, HUGE = (
    Size("2 kB", 0, 0, {"go": 1.3, "protocol": LIMIT_RATIO}),
    Size("12 kB", 5, 6, {"go": 1.3, "protocol": LIMIT_RATIO}),
    Size("487 kB", 163, 438, {"go": 1.3}),
    Size("11 MB", 1_000, 16_500, {"uvicorn": 0.95}),
)


def run(quick: bool) -> Iterator[Row]:
    """Measure each size in rounds."""
    rounds, seconds = (1, 1) if quick else (5, 2)
    for size in (MIDDLE,) if quick else (SMALL, MIDDLE, LARGE, HUGE):
        yield from against_limits(size, rounds, seconds)


def against_limits(size: Size, rounds: int, seconds: int) -> Iterator[Row]:
    """Measure one size: Telemetron, and the servers that it has goals against."""
    with ExitStack() as stack:
        server = stack.enter_context(process.synthetic(size.agents, size.pods, findings=NONE))
        servers = {"telemetron": server, **_limits(stack, server, size.goals)}
        length = len(server.get("/system/state").body)
        runs: Runs = {name: partial(wrk.run, one, seconds) for name, one in servers.items()}
        if size == SMALL:
            runs |= _polls(stack, server, seconds)
        loads = wrk.alternate(f"read, {size.name}", rounds, runs)
    for other, goal in size.goals.items():
        yield wrk.against(f"read, {size.name}, against {other}", loads, "telemetron", other, goal)
    if size == SMALL:
        yield wrk.against("304, against protocol", loads, "304", "protocol 304", LIMIT_RATIO)
        yield wrk.against("304, against the small read", loads, "304", "telemetron", SAME_RATIO)
    mine = loads["telemetron"]
    detail = f"p99 {middle(mine, 'p99') * 1e3:.2f} ms; {length:,} bytes"
    yield figure(f"read, {size.name}: requests", middle(mine), "/s", detail)


def _limits(stack: ExitStack, server: Server, names: Iterable[str]) -> dict[str, Server]:
    """Start these servers with the answer of Telemetron."""
    body = Path(stack.enter_context(tempfile.TemporaryDirectory()), "state")
    body.write_bytes(server.get("/system/state").body)
    headers = _headers(server)
    each = {"go": process.go, "protocol": process.protocol, "uvicorn": process.bare}
    return {name: stack.enter_context(each[name](body, headers)) for name in names}


def _polls(stack: ExitStack, server: Server, seconds: int) -> Runs:
    """Return runs whose answers are a 304, also of a bare protocol that sends the same one."""
    kept = [one for one in _headers(server) if one[0] in ("etag", "cache-control", "vary")]
    limit = stack.enter_context(process.protocol(headers=kept))

    def poll(one: Server) -> Load:
        return wrk.run(one, seconds, headers=[_condition(server)])

    return {"304": partial(poll, server), "protocol 304": partial(poll, limit)}


def _headers(server: Server) -> list[tuple[str, str]]:
    reply = server.get("/system/state")
    return [one for one in reply.headers if one[0] not in ("date", "connection")]


def _condition(server: Server) -> str:
    """Return the header of a poll; sources have become ok since the first answer."""
    return f"If-None-Match: {dict(server.get('/system/state').headers)['etag']}"
