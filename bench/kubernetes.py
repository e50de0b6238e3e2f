"""The Kubernetes collector against a real API server, beside other readers of the same objects.

The cluster is that of the tests: etcd, API server and controllers on loopback, with TLS. Telemetron
has one core; the API server shares the other with what makes the load.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, NamedTuple

import uvloop

from bench import process
from bench.client import connected
from bench.process import ROOT, Server
from bench.report import Row, at_most, figure, note, p99
from tests.real.controlplane import ControlPlane, control_plane
from tests.real.faultproxy import FaultProxy, fault_proxy
from tests.real.kubernetes.crowd import Crowd
from tests.real.kubernetes.replay import Replay, Told, number_of

READERS = ("bare", "telemetron", "models")
SYNC_SECONDS, SYNC_RATIO = 1.0, 1.5
ADDED_MB = 60
CALLBACK_MS = 20
EVENTS_PER_SECOND = 5_000
VISIBLE_MS = 50
IDLE_PERCENT = 1
LOOK_SECONDS = 0.002
READY_SECONDS = 60


class Shape(NamedTuple):
    """A number of workloads with a number of pods each."""

    workloads: int
    each: int

    @property
    def name(self) -> str:
        return f"{self.workloads:,} × {self.each:,} pods"


SHAPES = (Shape(2_000, 5), Shape(10, 1_000), Shape(1, 5_000))


def run(quick: bool) -> Iterator[Row]:
    """Measure first syncs in all shapes; then events and idleness in the first shape."""
    shapes = (Shape(200, 5), Shape(1, 500)) if quick else SHAPES
    rounds, seconds = (1, 3) if quick else (2, 6)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plane = stack.enter_context(control_plane())
        crowds = _crowds(plane, shapes)
        for shape, crowd in zip(shapes, crowds, strict=True):
            note(f"kubernetes: first sync, {shape.name}")
            yield from first_sync(shape, _config(folder, plane, crowd.namespace), rounds)
        yield from at_work(shapes[0], crowds[0], seconds)
        for crowd in crowds:
            crowd.close()


def _crowds(plane: ControlPlane, shapes: tuple[Shape, ...]) -> list[Crowd]:
    plane.call("POST", "/api/v1/nodes", {"metadata": {"name": "node-1"}})
    crowds = []
    for number in range(len(shapes)):
        plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": f"crowd-{number}"}})
        crowds.append(Crowd(plane, f"crowd-{number}"))
    for shape, crowd in zip(shapes, crowds, strict=True):
        crowd.fill(shape.workloads, shape.each)
    time.sleep(2)  # the API server's watch cache receives the new objects
    return crowds


def _source(plane: ControlPlane, namespace: str, server: str | None = None) -> dict[str, Any]:
    file = plane.kubeconfig(f"bench-{namespace}", server=server)
    return {"config": "kubeconfig", "kubeconfig": str(file), "namespaces": [namespace]}


def _config(folder: Path, plane: ControlPlane, namespace: str) -> Path:
    file = folder / f"{namespace}.json"
    file.write_text(json.dumps({"sources": {"kubernetes": _source(plane, namespace)}}))
    return file


def first_sync(shape: Shape, config: Path, rounds: int) -> Iterator[Row]:
    """Run each reader in turn several times, the models once, because they are slow."""
    found: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
    for turn in range(rounds):
        for reader in READERS if turn == 0 else READERS[:2]:
            found[reader].append(_read(reader, config))
    middle = {
        reader: {name: median(one[name] for one in each) for name in ("seconds", "added", "peak")}
        for reader, each in found.items()
    }
    ours, bare, models = (middle[name] for name in ("telemetron", "bare", "models"))
    ratio = ours["seconds"] / bare["seconds"]
    title = f"first sync, {shape.name}"
    detail = (
        f"{ratio:.2f} × a bare reader's {bare['seconds']:.2f} s;"
        f" kubernetes-asyncio's models {models['seconds']:.2f} s"
    )
    yield at_most(title, ours["seconds"], SYNC_SECONDS, "s", detail)
    yield at_most(f"{title}: against a bare reader", ratio, SYNC_RATIO, "×")
    detail = (
        f"at most {ours['peak']:.0f}; a bare reader {bare['added']:.0f},"
        f" models {models['added']:.0f}, at most {models['peak']:.0f} MB"
    )
    yield at_most(f"{title}: memory added", ours["added"], ADDED_MB, "MB", detail)
    longest = median(one["longest"] * 1000 for one in found["telemetron"])
    collected = median(one["gc"] * 1000 for one in found["telemetron"])
    detail = f"garbage collection at most {collected:.1f} ms"
    yield at_most(f"{title}: longest work between two timers", longest, CALLBACK_MS, "ms", detail)


def _read(reader: str, config: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.informer", reader, str(config), config.stem]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    return dict(json.loads(done.stdout))


def at_work(shape: Shape, crowd: Crowd, seconds: int) -> Iterator[Row]:
    """Measure the whole server: idle, changed by the API server, and with more events than that."""
    plane, namespace = crowd.plane, crowd.namespace
    with process.telemetron({"synthetic": {}, "kubernetes": _source(plane, namespace)}) as server:
        _wait_for(server, shape)
        yield idle(server, shape, seconds)
        for rate in (500, 1_000):
            yield uvloop.run(changed(server, crowd, rate, seconds))
    note(f"kubernetes: {EVENTS_PER_SECOND:,} events a second")
    yield from uvloop.run(stormed(shape, plane, namespace, seconds))


def _wait_for(server: Server, shape: Shape) -> None:
    end = monotonic() + READY_SECONDS
    while len(server.state()["workload"]) < shape.workloads:
        if monotonic() > end:
            raise TimeoutError("the workloads do not show")
        time.sleep(0.2)
    time.sleep(1)


def idle(server: Server, shape: Shape, seconds: int) -> Row:
    """Measure without changes; bookmarks and polls of usage figures continue."""
    note(f"kubernetes: idle for {3 * seconds} s")
    worked, start = server.worked(), monotonic()
    time.sleep(3 * seconds)
    percent = 100 * (server.worked() - worked) / (monotonic() - start)
    return at_most(f"idle, {shape.name}: processor time", percent, IDLE_PERCENT, "% of a core")


async def changed(server: Server, crowd: Crowd, rate: int, seconds: int) -> Row:
    """Change pods in etcd at this pace, and measure the delay until a read shows one."""
    note(f"kubernetes: {rate:,} changes a second through the API server")
    delays: list[float] = []
    looking: set[asyncio.Task[None]] = set()
    start, sent = monotonic(), 0
    async with connected(server) as connection:
        lock = asyncio.Lock()

        async def look(pod: str, ip: str, at: float) -> None:
            path = _workload(crowd.namespace, pod)
            async with lock:
                while f'"ip":"{ip}"'.encode() not in await connection.get(path):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
                delays.append(monotonic() - at)

        while (passed := monotonic() - start) < seconds:
            if (due := int(passed * rate) - sent) > 0:
                await asyncio.to_thread(crowd.change, due)
                sent += due
                if not lock.locked():
                    pod, ip = crowd.last()
                    looking.add(asyncio.create_task(look(pod, ip, monotonic())))
            await asyncio.sleep(0.005)
        async with asyncio.timeout(READY_SECONDS):
            await asyncio.gather(*looking)
    detail = f"p50 {median(delays) * 1000:.0f}, at most {max(delays) * 1000:.0f} ms; {len(delays)}"
    what = f"{rate:,} changes a second in etcd: written → visible, p99"
    return figure(what, p99(delays) * 1000, "ms", f"{detail} looked for")


def _workload(namespace: str, pod: str) -> str:
    name = pod.partition("-")[0]
    return f"/system/state/workload/kubernetes/{namespace}/Deployment/{name}"


async def stormed(shape: Shape, plane: ControlPlane, namespace: str, seconds: int) -> list[Row]:
    """Replay the API server's own events at the pace."""
    replay = await asyncio.to_thread(Replay, plane, namespace)
    async with fault_proxy(plane.server, str(plane.ca)) as proxy:
        source = _source(plane, namespace, proxy.url)
        with process.telemetron({"synthetic": {}, "kubernetes": source}) as server:
            await asyncio.to_thread(_wait_for, server, shape)
            server.loop_times()  # forget the start
            server.load(watch=1)
            worked, start = server.worked(), monotonic()
            delays = await _storm(server, proxy, replay, namespace, seconds)
            busy = 100 * (server.worked() - worked) / (monotonic() - start)
            times = server.loop_times()
            seen = await _settled(server, replay)
    sent = replay.count / seconds
    detail = (
        f"p50 {median(delays) * 1000:.0f}, at most {max(delays) * 1000:.0f} ms;"
        f" {sent:,.0f} a second sent, {len(delays)} looked for; {busy:.0f} % of a core"
    )
    title = f"{EVENTS_PER_SECOND:,} events a second, {shape.name}"
    cpu = [one * 1000 for one in times.cpu]
    collected = max(times.gc) * 1000
    note_ = f"p99 {p99(cpu):.1f} ms; garbage collection at most {collected:.1f} ms"
    return [
        at_most(f"{title}: sent → visible, p99", p99(delays) * 1000, VISIBLE_MS, "ms", detail),
        figure(f"{title}: the last seen after", seen, "s"),
        at_most(f"{title}: longest work between two timers", max(cpu), CALLBACK_MS, "ms", note_),
    ]


async def _storm(
    server: Server, proxy: FaultProxy, replay: Replay, namespace: str, seconds: int
) -> list[float]:
    sending = asyncio.create_task(replay.send(proxy, EVENTS_PER_SECOND, seconds))
    delays = []
    async with connected(server) as connection:
        while told := await replay.sent():
            path = _workload(namespace, told.pod)
            while _number(await connection.get(path), told) < told.number:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)
            delays.append(monotonic() - told.at)
    await sending
    return delays


def _number(body: bytes, told: Told) -> int:
    (workload,) = json.loads(body)["workload"]
    return number_of(next(one["ip"] for one in workload["pods"] if one["pod_id"] == told.pod))


async def _settled(server: Server, replay: Replay) -> float:
    """Return the seconds until the last event of every pod is visible."""
    start = monotonic()
    told = {one.pod: one.ip for one in replay.told.values()}
    while monotonic() < start + READY_SECONDS:
        state = await asyncio.to_thread(server.state)
        shown = {pod["pod_id"]: pod["ip"] for one in state["workload"] for pod in one["pods"]}
        if all(shown[pod] == ip for pod, ip in told.items()):
            return monotonic() - start
        await asyncio.sleep(0.1)
    raise TimeoutError("not all events were seen")
