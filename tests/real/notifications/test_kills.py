"""Telemetron is killed at any moment, and receivers fail in every way: no edge is lost or invented.

`TELEMETRON_KILLS=50` makes it as long as it is before a release.
"""

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.real.notifications.system import System
from tests.telemetron.notifications.receiver import (
    CUT,
    HANG,
    SECRET,
    SLOW,
    TAKE_AND_CUT,
    Receiver,
    receiving,
)

KILLS = int(os.environ.get("TELEMETRON_KILLS", "8"))
LIFE_SECONDS = 2.0
READY = 0.8
"""The share of lives that end after the start; the others end at any time of it."""
TOPICS = ("plans", "reviews", "sections", "code")
FAULTS: tuple[int | str, ...] = (500, 503, 302, CUT, TAKE_AND_CUT, TAKE_AND_CUT, HANG, SLOW)

PACE = {"retries": [0.05, 0.2, 0.5], "newest": 0.2, "timeout": 0.5, "grace": 0.5, "tick": 0.1}
"""Hours and minutes as seconds."""


class Story:
    """The edges of each topic that must arrive, and whether they did."""

    def __init__(self, system: System, receivers: dict[str, Receiver]) -> None:
        self.system = system
        self.receivers = receivers
        self.edges = dict.fromkeys(TOPICS, 0)
        self.is_over = False

    async def play(self, topic: str, chance: random.Random) -> None:
        """Lose and regain the consumers of a topic; each time every receiver has to hear of it."""
        while not self.is_over or self.edges[topic] % 2:
            self.system.set(self.edges[topic] % 2, topic)
            self.edges[topic] += 1
            for receiver in self.receivers.values():
                await until(receiver, lambda one=receiver: self._has_heard(one, topic))
            await asyncio.sleep(chance.uniform(0, 0.3))

    def _has_heard(self, receiver: Receiver, topic: str) -> bool:
        return len(firsts(receiver, topic)) >= self.edges[topic]

    def check(self, receiver: Receiver) -> None:
        """Each edge came, in its order, under one id, and nothing else did."""
        for topic in TOPICS:
            kinds = [one["type"].rpartition(".")[2] for one in firsts(receiver, topic)]
            assert kinds == ["fired", "resolved"] * (self.edges[topic] // 2)
        whole = firsts(receiver)
        assert len(whole) == sum(self.edges.values())
        assert [one["time"] for one in whole] == sorted(one["time"] for one in whole)
        bodies = {one["id"]: one for one in whole}
        assert all(one.body == bodies[one.id] for one in receiver.taken)


def firsts(receiver: Receiver, topic: str = "") -> list[Any]:
    """Return the accepted events by their first arrival, of one topic or all."""
    found = {one.id: one.body for one in reversed(receiver.taken)}
    order = dict.fromkeys(one.id for one in receiver.taken)
    return [found[id] for id in order if topic in found[id].get("subject", "")]


async def until(receiver: Receiver, true: Callable[[], bool]) -> None:
    """Wait until requests have made it true; the test's own timeout ends that."""
    while not true():
        with suppress(TimeoutError):
            await receiver.got(len(receiver.requests) + 1)


@pytest.mark.timeout(120 + 20 * KILLS)
async def test_every_edge_arrives_once_or_more_in_order_and_none_is_invented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(20261201)
    async with receiving() as faulty, receiving() as steady:
        faulty.choose = lambda: chance.choice(FAULTS) if chance.random() < 0.4 else 204
        receivers = {"faulty": faulty, "steady": steady}
        hooks = [
            {"name": name, "url": one.url, "secret": SECRET} for name, one in receivers.items()
        ]
        system = System(tmp_path, TOPICS, PACE, webhooks=hooks)
        story = Story(system, receivers)
        plays = [asyncio.create_task(story.play(topic, chance)) for topic in TOPICS]
        try:
            for _ in range(KILLS):
                await system.start()
                if chance.random() < READY:
                    await system.ready()
                await asyncio.sleep(chance.uniform(0.0, LIFE_SECONDS))
                await system.end()
            await system.start()
            story.is_over = True
            await asyncio.gather(*plays)
        finally:
            for task in plays:
                task.cancel()
            await system.end()
        for receiver in receivers.values():
            story.check(receiver)
    repeated = len(faulty.taken) - len(firsts(faulty))
    with capsys.disabled():
        print(
            f"\n{KILLS} kills: {sum(story.edges.values())} edges, {len(faulty.requests)} attempts"
            f" to a faulty receiver, {repeated} accepted again"
        )
    assert min(story.edges.values()) >= 2
