"""Streams of events: groups that share answers, failures, slow clients and gaps."""

import asyncio
import json
import socket
import threading
from contextlib import closing

import pytest

from telemetron.history import queries
from telemetron.history.limits import HistoryLimits
from telemetron.history.queries import Asked
from telemetron.web.streams import Durations, Stream, Streams
from tests.telemetron.web.client import AGENTS, EVENTS, beat, events, place, until


def fields(event):
    """Return the fields of an event by name; a comment has the name `""`."""
    text = event.chunks[0].partition(b"\r\n")[2].decode()
    lines = [line.partition(":") for line in text.splitlines() if line]
    return {name: value.strip() for name, _, value in lines}


def answer(event):
    return json.loads(fields(event)["data"])


def keys(event):
    return [change["key"] for change in answer(event)["changes"]]


@pytest.fixture
async def streams(live):
    """Streams of the live server's history that retry soon."""
    found = Streams(live.app.service.history, Durations(retry=0.1, comment=60))
    yield found
    found.stop()


async def waiting(streams, **asked):
    """Return the wait of a new stream, once it has begun."""
    before = len(streams)
    wait = asyncio.create_task(streams.wait(Stream(Asked(**asked))))
    await until(lambda: len(streams) > before or wait.done())
    return wait


async def test_a_comment_shows_that_a_stream_is_open(live):
    streams = Streams(live.app.service.history, Durations(comment=0.05))
    now = await place(live)
    event = await streams.wait(Stream(Asked(since=now)))
    found = fields(event)
    assert (found[""], found["id"]) == ("still here", now)


async def test_a_stream_that_closes_is_removed(live, streams):
    stream = Stream(Asked(since=await place(live)))
    wait = asyncio.create_task(streams.wait(stream))
    await until(lambda: len(streams) == 1)
    stream.close()
    assert await wait is None
    assert len(streams) == 0
    assert await streams.wait(stream) is None


async def test_a_client_that_disconnects_is_removed(live):
    async with live.client.stream("GET", "/system/changes", headers=EVENTS) as response:
        await anext(events(response))
        assert len(live.app.changes.streams) == 1
    await until(lambda: len(live.app.changes.streams) == 0)


async def test_streams_at_one_place_get_the_same_event(live, streams):
    since = await place(live)
    waits = [await waiting(streams, since=since) for _ in range(20)]
    await beat(live)
    (event,) = {id(event): event for event in await asyncio.gather(*waits)}.values()
    assert keys(event)[-1] == "prod/planner"


async def test_a_stop_ends_all_streams(live, streams):
    wait = await waiting(streams, since=await place(live))
    streams.stop()
    assert await wait is None
    assert await streams.wait(Stream(Asked(since="ab.1"))) is None


# failures


class Past:
    """Records the questions of streams; fails for some keys, and is slow for unknown epochs."""

    def __init__(self, monkeypatch):
        self.asked = []
        self.failing = {}
        self.slow = threading.Event()
        after = queries.news

        def recorded(timeline, asked):
            self.asked.append(asked)
            if error := self.failing.get(asked.key):
                raise error
            if asked.since.startswith("ab."):
                self.slow.wait(0.05)
            return after(timeline, asked)

        monkeypatch.setattr(queries, "news", recorded)


@pytest.fixture
def past(live, monkeypatch):
    found = Past(monkeypatch)
    yield found
    found.slow.set()


@pytest.mark.parametrize("error", [RuntimeError("wrong"), OSError("the disk is gone")])
async def test_a_failed_question_is_retried_and_delays_no_other(live, streams, past, logged, error):
    past.failing["prod/two"] = error
    for name in ("one", "two"):
        await beat(live, name)
    since = await place(live)
    good = await waiting(streams, since=since, key="prod/one")
    failing = await waiting(streams, since=since, key="prod/two")
    await beat(live, "two", version="2")
    await beat(live, "one", version="2")
    async with asyncio.timeout(30):
        assert keys(await good) == ["prod/one"]
    await until(lambda: sum(one.key == "prod/two" for one in past.asked) >= 3)
    assert not failing.done()
    past.failing.clear()
    assert keys(await failing) == ["prod/two"]
    is_bug = isinstance(error, RuntimeError)  # an OSError is a problem of the source `history`
    assert any("cannot send changes after" in line for line in logged) == is_bug


async def test_streams_at_the_newest_place_come_before_old_ones(live, streams, past):
    old = [
        asyncio.create_task(streams.wait(Stream(Asked(since=f"ab.{n + 1}", key=f"{n}"))))
        for n in range(60)
    ]
    await beat(live, "new")
    new = await waiting(streams, since=await place(live), key="prod/new")
    await beat(live, "new", version="2")
    assert keys(await new) == ["prod/new"]
    assert sum(one.done() for one in old) < 40
    past.slow.set()
    assert {fields(event)["event"] for event in await asyncio.gather(*old)} == {"gap"}


# slow clients


def unread(live):
    """Open a stream, and read nothing of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", int(live.url.rpartition(":")[2])))
    sock.sendall(
        f"GET {AGENTS} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n".encode()
    )
    sock.setblocking(False)
    return sock


async def publish(live, told, version):
    """Make an event of about 256 KB, and wait until another stream has it; return its place."""
    tasks = [{"id": f"t-{n}", "step": f"{version:04}" + "x" * 450} for n in range(256)]
    await beat(live, tasks=tasks, version=f"{version}")
    return json.loads((await anext(told))["data"])["to"]


async def test_unread_streams_share_the_bytes_of_an_event(live):
    streams, holding = live.app.changes.streams, live.app.readers.holding
    async with live.client.stream("GET", AGENTS, headers=EVENTS) as response:
        told = events(response)
        await anext(told)
        with closing(unread(live)), closing(unread(live)):
            await until(lambda: len(streams) == 3)
            version = 0
            while len(holding) < 2:
                version += 1
                assert version < 20
                await publish(live, told, version)
            (one,), (two,) = holding.values()
            assert one is two
        await until(lambda: not holding)


async def test_a_slow_client_gets_fewer_and_larger_events(live):
    async with live.client.stream("GET", AGENTS, headers=EVENTS) as response:
        told = events(response)
        await anext(told)
        with closing(unread(live)) as slow:
            await until(lambda: len(live.app.changes.streams) == 2)
            for version in range(30):
                last = await publish(live, told, version)
            answers = [one async for one in answers_until(slow, last)]
    assert 2 <= len(answers) < 20
    assert [one["from"] for one in answers[1:]] == [one["to"] for one in answers[:-1]]
    (change,) = answers[-1]["changes"]
    version = change["fields"]["instances/i1/version"]
    assert int(version["old"]) < 20
    assert version["new"] == "29"


async def answers_until(sock, last):
    """Yield the answers of a stream up to the place."""
    reader, writer = await asyncio.open_connection(sock=sock, limit=2**22)
    to = None
    async with asyncio.timeout(30):
        while to != last:
            line = await reader.readline()
            if line.startswith(b"data: "):
                answer = json.loads(line[6:])
                to = answer["to"]
                yield answer
    writer.close()


# gaps


async def test_a_gap_is_an_event(serving):
    # The history keeps nothing for long, and the pause between two events is longer.
    limits = HistoryLimits(recent_weight=0, open_weight=1)
    async with serving("history: {max_age_hours: 0.00001}", {"history_limits": limits}) as live:
        streams = Streams(live.app.service.history, Durations(pause=0.5))
        stream = Stream(Asked(since=await place(live)))
        await beat(live, version="0")
        first = fields(await streams.wait(stream))
        for version in range(1, 5):
            await asyncio.sleep(0.05)
            await beat(live, version=f"{version}")
        gap = await streams.wait(stream)
        assert fields(gap)["event"] == "gap"
        assert (answer(gap)["from"], answer(gap)["to"]) == (first["id"], fields(gap)["id"])
        assert not answer(gap)["complete"]
        await beat(live, version="after")
        assert answer(await streams.wait(stream))["from"] == fields(gap)["id"]
        streams.stop()
