"""What findings cost beside the flush, how much they hold, and how soon they are there."""

import asyncio
import random
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from math import inf
from multiprocessing import get_context
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from bench.report import Row, at_most
from telemetron.agents import AgentPart
from telemetron.diagnosis.collector import collector
from telemetron.diagnosis.settings import FindingsSettings
from telemetron.document import Instance, LastExit, Live, Pod, Queue, Task, Wait, Workload
from telemetron.service.supervisor import Supervisor
from telemetron.store.source import Source
from telemetron.store.store import Store

WORKLOADS, PODS, AGENTS, QUEUES = 200, 50, 1_000, 50
SICK = 500
CHANGES, BATCH = 1_000, 25
FLUSH_SHARE, MEMORY_MB, CALLBACK_MS, FIRST_SECONDS = 0.15, 20, 20, 1
IDLE_PERCENT, VISIBLE_MS = 0.1, 50
START = datetime.now(UTC)


class Measured(NamedTuple):
    """What one process has used."""

    cpu: float
    """Seconds of processor while entities changed."""
    idle: float
    megabytes: float
    first: float
    longest: float
    """Seconds that the event loop was held up, at most, while nothing else ran."""


def run(quick: bool) -> Iterator[Row]:
    """The same changes with findings, without them, and with nothing that takes them."""
    seconds = 3 if quick else 30
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        on, off, nothing = [
            pool.submit(_measure, mode, seconds).result() for mode in ("on", "off", "nothing")
        ]
    flush = (off.cpu - nothing.cpu) / seconds * 100
    cost = (on.cpu - off.cpu) / seconds * 100
    figure = f"{cost:.2f} % of a core, the flush {flush:.1f} %"
    what = f"findings at {CHANGES:,} changes a second, of the flush"
    yield at_most(what, cost / flush, FLUSH_SHARE, "×", figure)
    yield at_most("their memory", on.megabytes - off.megabytes, MEMORY_MB, "MB")
    yield at_most("idle", (on.idle - off.idle) / seconds * 100, IDLE_PERCENT, "% of a core")
    what = f"first diagnosis of {WORKLOADS * PODS:,} pods with {SICK} symptoms"
    yield at_most(what, on.first, FIRST_SECONDS, "s")
    yield at_most("longest callback of it", on.longest * 1000, CALLBACK_MS, "ms")
    late = asyncio.run(_visible(20 if quick else 100))
    yield at_most("end of a hold → visible, longest", late * 1000, VISIBLE_MS, "ms")


def _measure(mode: str, seconds: int) -> Measured:
    return asyncio.run(_measured(mode, seconds))


async def _measured(mode: str, seconds: int) -> Measured:
    store = Store("bench")
    sources = _filled(store)
    supervisor = Supervisor(store)
    first = longest = 0.0
    if mode == "on":
        diagnosed = asyncio.Event()
        supervisor.start_own(collector(store, diagnosed), FindingsSettings())
        first, longest = await _first(diagnosed)
    idle = time.process_time()
    await asyncio.sleep(seconds)
    idle = time.process_time() - idle
    cpu = time.process_time()
    await _change(store, sources["heartbeats"], seconds, is_real=mode != "nothing")
    cpu = time.process_time() - cpu
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    await supervisor.stop()
    return Measured(cpu, idle, megabytes, first, longest)


async def _first(diagnosed: asyncio.Event) -> tuple[float, float]:
    """Until all was evaluated once: the time, and the longest that others had to wait."""
    start, longest = time.perf_counter(), 0.0
    while not diagnosed.is_set():
        before = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
    return time.perf_counter() - start, longest


async def _change(store: Store, source: Source, seconds: int, *, is_real: bool) -> None:
    """Agents take and end tasks, in batches as beats come."""
    chance = random.Random(1)
    until = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < until:
        for _ in range(BATCH):
            number += 1
            name, id, part = _agent(chance.randrange(SICK, AGENTS), number)
            if is_real:
                store.put(source, "agents", name, id, part)
        await asyncio.sleep(BATCH / CHANGES)


async def _visible(times: int) -> float:
    """The longest time from the end of a hold to a finding."""
    store = Store("bench")
    source = store.add("kafka", "kafka")
    source.start(inf)
    source.confirm()
    supervisor = Supervisor(store)
    settings: Any = {"NoConsumers": {"hold_seconds": 0.2, "clear_seconds": 0}}
    diagnosed = asyncio.Event()
    config = msgspec.convert({"rules": settings}, FindingsSettings)
    supervisor.start_own(collector(store, diagnosed), config)
    await diagnosed.wait()
    late = 0.0
    for number in range(times):
        queue = Queue(name=f"q{number}", consumer_group="g", consumers=0, depth=1)
        store.put(source, "queues", queue.name, queue.name, queue)
        start = time.perf_counter()
        while len(store.snapshot.sections["findings"].rope) <= number:  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
        late = max(late, time.perf_counter() - start - 0.2)
    await supervisor.stop()
    return late


def _filled(store: Store) -> dict[str, Source]:
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
