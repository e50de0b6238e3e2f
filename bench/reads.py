"""`GET /system/state`, against a bare ASGI application and nginx that send the same bytes."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench import process, wrk
from bench.process import Reply, Server
from bench.report import Row, at_least, at_most, note
from bench.wrk import Load, middle, ratio

P99_RATIO = 1.2
GZIP = ("Accept-Encoding: gzip",)


class Size(NamedTuple):
    """A document: its content, and the targets of reading it."""

    name: str
    agents: int
    pods: int
    target: float


SIZES = (
    Size("10 KB", 5, 6, 0.9),
    Size("400 KB", 150, 410, 0.95),
    Size("10 MB", 1_000, 16_500, 0.95),
)


def run(quick: bool) -> Iterator[Row]:
    """Alternate between the servers in rounds, and compare them."""
    rounds, seconds = (1, 1) if quick else (5, 3)
    for size in SIZES[:1] if quick else SIZES:
        yield from against_limits(size, rounds, seconds)


def against_limits(size: Size, rounds: int, seconds: int) -> Iterator[Row]:
    """Measure one size: Telemetron, the bare application and nginx; then 304 and gzip."""
    with ExitStack() as stack:
        server = stack.enter_context(process.synthetic(size.agents, size.pods))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        reply = server.get("/system/state")
        bare, nginx = _limits(stack, folder, reply)
        title = f"read, {len(reply.body) / 1000:,.0f} kB"
        note(f"{title}: {rounds} rounds of {seconds} s each")
        loads: dict[Server, list[Load]] = {server: [], bare: [], nginx: []}
        for _ in range(rounds):
            for one, found in loads.items():
                found.append(wrk.run(one, seconds))
        yield from _rows(title, size.target, *loads.values())
        etag = dict(server.get("/system/state").headers)[
            "etag"
        ]  # sources have become ok since then
        same = wrk.run(server, seconds, headers=[f"If-None-Match: {etag}"])
        gzip = wrk.run(server, seconds, headers=GZIP)
    yield Row(f"{title}: 304, and gzip", f"{same.rps:,.0f} and {gzip.rps:,.0f} /s")


def _limits(stack: ExitStack, folder: Path, reply: Reply) -> tuple[Server, Server]:
    folder.chmod(0o755)  # nginx gives up root
    body = folder / "system" / "state"
    body.parent.mkdir()
    body.write_bytes(reply.body)
    same = [one for one in reply.headers if one[0] not in ("date", "connection")]
    added = [one for one in same if one[0] not in ("content-length", "content-type")]
    bare = stack.enter_context(process.bare("read", body, same))
    return bare, stack.enter_context(process.nginx(folder, added))


def _rows(
    title: str, target: float, mine: list[Load], bare: list[Load], nginx: list[Load]
) -> Iterator[Row]:
    rps = (
        f"{middle(mine):,.0f} of {middle(bare):,.0f} /s; nginx {middle(nginx):,.0f} /s;"
        f" CPU {middle(mine, 'cost') * 1e6:,.0f} of {middle(bare, 'cost') * 1e6:,.0f} µs"
    )
    p99s = f"{middle(mine, 'p99') * 1000:.2f} of {middle(bare, 'p99') * 1000:.2f} ms"
    yield at_least(f"{title}, against bare", ratio(mine, bare), target, rps)
    yield at_most(f"{title}, p99 against bare", ratio(mine, bare, "p99"), P99_RATIO, "×", p99s)
