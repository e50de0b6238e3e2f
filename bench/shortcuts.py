"""Requests that need no ASGI call, against the same server that calls, and against the limits.

All figures are the processor time of the server for one request, so that other processes on the
machine affect them little.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import process, wrk
from bench.beats import beat_lines, load_beats
from bench.process import Server
from bench.report import Row, at_least, note
from bench.wrk import Load, middle, ratio

READ_RATIO, SAME_RATIO, BEAT_RATIO = 0.7, 1.2, 1.0
SIZES = ((1, 0), (5, 6))

Loads = dict[str, list[Load]]


def run(quick: bool) -> Iterator[Row]:
    """Alternate between the servers in rounds."""
    rounds, seconds = (1, 1) if quick else (5, 3)
    for agents, pods in SIZES:
        yield from reads(agents, pods, rounds, seconds)
    yield from beats(rounds, seconds)


def reads(agents: int, pods: int, rounds: int, seconds: int) -> Iterator[Row]:
    """Measure one document: with and without shortcuts, a bare protocol, and a 304."""
    with ExitStack() as stack:
        on = stack.enter_context(process.synthetic(agents, pods))
        off = stack.enter_context(process.synthetic(agents, pods, program="bench.unshortened"))
        reply = on.get("/system/state")
        body = Path(stack.enter_context(tempfile.TemporaryDirectory()), "state")
        body.write_bytes(reply.body)
        headers = [one for one in reply.headers if one[0] not in ("date", "connection")]
        bare = stack.enter_context(process.protocol(body, headers))
        kept = [one for one in headers if one[0] in ("etag", "cache-control", "vary")]
        bare_same = stack.enter_context(process.protocol(headers=kept))
        title = f"read, {len(reply.body) / 1000:,.0f} kB"
        loads = _alternate(
            title,
            rounds,
            {
                "on": lambda: wrk.run(on, seconds),
                "off": lambda: wrk.run(off, seconds),
                "bare": lambda: wrk.run(bare, seconds),
                "same": lambda: wrk.run(on, seconds, headers=[_condition(on)]),
                "bare 304": lambda: wrk.run(bare_same, seconds, headers=[_condition(on)]),
            },
        )
    limit = ratio(loads["bare"], loads["bare 304"], "cost")
    yield _row(f"{title}, against a bare protocol", loads, "bare", "on", READ_RATIO)
    yield _row(f"{title}: 304, against a bare protocol", loads, "bare 304", "same", READ_RATIO)
    what = f"{title}: 304 against the read (the same of the bare protocol: {limit:.2f} ×)"
    yield _row(what, loads, "on", "same", SAME_RATIO)


def _condition(server: Server) -> str:
    """Return the header of a poll; the state may have changed since the last one."""
    return f"If-None-Match: {dict(server.get('/system/state').headers)['etag']}"


def beats(rounds: int, seconds: int) -> Iterator[Row]:
    """Measure beats with nothing new, and beats that change something."""
    with ExitStack() as stack:
        lines = stack.enter_context(tempfile.NamedTemporaryFile("wb"))
        lines.writelines(beat_lines())
        lines.flush()
        servers = {
            "bare": stack.enter_context(process.bare("beat")),
            "protocol": stack.enter_context(process.protocol()),
            "on": stack.enter_context(process.telemetron()),
            "off": stack.enter_context(process.telemetron(program="bench.unshortened")),
        }
        for say, what in (("same", "nothing new"), ("new", "every beat a change")):
            loads = _alternate(
                f"beat, {what}",
                rounds,
                {n: _beats(s, say, lines.name, seconds) for n, s in servers.items()},
            )
            target = BEAT_RATIO if say == "same" else 0.28
            yield _row(f"beat, {what}, against bare ASGI", loads, "bare", "on", target)


def _beats(server: Server, say: str, file: str, seconds: int) -> Callable[[], Load]:
    return lambda: load_beats(server, say, file, seconds)


def _alternate(title: str, rounds: int, runs: dict[str, Callable[[], Load]]) -> Loads:
    note(f"{title}: {rounds} rounds")
    loads: Loads = {name: [] for name in runs}
    for run in runs.values():
        run()  # warm
    for _ in range(rounds):
        for name, run in runs.items():
            loads[name].append(run())
    return loads


def _row(what: str, loads: Loads, limit: str, mine: str, target: float) -> Row:
    """Return the ratio of the processor times, as of rates: more is better."""
    costs = ", ".join(f"{name} {middle(found, 'cost') * 1e6:.1f}" for name, found in loads.items())
    return at_least(what, ratio(loads[limit], loads[mine], "cost"), target, f"µs: {costs}")
