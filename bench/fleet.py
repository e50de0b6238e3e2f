"""Agents that beat at a fixed pace, and the delay until their beats are visible."""

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
    """The agents, and the rate of all their beats together."""

    agents: int
    instances: int
    beats_per_second: float


class Times(NamedTuple):
    """Seconds from each beat to its answer, and from that to a read that shows it; their number."""

    beats: list[float]
    visible: list[float]
    per_second: float


class Fleet:
    """Yield all beats in turn: first instance of each agent, then the second; each has its turn."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.turns = self._turns()

    def _turns(self) -> Iterator[tuple[int, int, int]]:
        each = product(range(self.pace.instances), range(self.pace.agents))
        return ((agent, instance, turn) for turn, (instance, agent) in enumerate(cycle(each), 1))

    async def beat_all(self, server: Server) -> None:
        """Send one beat of every instance, as fast as the server answers."""
        async with connected(server) as connection:
            for _ in range(self.pace.agents * self.pace.instances):
                await self._beat(connection)

    async def run(self, server: Server, seconds: float) -> Times:
        """Send beats at the pace, and look for a few of them until a read shows them."""
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
        """Send one connection's share by the clock, so a late answer delays no beat."""
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
                # An event would show when a read could see it; only a read shows when it does.
                while mark not in await connection.get(path):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
            times.append(perf_counter() - answered)

    async def _beat(self, connection: Connection) -> tuple[int, bytes]:
        """Return the agent that beats next, and the new content of its beat."""
        agent, instance, turn = next(self.turns)
        step = f"step {turn}."
        body = content.beat(agent, instance, turn, step)
        await connection.post(f"/agents/{content.name(agent)}/heartbeat", body)
        return agent, step.encode()
