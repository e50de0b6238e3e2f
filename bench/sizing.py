"""The needs of a deployment: memory and processor time, by pods and by instances of agents.

The pods are those of a real control plane; of 1,000 ten change each second. Each instance beats
every 5 seconds, and every beat says something new. There are no readers.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import cycle, product
from typing import NamedTuple

import uvloop

from bench import content, process
from bench.client import connected
from bench.process import Server
from bench.report import Row, at_most, note
from tests.real.controlplane import control_plane
from tests.real.kubernetes.crowd import Crowd

EACH = 10
INTERVAL_SECONDS = 5
PODS_EACH = 5
CHANGES_PER_POD = 0.01
READY_SECONDS = 60
CONNECTIONS = 2


class Goal(NamedTuple):
    """The figures that docs/deployment.md promises."""

    megabytes: float
    cores: float


INSTANCES = {10: Goal(50, 0.02), 1_000: Goal(80, 0.2), 10_000: Goal(200, 0.5)}
PODS = {100: Goal(110, 0.02), 1_000: Goal(120, 0.02), 10_000: Goal(200, 0.05)}

Turns = Iterator[tuple[int, int]]


def run(quick: bool) -> Iterator[Row]:
    """Measure each size; docs/deployment.md takes requests and limits from the goals."""
    sizes, seconds = (1, 3) if quick else (3, 8)
    for instances, goal in [*INSTANCES.items()][:sizes]:
        note(f"sizing: {instances:,} instances")
        per_second = instances / INTERVAL_SECONDS
        with process.telemetron() as server:
            before = uvloop.run(_beaten(server, instances, seconds))
            what = f"{instances:,} instances, {per_second:,.0f} beats/s"
            yield from _rows(what, goal, server, before)
    for pods, goal in [*PODS.items()][:sizes]:
        note(f"sizing: {pods:,} pods")
        yield from _watching(pods, goal, seconds)


async def _beaten(server: Server, instances: int, seconds: int) -> tuple[float, float]:
    """Return the processor time and the clock before the beats at their pace."""
    each = min(EACH, instances)
    turns = cycle(product(range(instances // each), range(each)))
    per_second = instances / INTERVAL_SECONDS
    await _beat(server, turns, instances)
    before = server.worked(), time.monotonic()
    shares = [
        _beat(server, turns, round(per_second * seconds / CONNECTIONS), CONNECTIONS / per_second)
        for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*shares)
    return before


async def _beat(server: Server, turns: Turns, number: int, every: float = 0.0) -> None:
    """Send beats over one connection at a fixed interval."""
    async with connected(server) as connection:
        start = time.monotonic()
        for turn in range(number):
            agent, instance = next(turns)
            await asyncio.sleep(max(0.0, start + turn * every - time.monotonic()))
            body = content.beat(agent, instance, time.monotonic_ns(), f"step {turn}")
            await connection.post(f"/agents/{content.name(agent)}/heartbeat", body)


def _watching(pods: int, goal: Goal, seconds: int) -> Iterator[Row]:
    with control_plane() as plane:
        plane.call("POST", "/api/v1/nodes", {"metadata": {"name": "node-1"}})
        plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": "crowd"}})
        crowd = Crowd(plane, "crowd")
        crowd.fill(pods // PODS_EACH, PODS_EACH)
        file = plane.kubeconfig("sizing")
        source = {"config": "kubeconfig", "kubeconfig": str(file), "namespaces": ["crowd"]}
        with process.telemetron({"kubernetes": source}) as server:
            _until(lambda: _pods(server) == pods)
            before = server.worked(), time.monotonic()
            per_second = max(1, round(pods * CHANGES_PER_POD))
            for second in range(1, seconds + 1):
                crowd.change(per_second)
                time.sleep(max(0.0, before[1] + second - time.monotonic()))
            crowd.close()
            yield from _rows(f"{pods:,} pods, {per_second:,} changes/s", goal, server, before)


def _pods(server: Server) -> int:
    return sum(len(workload["pods"]) for workload in server.state()["workload"])


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + READY_SECONDS
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"the pods do not show within {READY_SECONDS} s")
        time.sleep(0.2)


def _rows(what: str, goal: Goal, server: Server, before: tuple[float, float]) -> Iterator[Row]:
    worked, since = before
    cores = (server.worked() - worked) / (time.monotonic() - since)
    size = len(server.get("/system/state").body) / 1e6
    detail = f"at most {server.memory('VmHWM'):.0f} MB; the document has {size:.2g} MB"
    yield at_most(f"{what}: memory", server.memory(), goal.megabytes, "MB", detail)
    yield at_most(f"{what}: processor", cores, goal.cores, "cores")
