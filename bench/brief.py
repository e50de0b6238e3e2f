"""The time to make a brief of a large system, and the time that the event loop is held up."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from statistics import median
from typing import NamedTuple

from bench.findings import AGENTS, PODS, QUEUES, WORKLOADS, filled
from bench.report import Row, at_most
from telemetron.answers.brief.brief import Question
from telemetron.diagnosis.collector import collector
from telemetron.diagnosis.rules import RULES
from telemetron.diagnosis.settings import FindingsSettings, RuleSettings
from telemetron.document import Queue
from telemetron.history.history import History
from telemetron.service.supervisor import Supervisor
from telemetron.store.store import Store
from telemetron.web.brief import Asked, Briefs

BRIEF_MS, LOOP_MS, KEPT_MS = 20, 5, 1
JSON = "application/json"
AT_ONCE = {name: RuleSettings(hold_seconds=0) for name in RULES}
"""Each symptom is a finding after the first round."""
QUESTIONS = {
    "of all": Question(),
    "of all, 10,000 tokens": Question(10_000),
    "about an agent": Question(about="a7"),
}


class Times(NamedTuple):
    """Seconds of each brief: of processor in all threads, and of the loop's thread at once."""

    cpu: list[float]
    loop: list[float]
    kept: list[float]


def run(quick: bool) -> Iterator[Row]:
    """Ask for each brief after a change, when nothing of the revision is known yet."""
    size = f"{WORKLOADS * PODS:,} pods, {AGENTS:,} agents"
    for what, times in asyncio.run(_measured(10 if quick else 50)).items():
        cpu, longest, kept = median(times.cpu), max(times.loop), median(times.kept)
        most = f"at most {max(times.cpu) * 1000:.1f} ms"
        title = f"{what}, {size}"
        yield at_most(f"{title}: processor, median", cpu * 1000, BRIEF_MS, "ms", most)
        yield at_most(f"{title}: longest work of the loop", longest * 1000, LOOP_MS, "ms")
        yield at_most(f"{title}: again in the same revision", kept * 1000, KEPT_MS, "ms")


async def _measured(count: int) -> dict[str, Times]:
    store = Store("bench")
    sources = filled(store)
    history = History(store)
    history.start()
    supervisor = Supervisor(store)
    diagnosed = asyncio.Event()
    supervisor.start_own(collector(store, diagnosed), FindingsSettings(rules=AT_ONCE))
    await diagnosed.wait()
    await supervisor.stop()  # it would work on each change too

    def change(number: int) -> None:
        name = f"q{number % QUEUES}"
        queue = Queue(name=name, consumer_group="g", consumers=1, depth=number)
        store.put(sources["kafka"], "queues", name, name, queue)
        store.flush()

    found = {}
    for what, question in QUESTIONS.items():
        times = Times([], [], [])
        for number in range(count):
            change(number)
            await history.ask(lambda timeline: timeline.tip)  # it has recorded the change
            briefs = Briefs(store.snapshot, history)
            asked = Asked(question, JSON)
            await _time(lambda briefs=briefs, asked=asked: briefs.get(asked), times)
            start = time.perf_counter()
            await briefs.get(asked)
            times.kept.append(time.perf_counter() - start)
        found[what] = times
    await history.stop()
    return found


async def _time(make: Callable[[], Awaitable[bytes]], times: Times) -> None:
    start, watching = time.process_time(), asyncio.create_task(_watch(times.loop))
    await make()
    times.cpu.append(time.process_time() - start)
    watching.cancel()


async def _watch(worked: list[float]) -> None:
    """Note the work of the loop's thread between two turns."""
    while True:
        start = time.thread_time()
        await asyncio.sleep(0.0005)
        worked.append(time.thread_time() - start)
