"""Telemetron is killed at any moment, and receivers fail in every way: no edge is lost or invented.

`TELEMETRON_KILLS=50` makes it as long as it is before a release.
"""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

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
LIFE_SECONDS = 2.5
TOPICS = ("plans", "reviews", "sections", "code")
FAULTS: tuple[int | str, ...] = (500, 503, 302, CUT, TAKE_AND_CUT, TAKE_AND_CUT, HANG, SLOW)

PROGRAM = """
import asyncio, json, sys
from telemetron.config.settings import load
from telemetron.document import Queue
from telemetron.notifications.pace import Pace
from telemetron.service.service import Service

# The times of hours and minutes, as seconds.
PACE = Pace(retries=(0.05, 0.2, 0.5), newest=0.2, timeout=0.5, grace=0.5, tick=0.1)

async def main():
    service = Service(load(sys.argv[1], {}), pace=PACE)
    await service.start()
    source = service.store.add("kafka", "kafka")
    source.start(1e9)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        for topic, consumers in json.loads(line).items():
            queue = Queue(name=topic, consumer_group="readers", consumers=consumers, depth=3,
                          group_state="Empty" if not consumers else "Stable")
            service.store.put(source, "queues", topic, topic, queue)
        source.confirm()

asyncio.run(main())
"""


class System:
    """Telemetron as a process, and the consumers of each topic, which it is sent."""

    def __init__(self, folder: Path, urls: dict[str, str]) -> None:
        self.consumers = dict.fromkeys(TOPICS, 1)
        self._config = folder / "telemetron.json"
        self._log = folder / "log"
        hooks = [
            {"name": name, "url": url, "secret": SECRET, "rules": ["NoConsumers"]}
            for name, url in urls.items()
        ]
        rules = {"NoConsumers": {"hold_seconds": 0, "clear_seconds": 0}}
        whole = {
            "sources": {"heartbeats": "off"},
            "findings": {"rules": rules},
            "webhooks": hooks,
            "history": {"url": f"sqlite:///{folder}/history.db"},
        }
        self._config.write_text(json.dumps(whole))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                PROGRAM,
                str(self._config),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self._send(self.consumers)

    def set(self, topic: str, consumers: int) -> None:
        self.consumers[topic] = consumers
        self._send({topic: consumers})

    def _send(self, consumers: dict[str, int]) -> None:
        if self._process and self._process.stdin:
            with suppress(ConnectionError):  # it was just killed; the next one gets everything
                self._process.stdin.write(json.dumps(consumers).encode() + b"\n")

    async def kill(self) -> None:
        assert self._process
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    def said(self) -> str:
        return self._log.read_text()[-3_000:]


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
            self.system.set(topic, self.edges[topic] % 2)
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
    """Wait until requests have made it true."""
    while not true():
        await receiver.got(len(receiver.requests) + 1)


@pytest.mark.timeout(120 + 20 * KILLS)
async def test_every_edge_arrives_once_or_more_in_order_and_none_is_invented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(20261201)
    async with receiving() as faulty, receiving() as steady:
        faulty.choose = lambda: chance.choice(FAULTS) if chance.random() < 0.4 else 204
        receivers = {"faulty": faulty, "steady": steady}
        system = System(tmp_path, {name: one.url for name, one in receivers.items()})
        story = Story(system, receivers)
        plays = [asyncio.create_task(story.play(topic, chance)) for topic in TOPICS]
        try:
            for _ in range(KILLS):
                await system.start()
                await asyncio.sleep(chance.uniform(0.1, LIFE_SECONDS))
                await system.kill()
            await system.start()
            story.is_over = True
            await asyncio.gather(*plays)
        except TimeoutError:
            pytest.fail(system.said())
        finally:
            for task in plays:
                task.cancel()
            await system.kill()
        for receiver in receivers.values():
            story.check(receiver)
    repeated = len(faulty.taken) - len(firsts(faulty))
    with capsys.disabled():
        print(
            f"\n{KILLS} kills: {sum(story.edges.values())} edges, {len(faulty.requests)} attempts"
            f" to a faulty receiver, {repeated} accepted again"
        )
    assert min(story.edges.values()) >= 2
