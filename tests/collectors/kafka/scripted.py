"""A scripted broker, for responses that a real one does not return on demand."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from telemetron_collectors.kafka.protocol import wire
from telemetron_collectors.kafka.protocol.wire import (
    NO_TAGS,
    WireReader,
    compact_array,
    compact_text,
)

METADATA, OFFSETS, FETCH, COMMITS, COORDINATOR = 3, 2, 1, 9, 10
DESCRIBE, GROUPS, VERSIONS, CONSUMER, SHARE, STREAMS, SHARE_OFFSETS = 15, 16, 18, 69, 77, 89, 90
HIGHS = -OFFSETS
"""Requests for high watermarks, which include open transactions."""
ALL = {
    METADATA: (0, 13),
    OFFSETS: (1, 11),
    FETCH: (4, 18),
    COMMITS: (1, 10),
    COORDINATOR: (0, 6),
    DESCRIBE: (0, 6),
    GROUPS: (0, 5),
    VERSIONS: (0, 4),
    CONSUMER: (0, 1),
    SHARE: (1, 1),
    STREAMS: (0, 0),
    SHARE_OFFSETS: (0, 1),
}


@dataclass
class Log:
    """One partition."""

    start: int = 0
    end: int = 0
    high: int = 0
    error: int = 0
    fetch_error: int = 0
    latest_error: int = 0
    """The error of its end only."""
    leader: int = 1
    records: bytes | Callable[[int], bytes] = b""
    """The records from an offset on, or the same for every offset."""


@dataclass
class Topic:
    id: int = 1
    error: int = 0
    logs: list[Log] = field(default_factory=lambda: [Log()])


@dataclass
class Group:
    type: str = "classic"
    commits: dict[str, dict[int, int]] = field(default_factory=dict)
    lag: int = -1
    error: int = 0
    partition_error: int = 0
    listed: bool = True
    coordinator: int = 1
    coordinator_error: int = 0
    state: str = "Stable"
    protocol: str = "consumer"
    members: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    """Partitions by client id and topic; each member subscribes to its topics."""
    epoch: int = 0
    describe_error: int = 0
    """For all types but classic."""


class Scripted:
    """The state of the cluster, which tests change."""

    def __init__(self) -> None:
        self.port = 0
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, Group] = {}
        self.versions = dict(ALL)
        self.brokers: dict[int, int] = {}
        """Ports by id; empty: only this broker."""
        self.asked: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}
        """By API, an event that its finished responses wait for: a slow broker."""
        self.throttle_ms = 0
        self.list_error = 0
        """The error of the list of groups, which is then empty."""
        self.garbled = ""
        """A topic with malformed metadata."""
        self.forgetful = False
        """Whether the next metadata of all topics is empty."""
        self.ended = asyncio.Event()
        """Set once a connection has ended."""
        self.answers: dict[int, bytes | None] = {}
        """By API, other bytes to respond with; None: no response."""
        self.cut_off = False
        """Whether connections are closed without a response."""
        self._news = asyncio.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def asked_for(self, api: int, times: int = 1) -> None:
        """Wait until it has received so many more requests."""
        wanted = self.asked.count(api) + times
        async with asyncio.timeout(30):
            while self.asked.count(api) < wanted:
                self._news.clear()
                await self._news.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self.cut_off:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                if size > 1 << 20:
                    return  # as Kafka does, where it is TLS that is spoken
                answer = self._answer(await reader.readexactly(size))
                if answer is None:
                    await reader.read()  # it hangs, until the other side gives up
                    return
                if gate := self.gates.get(self.asked[-1]):
                    await gate.wait()
                writer.write(struct.pack(">i", len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.ended.set()

    def _answer(self, request: bytes) -> bytes | None:
        key, version, correlation = struct.unpack(">hhi", request[:8])
        self.asked.append(key)
        self._news.set()
        if key in self.answers:
            body = self.answers[key]
            return None if body is None else struct.pack(">i", correlation) + body
        body = WireReader(request)
        body.raw(8)
        body.text()
        flexible = version >= FLEXIBLE_FROM[key]
        if flexible:
            body.raw(1)
        head = struct.pack(">i", correlation) + (NO_TAGS if flexible else b"")
        if key == VERSIONS:
            versions = [struct.pack(">hhh", k, *v) for k, v in self.versions.items()]
            return head + b"\0\0" + wire.array(versions) + (bytes(4) if version else b"")
        inner = WireReader(request[body.at :], flexible=flexible)
        return head + struct.pack(">i", self.throttle_ms) + ANSWERS[key](self, inner, version)

    def metadata(self, body: WireReader, version: int) -> bytes:
        brokers = self.brokers or {1: self.port}
        made = [
            struct.pack(">i", node) + compact_text("127.0.0.1") + struct.pack(">i", port) + b"\0\0"
            for node, port in brokers.items()
        ]
        names = [(body.raw(16), body.text(), body.tags())[1] for _ in range(body.count())]
        if self.garbled in names:
            return b""
        if not names:
            names, self.forgetful = [] if self.forgetful else list(self.topics), False
        known = [self._topic(name, self.topics.get(name or "")) for name in names]
        end = struct.pack(">i", -1) + NO_TAGS
        return compact_array(made) + b"\0" + bytes(4) + compact_array(known) + end

    def _topic(self, name: str | None, topic: Topic | None) -> bytes:
        error, id = (3, 0) if topic is None else (topic.error, topic.id)
        logs = topic.logs if topic and not error else []
        partitions = [
            struct.pack(">hiii", 0, number, log.leader, 0) + b"\x01\x01\x01" + NO_TAGS
            for number, log in enumerate(logs)
        ]
        head = struct.pack(">h", error) + compact_text(name or "") + id.to_bytes(16, "big") + b"\0"
        return head + compact_array(partitions) + bytes(4) + NO_TAGS

    def offsets(self, body: WireReader, version: int) -> bytes:
        body.int32()
        isolation = body.int8()
        if not isolation:
            self.asked[-1] = HIGHS
        topics = []
        for _ in range(body.count()):
            name, entries = body.name(), []
            for _ in range(body.count()):
                number, at = body.int32(), body.int64()
                log = self.topics[name].logs[number] if name in self.topics else Log(error=3)
                end = log.start if at == -2 else log.end if isolation else log.high
                error = log.error or (log.latest_error if at == -1 else 0)
                entries.append(struct.pack(">ihqq", number, error, -1, end))
            topics.append(wire.text(name) + wire.array(entries))
        return wire.array(topics)

    def commits(self, body: WireReader, version: int) -> bytes:
        group = self.groups.get(body.name(), Group())
        asked = {}
        for _ in range(body.count()):
            name = body.name()
            asked[name] = body.numbers()
        topics = []
        for name, numbers in (asked or {t: list(c) for t, c in group.commits.items()}).items():
            entries = [
                struct.pack(
                    ">iqhh",
                    number,
                    group.commits.get(name, {}).get(number, -1),
                    0,
                    group.partition_error,
                )
                for number in numbers
            ]
            topics.append(wire.text(name) + wire.array(entries))
        return wire.array(topics) + struct.pack(">h", group.error)

    def share_offsets(self, body: WireReader, version: int) -> bytes:
        body.count()
        name = body.name()
        group = self.groups[name]
        topics = []
        for topic, offsets in group.commits.items():
            entries = [
                struct.pack(">iqi", number, offset, 0)
                + (struct.pack(">q", group.lag) if version else b"")
                + b"\0\0\0"
                + NO_TAGS
                for number, offset in offsets.items()
            ]
            topics.append(compact_text(topic) + bytes(16) + compact_array(entries) + NO_TAGS)
        end = struct.pack(">h", group.error) + b"\0" + NO_TAGS
        return compact_array([compact_text(name) + compact_array(topics) + end]) + NO_TAGS

    def list(self, body: WireReader, version: int) -> bytes:
        error = struct.pack(">h", self.list_error)
        listed = {n: group for n, group in self.groups.items() if group.listed and error == b"\0\0"}
        if version < 3:
            groups = [wire.text(name) + wire.text("consumer") for name in listed]
            return error + wire.array(groups)
        groups = [
            compact_text(name)
            + compact_text("consumer")
            + compact_text(group.state)
            + compact_text(group.type.capitalize())
            + NO_TAGS
            for name, group in listed.items()
        ]
        return error + compact_array(groups) + NO_TAGS

    def coordinator(self, body: WireReader, version: int) -> bytes:
        group = self.groups.get(body.name(), Group())
        error, node = group.coordinator_error, group.coordinator
        return struct.pack(">hhi", error, -1, node) + wire.text("h") + bytes(4)

    def describe(self, body: WireReader, version: int) -> bytes:
        """Describe groups; like a broker, describe a group of another type as missing."""
        groups = []
        for name in [body.name() for _ in range(body.count())]:
            found = self.groups.get(name, Group(state="Dead"))
            group = found if found.type == "classic" else Group(state="Dead")
            head = struct.pack(">h", group.error) + wire.text(name) + wire.text(group.state)
            told = "Rebalance" not in group.state
            members = [
                wire.text(client)
                + b"\xff\xff"
                + wire.text(client)
                + wire.text("/10.0.0.1")
                + _bytes(_subscription(topics) if told else b"")
                + _bytes(_assignment(topics) if told else b"")
                for client, topics in group.members.items()
            ]
            middle = wire.text(group.protocol) + wire.text("range")
            groups.append(head + middle + wire.array(members) + bytes(4))
        return wire.array(groups)

    def describe_consumer(self, body: WireReader, version: int) -> bytes:
        return self._describe_flexible(body, "consumer")

    def describe_share(self, body: WireReader, version: int) -> bytes:
        return self._describe_flexible(body, "share")

    def describe_streams(self, body: WireReader, version: int) -> bytes:
        return self._describe_flexible(body, "streams")

    def _describe_flexible(self, body: WireReader, kind: str) -> bytes:
        groups = []
        for name in [body.name() for _ in range(body.count())]:
            group = self.groups.get(name, Group())
            error = group.describe_error if group.type == kind else 69
            group = Group(state="Dead") if error else group
            head = struct.pack(">h", error) + b"\0" + compact_text(name)
            head += compact_text(group.state) + struct.pack(">ii", group.epoch, group.epoch)
            middle = {"streams": _topology(group)}.get(kind, compact_text("uniform"))
            members = [
                _member(kind, client, assigned) for client, assigned in group.members.items()
            ]
            groups.append(head + middle + compact_array(members) + bytes(4) + NO_TAGS)
        return compact_array(groups) + NO_TAGS

    def fetch(self, body: WireReader, version: int) -> bytes:
        body.raw(25)
        topics = []
        for _ in range(body.count()):
            name, entries = body.name(), []
            for _ in range(body.count()):
                number, _, at = body.int32(), body.int32(), body.int64()
                body.raw(12)
                log = self.topics[name].logs[number]
                head = struct.pack(">ihqqq", number, log.fetch_error, log.high, log.end, log.start)
                found = log.records(at) if callable(log.records) else log.records
                records = struct.pack(">i", len(found)) + found
                entries.append(head + bytes(4) + struct.pack(">i", -1) + records)
            topics.append(wire.text(name) + wire.array(entries))
        return bytes(2) + bytes(4) + wire.array(topics)


def _bytes(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


def _subscription(topics: Iterable[str]) -> bytes:
    return b"\0\1" + wire.array([wire.text(topic) for topic in topics]) + b"\xff" * 4


def _assignment(topics: Mapping[str, Iterable[int]]) -> bytes:
    parts = [wire.text(t) + wire.array([_int32(n) for n in ns]) for t, ns in topics.items() if ns]
    return b"\0\1" + wire.array(parts) + b"\xff" * 4


def _int32(number: int) -> bytes:
    return struct.pack(">i", number)


def _assigned(topics: Mapping[str, Iterable[int]]) -> bytes:
    return (
        compact_array(
            [
                bytes(16) + compact_text(t) + compact_array([_int32(n) for n in ns]) + NO_TAGS
                for t, ns in topics.items()
                if ns
            ]
        )
        + NO_TAGS
    )


def _topology(group: Group) -> bytes:
    """Return a subtopology for each topic, with the same name."""
    topics = sorted({topic for assigned in group.members.values() for topic in assigned})
    parts = [
        compact_text(topic) + compact_array([compact_text(topic)]) + compact_array([]) * 3 + NO_TAGS
        for topic in topics
    ]
    return b"\1" + _int32(1) + compact_array(parts) + NO_TAGS


def _member(kind: str, client: str, topics: Mapping[str, Iterable[int]]) -> bytes:
    """Encode a member in the description of its type."""
    named = compact_array([compact_text(topic) for topic in topics])
    who = compact_text(client) + compact_text("/10.0.0.1")
    id, epoch, null = compact_text(client), bytes(4), b"\0"
    if kind == "share":
        return id + null + epoch + who + named + _assigned(topics) + NO_TAGS
    if kind == "consumer":
        assigned = _assigned(topics)
        return id + null + null + epoch + who + named + null + assigned * 2 + NO_TAGS
    tasks = [
        compact_text(topic) + compact_array([_int32(n) for n in numbers]) + NO_TAGS
        for topic, numbers in topics.items()
        if numbers
    ]
    assigned = compact_array(tasks) + compact_array([]) * 2 + NO_TAGS
    middle = bytes(4) + compact_text("process") + b"\xff" + compact_array([]) * 3
    return id + epoch + null + null + who + middle + assigned * 2 + b"\0" + NO_TAGS


ANSWERS: dict[int, Callable[[Scripted, WireReader, int], bytes]] = {
    METADATA: Scripted.metadata,
    OFFSETS: Scripted.offsets,
    FETCH: Scripted.fetch,
    COMMITS: Scripted.commits,
    COORDINATOR: Scripted.coordinator,
    DESCRIBE: Scripted.describe,
    GROUPS: Scripted.list,
    CONSUMER: Scripted.describe_consumer,
    SHARE: Scripted.describe_share,
    STREAMS: Scripted.describe_streams,
    SHARE_OFFSETS: Scripted.share_offsets,
}
FLEXIBLE_FROM = {
    METADATA: 9,
    OFFSETS: 6,
    FETCH: 12,
    COMMITS: 6,
    COORDINATOR: 3,
    DESCRIBE: 5,
    GROUPS: 3,
    VERSIONS: 3,
    CONSUMER: 0,
    SHARE: 0,
    STREAMS: 0,
    SHARE_OFFSETS: 0,
}


def batch(offset: int, *values: bytes, **attributes: Any) -> bytes:
    """Encode records from an offset on; `producer_id` makes them a transaction."""
    producer = attributes.get("producer_id", -1)
    codec = attributes.get("codec", 0)
    builder = DefaultRecordBatchBuilder(2, codec, producer >= 0, producer, 0, 0, 1 << 27)
    for number, value in enumerate(values):
        builder.append(number, 1_700_000_000_000, attributes.get("key"), value, [])
    built = bytearray(builder.build())
    built[:8] = struct.pack(">q", offset)  # not part of what the checksum covers
    return bytes(built)


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    broker = Scripted()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def ten_records() -> AsyncIterator[Scripted]:
    """One topic with ten records, and a group that has consumed four."""
    async with scripted() as broker:
        log = Log(end=10, high=10, records=batch(0, *[b"{}"] * 10))
        broker.topics["t"] = Topic(logs=[log])
        broker.groups["g"] = Group(commits={"t": {0: 4}})
        yield broker


@asynccontextmanager
async def two_topics() -> AsyncIterator[Scripted]:
    """The same, with a second partition and a second topic, both empty."""
    async with ten_records() as broker:
        broker.topics["t"].logs.append(Log())
        broker.topics["other"] = Topic(id=2)
        broker.groups["g"].commits["t"][1] = 0
        yield broker


def log_of(broker: Scripted) -> Log:
    return broker.topics["t"].logs[0]


def recreated() -> Topic:
    """A topic that was deleted and created again, with twenty records."""
    return Topic(id=2, logs=[Log(end=20, high=20, records=batch(0, *[b"{}"] * 20))])
