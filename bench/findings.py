"""What findings cost beside the flush, how much they hold, and how soon they are there."""

import asyncio
import gc
import os
import random
import resource
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from multiprocessing import get_context
from pathlib import Path
from types import coroutine
from typing import Any, NamedTuple

from loguru import logger
from msgspec.structs import replace

from bench.report import Row, at_most, note
from telemetron.agents import AgentPart
from telemetron.clock import Clock, Timer
from telemetron.collector import Output
from telemetron.diagnosis.collector import collector
from telemetron.diagnosis.diagnosis import Diagnosis
from telemetron.diagnosis.rule import Rule, Symptom
from telemetron.diagnosis.rules import RULES
from telemetron.diagnosis.settings import FindingsSettings
from telemetron.diagnosis.view import View
from telemetron.document import Instance, LastExit, Live, Pod, Queue, Task, Wait, Workload
from telemetron.service.supervisor import Supervisor
from telemetron.store.source import Source
from telemetron.store.store import Publication, Store

WORKLOADS, PODS, AGENTS, QUEUES = 200, 50, 1_000, 50
SICK = 500
CHANGES, BATCH = 1_000, 25
FLUSH_SHARE, MEMORY_MB, CALLBACK_MS, FIRST_SECONDS = 0.15, 20, 20, 1
IDLE_PERCENT, VISIBLE_MS, FINDING_BYTES, REST_SECONDS = 0.1, 50, 1_536, 5
SETTLE_SECONDS, HOLD_SECONDS = 25.0, 0.2
IDLE_SECONDS = 30.0
SILENT, SILENT_SECONDS = 5_000, 20.0
GROWN_MB = 5
STORM_MINUTES = float(os.environ.get("STORM_MINUTES", "60"))
START = datetime.now(UTC)


class Measured(NamedTuple):
    """What one process has used; times are seconds of processor."""

    diagnosis: float = 0.0
    """While entities changed."""
    flush: float = 0.0
    """In the same time."""
    idle: float = 0.0
    megabytes: float = 0.0
    first: float = 0.0
    """Of the first diagnosis."""
    longest: Sequence[float] = ()
    """Of the longest step of the first diagnosis, while holds end, and while entities change: so
    long it holds up the event loop."""
    largest: int = 0
    """Bytes of the largest finding."""
    grown: float = 0.0
    """Megabytes after the changes above those after their first tenth."""


class Meter:
    """The processor time of the steps of a coroutine."""

    def __init__(self) -> None:
        self.spent = self.longest = 0.0

    @coroutine
    def run(self, measured: Coroutine[Any, Any, None]) -> Generator[Any, None, None]:
        """Await a coroutine."""
        step = partial(measured.send, None)
        while True:
            try:
                awaited = self._timed(step)
            except StopIteration:
                return
            try:
                yield awaited
                step = partial(measured.send, None)
            except BaseException as error:  # such as a cancellation
                step = partial(measured.throw, error)

    def lap(self) -> float:
        """Return the longest step since the last call."""
        longest, self.longest = self.longest, 0.0
        return longest

    def _timed(self, step: Callable[[], Any]) -> Any:
        start = time.thread_time()
        try:
            return step()
        finally:
            spent = time.thread_time() - start
            self.spent += spent
            self.longest = max(self.longest, spent)


class Probe:
    """A rule that notes when its symptoms were first seen."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}
        self.rule = Rule("Probe", "queues", "critical", HOLD_SECONDS, 0, "", "", "", self._find)

    def _find(self, queue: Queue, _: View) -> Iterator[Symptom]:
        if queue.name.startswith("probe"):
            self.seen.setdefault(queue.key, time.perf_counter())
            yield Symptom("Probe", "queues", queue.key, "", [])


class TimedClock(Clock):
    """The clock of a store, which counts the processor time of the store's flushes."""

    def __init__(self) -> None:
        self.spent = 0.0

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        is_flush = isinstance(getattr(callback, "__self__", None), Store)
        return super().call_later(
            delay, partial(self._call, callback) if is_flush else callback, *args
        )

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        start = time.thread_time()
        callback(*args)
        self.spent += time.thread_time() - start


def run(quick: bool) -> Iterator[Row]:
    """The same changes with findings and without them; then single holds, and a burst."""
    seconds = 5 if quick else 30
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        on, off = [pool.submit(_measure, one, seconds).result() for one in (True, False)]
        note("findings: ends of holds")
        late, rest, control = pool.submit(_measure_visible, 3 if quick else 20).result()
        note(f"findings: {SILENT:,} silent agents")
        silent = pool.submit(_measure_silent, SILENT // 10 if quick else SILENT).result()
    yield from _of_changes(on, seconds)
    yield at_most("their memory", on.megabytes - off.megabytes, MEMORY_MB, "MB")
    yield at_most(
        "idle, beside 500 symptoms",
        on.idle / min(seconds, IDLE_SECONDS) * 100,
        IDLE_PERCENT,
        "% of a core",
    )
    what = f"first diagnosis of {WORKLOADS * PODS:,} pods with {SICK} symptoms, processor time"
    yield at_most(what, on.first, FIRST_SECONDS, "s")
    yield _callback("in the first diagnosis", on.longest[0])
    yield _callback(f"while {SICK} holds end", on.longest[1])
    figure = f"a part that is put, in the same run: {control * 1000:.1f} ms"
    what = "end of a hold → visible during the changes, longest"
    yield at_most(what, late * 1000, VISIBLE_MS, "ms", figure)
    yield at_most("a change → evaluated during the changes, longest", rest, REST_SECONDS, "s")
    yield at_most("largest finding", on.largest, FINDING_BYTES, "bytes")
    for what, (spent, longest) in zip(("fall silent", "are back"), silent, strict=True):
        yield _callback(f"while {SILENT:,} agents {what}", longest, f"{spent:.1f} s in all")


def storm(quick: bool) -> Iterator[Row]:
    """The changes of an hour, or of STORM_MINUTES; not among the default benchmarks."""
    seconds = 60 * (1 if quick else STORM_MINUTES)
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        on = pool.submit(_measure, True, seconds).result()
    yield from _of_changes(on, seconds)
    what = f"memory that {seconds / 60:.0f} min add to their first tenth"
    yield at_most(what, on.grown, GROWN_MB, "MB", f"to {on.megabytes:.0f} MB")


def _of_changes(on: Measured, seconds: float) -> Iterator[Row]:
    flush, cost = on.flush / seconds * 100, on.diagnosis / seconds * 100
    figure = f"{cost:.2f} % of a core, the flush {flush:.1f} %"
    what = f"findings at {CHANGES:,} changes a second for {seconds:.0f} s, of the flush"
    yield at_most(what, cost / flush, FLUSH_SHARE, "×", figure)
    yield _callback("during the changes", on.longest[-1])


def _callback(what: str, seconds: float, figure: str = "") -> Row:
    what = f"longest callback {what}, processor time"
    return at_most(what, seconds * 1000, CALLBACK_MS, "ms", figure)


def _measure(is_on: bool, seconds: float) -> Measured:
    logger.remove()
    return asyncio.run(_measured(is_on, seconds))


async def _measured(is_on: bool, seconds: float) -> Measured:
    clock = TimedClock()
    store = Store("bench", clock)
    sources = filled(store)
    supervisor = Supervisor(store)
    measured = Measured()
    if is_on:
        gc.freeze()  # as the service does
        meter, diagnosed = _start(store, supervisor)
        await diagnosed.wait()
        gc.collect()
        gc.freeze()
        first, longest = meter.spent, [meter.lap()]
        await asyncio.sleep(SETTLE_SECONDS)  # the holds of all symptoms end
        longest.append(meter.lap())
        before = meter.spent
        await asyncio.sleep(min(seconds, IDLE_SECONDS))
        idle, before, flush = meter.spent - before, meter.spent, clock.spent
        await _change(store, sources["heartbeats"], seconds / 10)
        early = _resident()
        await _change(store, sources["heartbeats"], seconds * 9 / 10)
        measured = Measured(
            meter.spent - before,
            clock.spent - flush,
            idle,
            first=first,
            longest=[*longest, meter.lap()],
            largest=max(len(one.body) for one in store.snapshot.sections["findings"].rope),
            grown=_resident() - early,
        )
    else:
        await _change(store, sources["heartbeats"], seconds)
    measured = measured._replace(megabytes=_resident())
    await supervisor.stop()
    return measured


def _resident() -> float:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024**2


def _start(store: Store, supervisor: Supervisor, *rules: Rule) -> tuple[Meter, asyncio.Event]:
    """Start to diagnose; return the meter of it, and the event that ends the first round."""
    diagnosed, meter = asyncio.Event(), Meter()
    known = RULES | {rule.name: rule for rule in rules}

    async def run(settings: FindingsSettings, output: Output) -> None:
        await meter.run(Diagnosis(store, output, known, settings, diagnosed).run())

    supervisor.start_own(replace(collector(store, diagnosed), run=run), FindingsSettings())
    return meter, diagnosed


async def _change(store: Store, source: Source, seconds: float) -> None:
    """Agents take and end tasks, in batches as beats come."""
    chance = random.Random(1)
    start = time.perf_counter()
    number = 0
    while number < seconds * CHANGES:
        for _ in range(BATCH):
            number += 1
            name, id, part = _agent(chance.randrange(SICK, AGENTS), number)
            store.put(source, "agents", name, id, part)
        # At the same rate also on a slow machine.
        await asyncio.sleep(max(0.0, start + number / CHANGES - time.perf_counter()))


def _measure_visible(times: int) -> tuple[float, float, float]:
    logger.remove()
    return asyncio.run(_visible(times))


async def _visible(times: int) -> tuple[float, float, float]:
    """The longest times: the end of a hold to its finding; a put to its evaluation, its entity."""
    store = Store("bench")
    sources = filled(store)
    supervisor, probe = Supervisor(store), Probe()
    gc.freeze()
    _, diagnosed = _start(store, supervisor, probe.rule)
    await diagnosed.wait()
    gc.collect()
    gc.freeze()
    await asyncio.sleep(SETTLE_SECONDS)
    changes = asyncio.ensure_future(_change(store, sources["heartbeats"], inf))
    late = rest = control = 0.0
    for number in range(times):
        queue = Queue(name=f"probe-{number}", consumer_group="g", consumers=1, depth=0)
        start = time.perf_counter()
        store.put(sources["kafka"], "queues", queue.name, queue.name, queue)
        control = max(control, await _shown(store, "queues", f"kafka/{queue.name}/g") - start)
        shown = await _shown(store, "findings", f"Probe/queues/kafka~1{queue.name}~1g")
        seen = probe.seen[f"kafka/{queue.name}/g"]
        late, rest = max(late, shown - seen - HOLD_SECONDS), max(rest, seen - start)
        store.remove(sources["kafka"], "queues", queue.name)
    changes.cancel()
    await supervisor.stop()
    return late, rest, control


def _measure_silent(count: int) -> list[tuple[float, float]]:
    logger.remove()
    return asyncio.run(_silent(count))


async def _silent(count: int) -> list[tuple[float, float]]:
    """What agents cost that fall silent, and that are back: in all, and the longest step."""
    store = Store("bench")
    sources = filled(store)
    await _beat(store, sources["heartbeats"], count, "active")
    store.flush()
    gc.freeze()
    supervisor = Supervisor(store)
    meter, diagnosed = _start(store, supervisor)
    await diagnosed.wait()
    gc.collect()
    gc.freeze()
    found = []
    for status in ("silent", "active"):
        before, _ = meter.spent, meter.lap()
        await _beat(store, sources["heartbeats"], count, status)
        await asyncio.sleep(SILENT_SECONDS)
        found.append((meter.spent - before, meter.lap()))
    await supervisor.stop()
    return found


async def _beat(store: Store, source: Source, count: int, status: str) -> None:
    for number in range(count):
        name, id, part = _agent(number, 0)
        silent = {"silent_since": datetime.now(UTC)} if status == "silent" else {}
        part = replace(part, instance=replace(part.instance, status=status, **silent))
        store.put(source, "agents", name, id, part)
        if number % BATCH == 0:
            await asyncio.sleep(0)


async def _shown(store: Store, section: str, key: str) -> float:
    """Wait until the entity is published; return when it was."""
    shown = asyncio.Event()

    def look(_: Publication) -> None:
        if store.snapshot.sections[section].rope.get(key):
            shown.set()

    store.watchers.append(look)
    await shown.wait()
    store.watchers.remove(look)
    return time.perf_counter()


def filled(store: Store) -> dict[str, Source]:
    """Fill the store with a large system, some of it sick; return its sources."""
    sources = {name: store.add(name, name) for name in ("heartbeats", "kubernetes", "kafka")}
    for source in sources.values():
        source.start(inf)
        source.confirm()
    for number in range(WORKLOADS):
        workload = _workload(number)
        store.put(sources["kubernetes"], "workload", f"w{number}", f"w{number}", workload)
    for number in range(AGENTS):
        name, id, part = _agent(number, 0)
        store.put(sources["heartbeats"], "agents", name, id, part)
    for number in range(QUEUES):
        queue = Queue(name=f"q{number}", consumer_group="g", consumers=1, depth=5)
        store.put(sources["kafka"], "queues", queue.name, queue.name, queue)
    store.flush()
    return sources


def _workload(number: int) -> Workload:
    pods = [_pod(f"w{number}-{one}", f"10.{number}.0.{one}", one) for one in range(PODS)]
    if number < 10:
        end = LastExit(reason="OOMKilled", exit_code=137, at=START, container="main")
        bad: dict[str, Any] = {"ready": False, "reason": "CrashLoopBackOff", "restarts": 9}
        pods = [replace(pod, **bad, last_exit=end) for pod in pods]
    live = Live(desired=PODS, ready=PODS, active_pods=PODS, rollout="complete")
    return Workload(
        deployment_name=f"w{number}", namespace="prod", kind="Deployment", live=live, pods=pods
    )


def _pod(name: str, ip: str, number: int) -> Pod:
    return Pod(pod_id=name, status="Running", ready=True, node=f"n{number}", ip=ip, restarts=0)


def _agent(number: int, change: int) -> tuple[str, str, AgentPart]:
    id = f"a{number}-0"
    is_stalled = number < SICK
    tasks = [
        Task(
            id=f"t{number}-{one}-{change}",
            started_on=START,
            progressed_at=START - timedelta(hours=is_stalled),
            stalled=is_stalled,
            status="running",
            waits=[Wait(kind="tool", name=f"x{number}")] if is_stalled else [],
            queue=f"q{number % QUEUES}",
            instance=id,
        )
        for one in range(3)
    ]
    pod = f"w{number % WORKLOADS}-{number // WORKLOADS}"
    workload = f"kubernetes/prod/Deployment/w{number % WORKLOADS}"
    instance = Instance(id=id, status="active", pod_id=pod, workload=workload, source="heartbeats")
    queues = [f"q{number % QUEUES}"]
    part = AgentPart(
        namespace="prod", instance=instance, tasks=tasks, task_count=len(tasks), queues=queues
    )
    return f"a{number}", id, part
