"""Load from wrk: one thread and some connections on the core that the server does not use."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.process import LOAD_CORE, TIMEOUT, Server, pin
from bench.report import Row, at_least, note

READERS = 16
_HERE = Path(__file__).parent


class Load(NamedTuple):
    """The results of a run; times in seconds."""

    rps: float
    p99: float
    longest: float
    cost: float
    """Processor time of the server for one request, without other processes."""


def run(
    server: Server,
    seconds: float,
    path: str = "/system/state",
    headers: Sequence[str] = (),
    script: str = "report.lua",
    arguments: Sequence[str] = (),
    connections: int = READERS,
) -> Load:
    """Load the server for some seconds; raise RuntimeError if a request failed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=30s"]
    command += [f"--header={header}" for header in headers]
    command += [f"--script={_HERE / script}", server.url + path, "--", *arguments]
    worked = server.worked()
    done = subprocess.run(
        command,
        capture_output=True,
        check=True,
        timeout=seconds + 2 * TIMEOUT,
        preexec_fn=lambda: pin(LOAD_CORE),
    )
    found = json.loads(done.stdout.splitlines()[-1])
    if found["errors"] or not found["requests"]:
        raise RuntimeError(f"{found['requests']} answers, {found['errors']} errors: {command}")
    cost = (server.worked() - worked) / found["requests"]
    rps = found["requests"] / found["duration"] * 1e6
    return Load(rps, found["p99"] / 1e6, found["max"] / 1e6, cost)


def alternate(
    title: str, rounds: int, runs: Mapping[str, Callable[[], Load]]
) -> dict[str, list[Load]]:
    """Run all in turn, once to warm up and then in rounds, so that noise affects all of them."""
    note(f"{title}: {rounds} rounds")
    found: dict[str, list[Load]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, once in runs.items():
            load = once()
            if number:
                found[name].append(load)
    return found


def against(what: str, loads: Mapping[str, list[Load]], mine: str, other: str, goal: float) -> Row:
    """Compare the server's processor time for one request, as of rates: more is better.

    A rate is that of the client if it is slower than the server, so it is only a detail.
    """
    value = middle(loads[other], "cost") / middle(loads[mine], "cost")
    costs = ", ".join(f"{name} {middle(one, 'cost') * 1e6:.1f}" for name, one in loads.items())
    rate = ratio(loads[mine], loads[other])
    return at_least(what, value, goal, "×", f"µs of processor: {costs}; requests/s {rate:.2f} ×")


def middle(loads: Sequence[Load], field: str = "rps") -> float:
    """Return the median of the rounds."""
    return float(median(getattr(load, field) for load in loads))


def ratio(loads: Sequence[Load], others: Sequence[Load], field: str = "rps") -> float:
    """Return the ratio of the medians."""
    return middle(loads, field) / middle(others, field)
