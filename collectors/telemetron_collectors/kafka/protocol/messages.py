"""The requests that Telemetron sends, and the content of their responses: pure functions.

None of them changes anything: no topic is created, no group is joined, no offset committed.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from telemetron_collectors.kafka.protocol import wire
from telemetron_collectors.kafka.protocol.wire import (
    NO_TAGS,
    Request,
    ResponseBody,
    Version,
    WireReader,
)

NONE = 0
UNKNOWN_TOPIC = 3
COORDINATOR_ERRORS = {14, 15, 16}
TOPIC_DENIED = 29
GROUP_DENIED = 30

LATEST, EARLIEST = -1, -2
UNCOMMITTED, COMMITTED = 0, 1
"""Isolation levels: whether records of open transactions count."""

NO_OFFSET = -1

Partitions = Mapping[str, Iterable[int]]
"""Partitions by topic."""


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class TopicInfo(NamedTuple):
    """The metadata of one topic; `id` is empty if the broker returns none."""

    id: str
    error: int
    leaders: tuple[int, ...]
    """Leader by partition; -1: none."""


class ClusterMetadata(NamedTuple):
    """The brokers by id, the topics by name."""

    brokers: dict[int, Address]
    topics: dict[str, TopicInfo]


class GroupListing(NamedTuple):
    """One group that a broker coordinates.

    `type` is in lower case. Brokers before Kafka 3.8 do not return it: every group is `classic`.
    """

    name: str
    type: str


class Commit(NamedTuple):
    """A group's commit in one partition; brokers return a `lag` only of share groups."""

    offset: int
    error: int = NONE
    lag: int | None = None
    foreign: bool = False
    """Whether it was made on a deleted topic of the same name."""


class Commits(NamedTuple):
    """A group's commits by topic and partition, or an error."""

    error: int
    topics: dict[str, dict[int, Commit]]


class Offset(NamedTuple):
    """One end of a partition's log."""

    error: int
    offset: int


class Fetched(NamedTuple):
    """Encoded records of one partition, and the last stable offset of its log."""

    error: int
    last_stable: int
    aborted: list[tuple[int, int]]
    """Producer and first offset of each aborted transaction among the records."""
    records: bytes


# Metadata


def metadata(topics: Iterable[str] | None) -> Request:
    """Request the metadata of these topics, or of all; a missing topic is not created."""
    return Request(
        3,
        Version(10, _metadata_v10(topics), flexible=True),
        Version(5, _metadata_v5(topics)),
    )


def _metadata_v10(topics: Iterable[str] | None) -> bytes:
    if topics is None:
        asked = wire.varint(0)
    else:
        asked = wire.compact_array([bytes(16) + wire.compact_text(t) + NO_TAGS for t in topics])
    return asked + b"\x00\x00\x00" + NO_TAGS  # no auto-creation, no authorized operations


def _metadata_v5(topics: Iterable[str] | None) -> bytes:
    asked = struct.pack(">i", -1) if topics is None else wire.array([wire.text(t) for t in topics])
    return asked + b"\x00"


def parse_metadata(response: ResponseBody) -> ClusterMetadata:
    flexible = response.version >= 9
    reader = response.reader(flexible=flexible)
    reader.int32()
    brokers = dict(_broker(reader) for _ in range(reader.count()))
    reader.text()
    reader.int32()
    return ClusterMetadata(brokers, dict(_topic(reader, flexible) for _ in range(reader.count())))


def _broker(reader: WireReader) -> tuple[int, Address]:
    node, host, port = reader.int32(), reader.name(), reader.int32()
    reader.text()
    reader.tags()
    return node, Address(host, port)


def _topic(reader: WireReader, flexible: bool) -> tuple[str, TopicInfo]:
    error, name = reader.int16(), reader.text() or ""
    id = reader.raw(16).hex() if flexible else ""
    reader.int8()
    leaders = dict(_partition(reader, flexible) for _ in range(reader.count()))
    if flexible:
        reader.int32()
    reader.tags()
    known = tuple(leaders.get(number, -1) for number in range(max(leaders, default=-1) + 1))
    return name, TopicInfo(id.strip("0") and id, error, known)


def _partition(reader: WireReader, flexible: bool) -> tuple[int, int]:
    reader.int16()
    number, leader = reader.int32(), reader.int32()
    if flexible:
        reader.int32()
    for _ in range(3):
        reader.numbers()
    reader.tags()
    return number, leader


# Groups


def list_groups() -> Request:
    """Request the groups that one broker coordinates, with their type if it knows types."""
    empty = wire.compact_array([])
    return Request(16, Version(5, empty + empty + NO_TAGS, flexible=True), Version(2, b""))


def parse_groups(response: ResponseBody) -> tuple[int, list[GroupListing]]:
    """Return an error and the groups; groups that we may not describe are left out."""
    flexible = response.version >= 3
    reader = response.reader(flexible=flexible)
    reader.int32()
    error = reader.int16()
    return error, [_listing(reader, flexible) for _ in range(reader.count())]


def _listing(reader: WireReader, flexible: bool) -> GroupListing:
    name = reader.name()
    reader.text()
    if not flexible:
        return GroupListing(name, "classic")
    reader.text()
    kind = reader.name().lower()
    reader.tags()
    return GroupListing(name, kind)


def find_coordinator(group: str) -> Request:
    return Request(10, Version(1, wire.text(group) + b"\x00"))


def parse_coordinator(response: ResponseBody) -> tuple[int, int]:
    """Return an error and the broker's id."""
    reader = response.reader()
    reader.int32()
    error = reader.int16()
    reader.text()
    return error, reader.int32()


# Commits


def fetch_offsets(group: str, partitions: Partitions | None) -> Request:
    """Request a group's commits on these partitions; None: on all of them."""
    if partitions is None:
        return Request(9, Version(3, wire.text(group) + struct.pack(">i", -1)))
    topics = [
        wire.text(topic) + wire.array([struct.pack(">i", number) for number in numbers])
        for topic, numbers in partitions.items()
    ]
    return Request(9, Version(3, wire.text(group) + wire.array(topics)))


_COMMIT = struct.Struct(">iqhh")
"""Partition, offset, length of the metadata, error, if the metadata is empty."""


def parse_commits(response: ResponseBody) -> Commits:
    reader = response.reader()
    reader.int32()
    topics = {}
    for _ in range(reader.count()):
        topic = reader.name()
        topics[topic] = _commits(reader, reader.count())
    return Commits(reader.int16(), topics)


def _commits(reader: WireReader, count: int) -> dict[int, Commit]:
    size = count * _COMMIT.size
    chunk = reader.data[reader.at : reader.at + size]
    entries = list(_COMMIT.iter_unpack(chunk)) if len(chunk) == size else []
    if len(entries) == count and all(entry[2] <= 0 for entry in entries):
        reader.raw(size)
        return {number: Commit(offset, error) for number, offset, _, error in entries}
    commits = {}
    for _ in range(count):
        number, offset = reader.int32(), reader.int64()
        reader.text()
        commits[number] = Commit(offset, reader.int16())
    return commits


def share_offsets(group: str, partitions: Partitions | None) -> Request:
    """Request a share group's start offsets, with its lag from Kafka 4.3 on."""
    topics = wire.varint(0)
    if partitions is not None:
        topics = wire.compact_array(
            [
                wire.compact_text(topic)
                + wire.compact_array([struct.pack(">i", number) for number in numbers])
                + NO_TAGS
                for topic, numbers in partitions.items()
            ]
        )
    body = wire.compact_array([wire.compact_text(group) + topics + NO_TAGS]) + NO_TAGS
    return Request(90, Version(1, body, flexible=True), Version(0, body, flexible=True))


def parse_share_offsets(response: ResponseBody) -> Commits:
    reader = response.reader(flexible=True)
    reader.int32()
    if reader.count() != 1:
        raise ValueError("the response has other groups than the request")
    reader.text()
    topics = {}
    for _ in range(reader.count()):
        topic = reader.name()
        reader.raw(16)
        topics[topic] = dict(_share_offset(reader, response.version) for _ in range(reader.count()))
        reader.tags()
    return Commits(reader.int16(), topics)


def _share_offset(reader: WireReader, version: int) -> tuple[int, Commit]:
    number, offset = reader.int32(), reader.int64()
    reader.int32()
    lag = reader.int64() if version >= 1 else NO_OFFSET
    error = reader.int16()
    reader.text()
    reader.tags()
    return number, Commit(offset, error, lag if lag >= 0 else None)


# Logs


def list_offsets(partitions: Partitions, at: int, isolation: int = COMMITTED) -> Request:
    """Request the start (EARLIEST) or the end (LATEST) of partitions from their leader."""
    topics = [
        wire.text(topic) + wire.array([struct.pack(">iq", number, at) for number in numbers])
        for topic, numbers in partitions.items()
    ]
    return Request(2, Version(2, struct.pack(">ib", -1, isolation) + wire.array(topics)))


_OFFSET = struct.Struct(">ihqq")


def parse_offsets(response: ResponseBody) -> dict[str, dict[int, Offset]]:
    reader = response.reader()
    reader.int32()
    topics = {}
    for _ in range(reader.count()):
        topic = reader.name()
        entries = _OFFSET.iter_unpack(reader.raw(reader.count() * _OFFSET.size))
        topics[topic] = {number: Offset(error, at) for number, error, _, at in entries}
    return topics


def fetch(
    offsets: Mapping[str, Mapping[int, int]], max_bytes: int, partition_bytes: int
) -> Request:
    """Request the records from these offsets on, without waiting; about `max_bytes` at most."""
    topics = [
        wire.text(topic)
        + wire.array(
            [
                struct.pack(">iiqqi", number, -1, offset, -1, partition_bytes)
                for number, offset in numbers.items()
            ]
        )
        for topic, numbers in offsets.items()
    ]
    head = struct.pack(">iiiibii", -1, 0, 0, max_bytes, COMMITTED, 0, -1)
    return Request(1, Version(11, head + wire.array(topics) + wire.array([]) + wire.text("")))


def parse_fetched(response: ResponseBody) -> tuple[int, dict[str, dict[int, Fetched]]]:
    """Return an error, and the fetched records by topic and partition."""
    reader = response.reader()
    reader.int32()
    error = reader.int16()
    reader.int32()
    topics = {}
    for _ in range(reader.count()):
        topic = reader.name()
        topics[topic] = dict(_fetched(reader) for _ in range(reader.count()))
    return error, topics


def _fetched(reader: WireReader) -> tuple[int, Fetched]:
    number, error = reader.int32(), reader.int16()
    reader.int64()
    last_stable = reader.int64()
    reader.int64()
    aborted = [(reader.int64(), reader.int64()) for _ in range(reader.count())]
    reader.int32()
    return number, Fetched(error, last_stable, aborted, reader.bytes() or b"")
