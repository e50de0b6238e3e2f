"""A collector only for benchmarks: it makes up entities, changes them, and watches the loop.

`POST /bench/load?changes=N&relists=N&watch=1` (N per second) sets its load;
`GET /bench/loop` returns the delays of the event loop since the last such request.
"""

import asyncio
import gc
from itertools import count, cycle
from time import perf_counter, thread_time
from urllib.parse import parse_qsl

import msgspec

from bench import content
from telemetron.collector import Collector, Config, Output
from telemetron.http import EMPTY, NO_CONTENT, Receive, Scope, Send, answer, route_path

PATH = "/bench/"
TICK_SECONDS = 0.001
BURST_SECONDS = 0.01
BURST = 10
SLICE = 5  # workloads that are replaced before other tasks get their turn


class SyntheticConfig(Config, frozen=True):
    """The number of entities."""

    agents: int = 0
    pods: int = 0


class LoopTimes:
    """Delays of the event loop, measured by a timer every millisecond.

    `wall` is the delay of the timer, `cpu` the work of the loop's thread between two timers: at
    least the longest callback, and independent of other processes. Seconds.
    """

    def __init__(self) -> None:
        self.reset()
        self._gc_started = 0.0
        gc.callbacks.append(self._collected)

    def reset(self) -> None:
        """Forget the measurements."""
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.gc = [0.0, 0.0, 0.0]

    async def tick(self) -> None:
        """Measure once."""
        due, worked = perf_counter() + TICK_SECONDS, thread_time()
        await asyncio.sleep(TICK_SECONDS)
        self.wall.append(max(0.0, perf_counter() - due))
        self.cpu.append(thread_time() - worked)

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._gc_started = perf_counter()
        else:
            took = perf_counter() - self._gc_started
            self.gc[info["generation"]] = max(self.gc[info["generation"]], took)


class Synthetic:
    """One run: its parts, and the load."""

    def __init__(self, config: SyntheticConfig, output: Output) -> None:
        self.output = output
        self.times = LoopTimes()
        self.load: dict[str, float] = {"changes": 0, "relists": 0, "watch": 0}
        self.asked = {name: asyncio.Event() for name in self.load}
        self.puts = [*content.agents(config.agents), *content.workloads(config.pods)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the two paths below `/bench/`."""
        if route_path(scope) == PATH + "loop":
            times = {"wall": self.times.wall, "cpu": self.times.cpu, "gc": self.times.gc}
            self.times.reset()
            return await answer(scope, send, 200, msgspec.json.encode(times), {})
        query = scope["query_string"].decode()
        for name, value in parse_qsl(query):
            self.load[name] = float(value)
            self.asked[name].set() if self.load[name] else self.asked[name].clear()
        await send(NO_CONTENT)
        return await send(EMPTY)

    async def run(self) -> None:
        """Put everything, then apply the load."""
        await self.output.replace(self.puts)
        await asyncio.gather(self._change(), self._relist(), self._watch())

    async def _change(self) -> None:
        """Change one entity after the other, evenly over the time."""
        each, turn, owed = cycle(range(len(self.puts))), count(1), 0.0
        while True:
            await self.asked["changes"].wait()
            then = perf_counter()
            await asyncio.sleep(BURST_SECONDS)
            owed += (perf_counter() - then) * self.load["changes"]
            while owed >= 1:
                if owed % BURST < 1:  # as beats: few of them arrive in the same turn of the loop
                    await asyncio.sleep(0)
                at, owed = next(each), owed - 1
                put = content.changed(self.puts[at], next(turn))
                self.puts[at] = put
                self.output.put(put.section, put.group, put.id, put.part)
                self.output.count("changes")

    async def _relist(self) -> None:
        """Replace all workloads with new measures of every pod."""
        for turn in count(1):
            await self.asked["relists"].wait()
            await asyncio.sleep(1 / self.load["relists"])
            for n, put in enumerate(self.puts):
                if put.section == "workload":
                    self.puts[n] = content.measured(put, turn)
                if n % SLICE == 0:
                    await asyncio.sleep(0)
            await self.output.replace(self.puts)
            self.output.count("relists")

    async def _watch(self) -> None:
        while True:
            await self.asked["watch"].wait()
            await self.times.tick()


async def run(config: SyntheticConfig, output: Output) -> None:
    """Run until cancelled."""
    synthetic = Synthetic(config, output)
    output.mount(PATH, synthetic)
    await synthetic.run()


collector = Collector(
    name="synthetic",
    description="Makes up entities, for benchmarks.",
    config=SyntheticConfig,
    sections=("agents", "workload"),
    max_age_seconds=lambda config: 3600.0,
    run=run,
    paths=(PATH,),
)
