"""Descriptions of groups: the requests, one for each type of group, and their responses.

A broker describes a group of another type as missing. So groups of a type that is not in `KINDS`
are never described.
"""

from collections.abc import Callable, Iterable, Mapping
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
GROUP_NOT_FOUND = 69

REBALANCING = {"PreparingRebalance", "CompletingRebalance"}
"""States of a classic group in which its coordinator returns no assignments."""

Assignment = Mapping[str, tuple[int, ...]]
"""Partitions by topic."""


class GroupMember(NamedTuple):
    """One member of a group."""

    client_id: str
    host: str
    assignment: Assignment | None
    """Its partitions now; None: the coordinator does not return them."""
    topics: frozenset[str] = frozenset()
    """Topics that it subscribes to by name."""
    id: str = ""
    """Its instance id if it has one, else its member id."""


class GroupInfo(NamedTuple):
    """A group's state in the broker's word, and its members."""

    error: int
    state: str
    members: tuple[GroupMember, ...]
    epoch: int | None = None
    """Rises with each change of the members, their subscriptions or their topics; None for classic
    groups: their epoch cannot be read."""

    @property
    def is_absent(self) -> bool:
        """Whether the coordinator knows no group of this name and type."""
        return self.state == "Dead" and not self.members

    @property
    def topics(self) -> set[str]:
        """Topics that its members subscribe to, or have partitions of."""
        named = {topic for member in self.members for topic in member.topics}
        return named.union(*(member.assignment or () for member in self.members))

    @property
    def has_assignments(self) -> bool:
        """Whether the assignments of all members are known."""
        return all(member.assignment is not None for member in self.members)


DEAD = GroupInfo(NONE, "Dead", ())


def describe_groups(kind: str, groups: Iterable[str]) -> Request:
    """Request the state and members of groups of one of the `KINDS`."""
    names = sorted(groups)
    if kind == "classic":
        return Request(15, Version(4, wire.array([wire.text(g) for g in names]) + b"\x00"))
    body = wire.compact_array([wire.compact_text(g) for g in names]) + b"\x00" + NO_TAGS
    api, version = {"consumer": (69, 0), "share": (77, 1), "streams": (89, 0)}[kind]
    return Request(api, Version(version, body, flexible=True))


def parse_described(kind: str, response: ResponseBody) -> dict[str, GroupInfo]:
    reader = response.reader(flexible=kind != "classic")
    reader.int32()
    return dict(KINDS[kind](reader) for _ in range(reader.count()))


# classic


def _classic(reader: WireReader) -> tuple[str, GroupInfo]:
    error, name, state, protocol = reader.int16(), reader.name(), reader.name(), reader.name()
    reader.text()
    has_assignments = protocol == "consumer" and state not in REBALANCING
    members = tuple(_classic_member(reader, has_assignments) for _ in range(reader.count()))
    reader.int32()
    return name, GroupInfo(error, state, members)


def _classic_member(reader: WireReader, has_assignments: bool) -> GroupMember:
    member, instance = reader.text(), reader.text()
    client_id, host = reader.name(), reader.name()
    subscribed, assigned = reader.bytes() or b"", reader.bytes() or b""
    topics = frozenset(_subscription(subscribed) if has_assignments else ())
    assignment = _assignment(assigned) if has_assignments else None
    return GroupMember(client_id, host, assignment, topics, instance or member or "")


def _subscription(encoded: bytes) -> list[str]:
    """Return the topics of the consumer protocol's subscription."""
    reader = WireReader(encoded)
    try:
        reader.int16()
        return [reader.name() for _ in range(reader.count())]
    except ValueError:
        return []


def _assignment(encoded: bytes) -> Assignment | None:
    """Return the consumer protocol's assignment; empty if the group's leader assigned none."""
    reader = WireReader(encoded)
    if not encoded:
        return {}
    try:
        reader.int16()
        return {reader.name(): tuple(reader.numbers()) for _ in range(reader.count())}
    except ValueError:
        return None


# consumer (KIP-848), share (KIP-932)


def _consumer(reader: WireReader) -> tuple[str, GroupInfo]:
    head = _head(reader)
    reader.text()  # the assignor
    return _group(reader, head, [_consumer_member(reader) for _ in range(reader.count())])


def _share(reader: WireReader) -> tuple[str, GroupInfo]:
    head = _head(reader)
    reader.text()  # the assignor
    return _group(reader, head, [_share_member(reader) for _ in range(reader.count())])


class _Head(NamedTuple):
    error: int
    name: str
    state: str
    epoch: int


def _head(reader: WireReader) -> _Head:
    """Read the fields with which a group of any newer type begins."""
    error = reader.int16()
    reader.text()
    head = _Head(error, reader.name(), reader.name(), reader.int32())
    reader.int32()  # the epoch of the assignment
    return head


def _group(
    reader: WireReader, head: _Head, members: Iterable[GroupMember]
) -> tuple[str, GroupInfo]:
    """Read the fields with which it ends."""
    reader.int32()
    reader.tags()
    if head.error == GROUP_NOT_FOUND:
        return head.name, DEAD
    return head.name, GroupInfo(head.error, head.state, tuple(members), head.epoch)


def _consumer_member(reader: WireReader) -> GroupMember:
    member, instance = reader.text(), reader.text()
    reader.text()
    reader.int32()
    client_id, host, topics = reader.name(), reader.name(), _texts(reader)
    reader.text()  # a pattern of topics; the assignment has their partitions
    assignment = _assigned(reader)
    _assigned(reader)  # its target assignment
    reader.tags()
    return GroupMember(client_id, host, assignment, topics, instance or member or "")


def _share_member(reader: WireReader) -> GroupMember:
    member = reader.name()
    reader.text()
    reader.int32()
    client_id, host, topics = reader.name(), reader.name(), _texts(reader)
    assignment = _assigned(reader)
    reader.tags()
    return GroupMember(client_id, host, assignment, topics, member)


def _texts(reader: WireReader) -> frozenset[str]:
    return frozenset(reader.name() for _ in range(reader.count()))


def _assigned(reader: WireReader) -> Assignment:
    assigned = {}
    for _ in range(reader.count()):
        reader.raw(16)
        topic = reader.name()
        assigned[topic] = tuple(reader.numbers())
        reader.tags()
    reader.tags()
    return assigned


# streams (KIP-1071)

Topology = Mapping[str, frozenset[str]]
"""The topics that each subtopology reads. Its task N has partition N of each of them."""


def _streams(reader: WireReader) -> tuple[str, GroupInfo]:
    head, topology = _head(reader), _topology(reader)
    members = [_streams_member(reader, topology) for _ in range(reader.count())]
    return _group(reader, head, members)


def _topology(reader: WireReader) -> Topology:
    if reader.int8() < 0:
        return {}
    reader.int32()
    topology = dict(_subtopology(reader) for _ in range(reader.count()))
    reader.tags()
    return topology


def _subtopology(reader: WireReader) -> tuple[str, frozenset[str]]:
    id, sources = reader.name(), _texts(reader)
    _texts(reader)  # repartition topics that it writes
    _internal_topics(reader)  # changelogs
    repartitioned = _internal_topics(reader)
    reader.tags()
    return id, sources | repartitioned


def _internal_topics(reader: WireReader) -> frozenset[str]:
    return frozenset(_internal_topic(reader) for _ in range(reader.count()))


def _internal_topic(reader: WireReader) -> str:
    name = reader.name()
    reader.int32()
    reader.int16()
    _pairs(reader)
    reader.tags()
    return name


def _pairs(reader: WireReader) -> None:
    for _ in range(reader.count()):
        reader.text()
        reader.text()
        reader.tags()


def _streams_member(reader: WireReader, topology: Topology) -> GroupMember:
    member = reader.name()
    reader.int32()
    instance = reader.text()
    reader.text()
    client_id, host = reader.name(), reader.name()
    reader.int32()
    reader.text()  # the process
    if reader.int8() >= 0:  # an endpoint for queries
        reader.text()
        reader.int16()
        reader.tags()
    _pairs(reader)
    for _ in range(2):
        _task_offsets(reader)
    tasks = _active_tasks(reader)
    _active_tasks(reader)  # its target assignment
    reader.int8()
    reader.tags()
    topics = frozenset().union(*topology.values())
    return GroupMember(client_id, host, _partitions(tasks, topology), topics, instance or member)


def _task_offsets(reader: WireReader) -> None:
    for _ in range(reader.count()):
        reader.text()
        reader.int32()
        reader.int64()
        reader.tags()


def _active_tasks(reader: WireReader) -> dict[str, list[int]]:
    """Return task numbers by subtopology. Standby and warm-up tasks read only changelogs."""
    active, _, _ = (_tasks(reader) for _ in range(3))
    reader.tags()
    return active


def _tasks(reader: WireReader) -> dict[str, list[int]]:
    tasks = {}
    for _ in range(reader.count()):
        id = reader.name()
        tasks[id] = reader.numbers()
        reader.tags()
    return tasks


def _partitions(tasks: Mapping[str, Iterable[int]], topology: Topology) -> Assignment:
    found: dict[str, set[int]] = {}
    for id, numbers in tasks.items():
        for topic in topology.get(id, ()):
            found.setdefault(topic, set()).update(numbers)
    return {topic: tuple(sorted(numbers)) for topic, numbers in found.items()}


KINDS: Mapping[str, Callable[[WireReader], tuple[str, GroupInfo]]] = {
    "classic": _classic,
    "consumer": _consumer,
    "share": _share,
    "streams": _streams,
}
"""How to decode a group of each type."""
