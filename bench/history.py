"""The costs of the history: processor time, delays of answers, memory and disk."""

import asyncio
import json
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from msgspec.structs import replace

from bench import content, process, wrk
from bench.process import Server
from bench.report import Row, at_least, at_most, figure, note, p99
from bench.wrk import Load, middle, ratio
from telemetron.collector import Put
from telemetron.history import queries
from telemetron.history.archive import Archive
from telemetron.history.delta import shapes
from telemetron.history.limits import HistoryLimits
from telemetron.history.place import milliseconds
from telemetron.history.queries import Asked
from telemetron.history.timeline import Timeline
from telemetron.store.store import Publication, Store
from telemetron.testing import FakeClock

CHANGES = 1_000
DIFF_MS, EVENT_MS, AT_MS = 5, 100, 200
CORE_PERCENT = 10
READ_RATIO = 0.9
HOUR_MB = 50
READERS = 1_000
MIB = 1024 * 1024


def run(quick: bool) -> Iterator[Row]:
    """Measure everything except the day."""
    yield from diffs(quick)
    yield recording(2 if quick else 8)
    yield reads(*((1, 1) if quick else (3, 2)))
    yield events(50 if quick else READERS, 10 if quick else 30)
    yield from hour(60 if quick else 3_600)


# with real processes


def diffs(quick: bool) -> Iterator[Row]:
    """Request about ten changes of few and of many entities over HTTP."""
    for agents in (100, 1_000 if quick else 10_000):
        with process.synthetic(agents, 0) as server:
            before = _place(server)
            server.load(changes=100)
            time.sleep(0.12)
            server.load(changes=0)
            time.sleep(0.2)
            path = f"/system/changes?since={before}&limit=1000"
            changed = len(json.loads(server.get(path).body)["changes"])
            took = [_timed(server, path) for _ in range(20 if quick else 200)]
            detail = f"p99 {p99(took) * 1000:.2f} ms, {changed} changed"
            what = f"diff: about 10 changed of {agents:,} entities, over HTTP, median"
            yield at_most(what, median(took) * 1000, DIFF_MS, "ms", detail)


def recording(seconds: int) -> Row:
    """Compare the processor time with a process that records nothing, at the same changes."""
    used = {}
    for program in ("bench.unrecorded", "telemetron"):
        with process.synthetic(1_000, 0, program=program) as server:
            note(f"recording: {program} for {seconds} s")
            server.load(changes=CHANGES)
            time.sleep(1)
            worked = server.worked()
            time.sleep(seconds)
            used[program] = (server.worked() - worked) / seconds * 100
    cost = used["telemetron"] - used["bench.unrecorded"]
    detail = f"{used['telemetron']:.1f} % against {used['bench.unrecorded']:.1f} % unrecorded"
    return at_most(f"recording {CHANGES:,} changes a second", cost, CORE_PERCENT, "%", detail)


def reads(rounds: int, seconds: int) -> Row:
    """Alternate reads of a recording and of a non-recording server while entities change."""
    with (
        process.synthetic(1_000, 0) as recording,
        process.synthetic(1_000, 0, program="bench.unrecorded") as unrecorded,
    ):

        def load(server: Server) -> Load:
            server.load(changes=CHANGES)
            found = wrk.run(server, seconds)
            server.load(changes=0)
            return found

        runs = {"recorded": partial(load, recording), "unrecorded": partial(load, unrecorded)}
        loads = wrk.alternate("reads of a recorded state", rounds, runs)
    recorded, without = loads.values()
    detail = f"requests/s {middle(recorded):,.0f} of {middle(without):,.0f}"
    what = f"reads while {CHANGES:,} entities change per second, against unrecorded"
    return at_least(what, ratio(recorded, without), READ_RATIO, "×", detail)


class Reader(asyncio.Protocol):
    """One reader of the stream; it keeps the arrival time of each step."""

    def __init__(self, came: dict[int, list[float]]) -> None:
        self.came = came

    def data_received(self, data: bytes) -> None:
        """Keep the arrival time; such an event is far smaller than a segment."""
        if found := re.search(rb'step":\{"old":[^,]*,"new":"([0-9]+)"', data):
            self.came[int(found[1])].append(time.perf_counter())


def events(readers: int, changes: int) -> Row:
    """Measure from a beat with a change to its event at every reader."""
    with process.telemetron() as server:
        late, merged = uvloop.run(_events(server, readers, changes))
    detail = f"median {median(late) * 1000:.0f} ms, {len(late):,} events, {merged} merged or late"
    what = f"change → event, {readers:,} readers, p99"
    return at_most(what, p99(late) * 1000, EVENT_MS, "ms", detail)


async def _events(server: Server, readers: int, changes: int) -> tuple[list[float], int]:
    loop = asyncio.get_running_loop()
    came: dict[int, list[float]] = {step: [] for step in range(changes)}
    transports = []
    request = (
        b"GET /system/changes?kinds=all HTTP/1.1\r\nhost: localhost\r\n"
        b"accept: text/event-stream\r\n\r\n"
    )
    for _ in range(readers):
        transport, _ = await loop.create_connection(lambda: Reader(came), "127.0.0.1", server.port)
        transport.write(request)
        transports.append(transport)
    await _beat(server, -1)
    await asyncio.sleep(2)
    sent = {}
    for step in range(changes):
        sent[step] = time.perf_counter()
        await _beat(server, step)
        await asyncio.sleep(0.3)
    await asyncio.sleep(1)
    for transport in transports:
        transport.close()
    late = [at - sent[step] for step, times in came.items() for at in times]
    return late, readers * changes - len(late)


async def _beat(server: Server, step: int) -> None:
    task = {"id": "t", "step": f"{step}"}
    body = json.dumps({"instance": "one", "tasks": [task]}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"POST /agents/bench/heartbeat HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    await reader.read()
    writer.close()


def _place(server: Server) -> str:
    state = server.state()
    return f"{state['epoch']}.{state['revision']}"


def _timed(server: Server, path: str) -> float:
    start = time.perf_counter()
    server.get(path)
    return time.perf_counter() - start


# with a clock that runs ahead


class Simulated:
    """A store and its history, in memory and in a file, at any speed."""

    def __init__(self, folder: Path, limits: HistoryLimits) -> None:
        self.clock = FakeClock()
        self.store = Store("bench", self.clock)
        snapshot = self.store.snapshot
        self.timeline = Timeline(shapes(), snapshot, limits, lambda name: ())
        self.path = folder / "history.db"
        started_at = milliseconds(snapshot.started_at)
        self.file = Archive(str(self.path), "bench", snapshot.epoch, started_at)
        self.timeline.open_file(self.file)
        self.store.watchers.append(self._published)
        self.source = self.store.add("synthetic", "synthetic")
        self.recorded = 0.0

    def _published(self, publication: Publication) -> None:
        start = time.perf_counter()
        for _ in self.timeline.record(publication, self.clock.monotonic()):
            pass
        self.recorded += time.perf_counter() - start

    def put(self, put: Put) -> None:
        """Put one part as the source does."""
        self.store.put(self.source, put.section, put.group, put.id, put.part)

    def write(self) -> None:
        """Write as the thread does twice a second."""
        at = milliseconds(self.clock.now())
        for _ in self.timeline.record_due(self.clock.monotonic(), at):
            pass
        self.timeline.write(at)

    @property
    def size(self) -> int:
        """The bytes of the file and its log."""
        return sum(file.stat().st_size for file in self.path.parent.iterdir())

    def close(self) -> None:
        """Close the history."""
        self.file.close()
        self.timeline.close()


@contextmanager
def simulated(limits: HistoryLimits) -> Iterator[Simulated]:
    """Make a system in a folder that is removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        one = Simulated(Path(folder), limits)
        try:
            yield one
        finally:
            one.close()


def hour(seconds: int) -> Iterator[Row]:
    """Record 100 changes a second of 1,000 agents for an hour, then read the state at its start."""
    with simulated(HistoryLimits()) as system:
        puts = content.agents(1_000)
        for put in puts:
            system.put(put)
        system.store.flush()
        turn = 0
        for second in range(seconds):
            if second % 600 == 0:
                note(f"an hour of history: {second} of {seconds} s")
            for _half in range(2):
                for _ in range(10):
                    for _ in range(5):
                        at = turn % len(puts)
                        puts[at] = content.changed(puts[at], turn)
                        system.put(puts[at])
                        turn += 1
                    system.clock.advance(0.05)
                    system.store.flush()
                system.write()
        system.write()
        per_hour = system.size / 1e6 * 3_600 / seconds
        detail = f"{system.size / turn:.0f} bytes a change"
        yield at_most("an hour at 100 changes a second, on disk", per_hour, HOUR_MB, "MB", detail)
        recorded = system.recorded / turn * 1e6
        yield figure("only recording, a change", recorded, "µs")
        yield _past(system, seconds)
        yield _long_diff(system, seconds)


def _past(system: Simulated, seconds: int) -> Row:
    now = system.clock.now()
    took = []
    for ago in range(seconds - 30, max(0, seconds - 300), -15):
        start = time.perf_counter()
        at = (now - timedelta(seconds=ago)).isoformat()
        snapshot = queries.snapshot(system.timeline, at, now)
        sum(len(part) for part in snapshot.chunks(list(snapshot.sections)))
        took.append(time.perf_counter() - start)
    detail = f"median {median(took) * 1000:.0f} ms of {len(took)}"
    return at_most("`?at=` an hour back, longest", max(took) * 1000, AT_MS, "ms", detail)


def _long_diff(system: Simulated, seconds: int) -> Row:
    now = system.clock.now()
    asked = Asked((now - timedelta(seconds=seconds - 30)).isoformat(), limit=100)
    start = time.perf_counter()
    queries.changes(system.timeline, asked, now)
    took = (time.perf_counter() - start) * 1000
    return figure("a diff over the hour, the first 100 of 1,000 changed", took, "ms")


def pods(quick: bool) -> Iterator[Row]:
    """Record 10,000 pods with new usage every 15 s for longer than the bounds allow."""
    seconds = 600 if quick else 24 * 3_600
    limits = HistoryLimits(file_bytes=128 * MIB)
    with simulated(limits) as system:
        puts = content.workloads(10_000)
        most_memory = most_file = 0
        for tick in range(seconds // 15):
            if tick % 240 == 0:
                note(f"pods: hour {tick / 240:g}; file {system.size / MIB:.0f} MiB")
            for n, put in enumerate(puts):
                puts[n] = _measured(put, tick)
                system.put(puts[n])
            system.store.flush()
            for _ in range(3):
                system.clock.advance(5)
                system.write()
            most_memory = max(most_memory, system.timeline.bytes_used())
            most_file = max(most_file, system.size)
        oldest = system.timeline.resolve(str(system.timeline.oldest()), system.clock.now())
        kept = (milliseconds(system.clock.now()) - oldest.at) / 3_600_000
        detail = f"which goes back {kept:.1f} h"
        limit = limits.memory_bytes / MIB
        yield at_most("in memory, most", most_memory / MIB, limit, "MiB")
        yield at_most("on disk, most", most_file / MIB, limits.file_bytes / MIB, "MiB", detail)


def _measured(put: Put, turn: int) -> Put:
    """Change the usage of every pod, as in a real cluster."""
    part: Any = put.part
    at = content.START + timedelta(seconds=15 * turn)
    pods = [
        replace(
            pod,
            cpu=(turn * 7 + n * 13 + len(put.id)) % 400 / 100,
            memory=float((turn * 31 + n * 101) % 4096),
            network_in=turn * 10_007 + n,
            network_out=turn * 5_003 + n,
            measured_at=at,
        )
        for n, pod in enumerate(part.pods)
    ]
    return put._replace(part=replace(part, pods=pods))
