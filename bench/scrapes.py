"""What scrapes of `/metrics/state` cost with 10,000 agents, and how long they hold up the loop."""

import asyncio
import gc
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import median
from typing import NamedTuple

from bench.report import Row, at_most, figure
from telemetron.agents import AgentPart
from telemetron.document import Instance, Outcomes, Task, Wait
from telemetron.exposition.exposition import Asked, Exposition
from telemetron.store.source import Source
from telemetron.store.store import Store

AGENTS = 10_000
CHANGED = (0, 1, 10, 100, AGENTS)
SCRAPE_MS, LOOP_MS = 10, 5
FEW = 10
"""So many changes are few: a scrape after them has to keep to its limit."""


class Times(NamedTuple):
    """Seconds of processor: of each scrape, and of the longest turn of the loop in it."""

    scrapes: list[float]
    turns: list[float]


def run(quick: bool) -> Iterator[Row]:
    """Scrape, compressed, after changes of some agents."""
    for changed, times in asyncio.run(_measured(3 if quick else 10)).items():
        yield from _rows(f"{changed:,} of {AGENTS:,} agents changed", times, changed <= FEW)


async def _measured(rounds: int) -> dict[int, Times]:
    store = Store("bench")
    source = store.add("heartbeats", "heartbeats")
    source.start(60)
    _beat(store, source, range(AGENTS), 0)
    exposition = Exposition(store, 200_000)
    sections = tuple(store.snapshot.sections)
    asked = Asked(sections, open_metrics=True, gzip=True)
    await _scrape(exposition, asked)
    found = {changed: Times([], []) for changed in CHANGED}
    gc.disable()  # collections go through the whole state, whatever is done meanwhile
    try:
        for changed, times in found.items():
            for number in range(rounds):
                _beat(store, source, random.sample(range(AGENTS), changed), number + 1)
                scrape, turn = await _scrape(exposition, asked)
                times.scrapes.append(scrape)
                times.turns.append(turn)
    finally:
        gc.enable()
    return found


def _rows(what: str, times: Times, is_few: bool) -> Iterator[Row]:
    milliseconds = median(times.scrapes) * 1000
    if is_few:
        yield at_most(f"scrape, {what}", milliseconds, SCRAPE_MS, "ms of CPU")
    else:
        yield figure(f"scrape, {what}", milliseconds, "ms of CPU")
    yield at_most(f"longest turn of the loop, {what}", median(times.turns) * 1000, LOOP_MS, "ms")


async def _scrape(exposition: Exposition, asked: Asked) -> tuple[float, float]:
    """Return the processor time of a scrape, and of its longest step."""
    page = exposition.page(asked).__await__()
    total = longest = 0.0
    is_done = False
    while not is_done:
        started = time.thread_time()
        is_done = next(page, "done") == "done"
        taken = time.thread_time() - started
        total, longest = total + taken, max(longest, taken)
        await asyncio.sleep(0)
    return total, longest


def _beat(store: Store, source: Source, agents: "range | list[int]", number: int) -> None:
    for agent in agents:
        store.put(source, "agents", f"agent-{agent}", f"i-{agent}", _part(agent, number))
    store.flush()


def _part(agent: int, number: int) -> AgentPart:
    now = datetime.now(UTC)
    id = f"agent-{agent}-0"
    task = Task(
        id=f"t-{agent}-{number}",
        status="waiting",
        started_on=now,
        progressed_at=now,
        stalled=False,
        waits=[Wait(kind="llm", name="gpt")],
        wait_count=1,
        instance=id,
    )
    outcomes = Outcomes(completed=number)
    instance = Instance(id=id, status="active", started_at=now, outcomes=outcomes)
    return AgentPart(namespace="prod", instance=instance, tasks=[task], task_count=1)
