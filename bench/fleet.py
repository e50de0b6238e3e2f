"""Agents that beat at a fixed pace, and how soon what they say is seen."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import cycle, product
from time import perf_counter
from typing import NamedTuple

from bench import content
from bench.client import Connection, connected
from bench.process import Server

CONNECTIONS = 16
PROBES = 2
LOOK_SECONDS = 0.002
VISIBLE_SECONDS = 5.0


class Pace(NamedTuple):
    """Who beats, and how often all of them together."""

    agents: int
    instances: int
    beats_per_second: float


class Times(NamedTuple):
    """Seconds: from sending a beat to its answer, from its answer to seeing it; and how many."""

    beats: list[float]
    visible: list[float]
    per_second: float


class Fleet:
    """All beats in turn: the first instance of each agent, then the second; each says its turn."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.turns = self._turns()

    def _turns(self) -> Iterator[tuple[int, int, int]]:
        each = product(range(self.pace.instances), range(self.pace.agents))
        return ((agent, instance, turn) for turn, (instance, agent) in enumerate(cycle(each), 1))

    async def beat_all(self, server: Server) -> None:
        """Every instance beats once, as fast as the server takes it."""
        async with connected(server) as connection:
            for _ in range(self.pace.agents * self.pace.instances):
                await self._beat(connection)

    async def run(self, server: Server, seconds: float) -> Times:
        """Beat at the pace; a few of the beats are looked for until they are seen."""
        beats: list[float] = []
        visible: list[float] = []
        async with AsyncExitStack() as stack:
            each = [
                await stack.enter_async_context(connected(server))
                for _ in range(CONNECTIONS + PROBES)
            ]
            start = perf_counter()
            await asyncio.gather(
                *(self._look(each.pop(), start + seconds, visible) for _ in range(PROBES)),
                *(self._keep(one, start, at, seconds, beats) for at, one in enumerate(each)),
            )
            return Times(beats, visible, len(beats) / (perf_counter() - start))

    async def _keep(
        self, connection: Connection, start: float, at: int, seconds: float, times: list[float]
    ) -> None:
        """One connection's share, by the clock: an answer that is late makes no beat later."""
        every = CONNECTIONS / self.pace.beats_per_second
        due = start + at / self.pace.beats_per_second
        while due < start + seconds:
            if (ahead := due - perf_counter()) > 0:
                await asyncio.sleep(ahead)
            sent = perf_counter()
            await self._beat(connection)
            times.append(perf_counter() - sent)
            due += every

    async def _look(self, connection: Connection, until: float, times: list[float]) -> None:
        while perf_counter() < until:
            agent, mark = await self._beat(connection)
            answered = perf_counter()
            path = f"/system/state/agents/{content.namespace(agent)}/{content.name(agent)}"
            async with asyncio.timeout(VISIBLE_SECONDS):
                # An event would tell when it could be seen; only a reader tells when it is.
                while mark not in await connection.get(path):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
            times.append(perf_counter() - answered)

    async def _beat(self, connection: Connection) -> tuple[int, bytes]:
        """The agent that beats next, and what in its beat is new."""
        agent, instance, turn = next(self.turns)
        step = f"step {turn}."
        body = content.beat(agent, instance, turn, step)
        await connection.post(f"/agents/{content.name(agent)}/heartbeat", body)
        return agent, step.encode()
