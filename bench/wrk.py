"""Load from wrk: one thread and sixteen connections on the core that the server does not use."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.process import LOAD_CORE, TIMEOUT, Server, pin

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
    if found["errors"]:
        raise RuntimeError(f"{found['errors']} requests failed: {' '.join(command)}")
    cost = (server.worked() - worked) / found["requests"]
    rps = found["requests"] / found["duration"] * 1e6
    return Load(rps, found["p99"] / 1e6, found["max"] / 1e6, cost)


def middle(loads: Sequence[Load], field: str = "rps") -> float:
    """Return the median of the rounds."""
    return float(median(getattr(load, field) for load in loads))


def ratio(loads: Sequence[Load], others: Sequence[Load], field: str = "rps") -> float:
    """Return the median of the ratios of each round: lasting noise affects both of a pair."""
    pairs = zip(loads, others, strict=True)
    return float(median(getattr(one, field) / getattr(other, field) for one, other in pairs))
