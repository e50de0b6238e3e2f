"""Who is in a group: the requests that describe groups, one for each type, and their answers.

A broker describes a group of another type as one that does not exist. So a type that we do not
know is never asked for: `KINDS` are those that we do.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from telemetron_collectors.kafka.protocol import wire
from telemetron_collectors.kafka.protocol.wire import NO_TAGS, Answer, Reader, Request, Version

NONE = 0
GROUP_NOT_FOUND = 69

REBALANCING = {"PreparingRebalance", "CompletingRebalance"}
"""States of a classic group in which its coordinator tells no assignments."""

Assignment = Mapping[str, tuple[int, ...]]
"""Partitions by topic."""


class GroupMember(NamedTuple):
    """One member of a group."""

    client_id: str
    host: str
    assignment: Assignment | None
    """The partitions that it has now; None: the coordinator does not tell."""
    topics: frozenset[str] = frozenset()
    """Those that it subscribes to by their names."""
    id: str = ""
    """Its instance id where it has one, else its member id."""


class GroupInfo(NamedTuple):
    """A group's state, the broker's word, and its members."""

    error: int
    state: str
    members: tuple[GroupMember, ...]
    epoch: int | None = None
    """Rises with each change of its members, their subscriptions or their topics; None: the
    protocol does not tell (classic groups)."""

    @property
    def is_absent(self) -> bool:
        """Whether the coordinator knows no such group: of the type that was asked for."""
        return self.state == "Dead" and not self.members

    @property
    def topics(self) -> set[str]:
        """What its members subscribe to, or have partitions of."""
        named = {topic for member in self.members for topic in member.topics}
        return named.union(*(member.assignment or () for member in self.members))

    @property
    def is_told(self) -> bool:
        """Whether the assignments of all members are."""
        return all(member.assignment is not None for member in self.members)


DEAD = GroupInfo(NONE, "Dead", ())


class Rebalances:
    """Counts the rebalances of one group, as far as they are observed."""

    def __init__(self) -> None:
        self.count: int | None = None
        self._epoch: int | None = None
        self._settled: object = None
        self._is_moving = False

    def take(self, info: GroupInfo) -> None:
        """Compare a description with the one before."""
        self.count = 0 if self.count is None else self.count + self._grown(info)
        self._epoch = 0 if info.is_absent else info.epoch
        self._is_moving = info.state in REBALANCING
        if not self._is_moving:
            self._settled = _settled(info)

    def _grown(self, info: GroupInfo) -> int:
        if info.is_absent:
            return 0
        if info.epoch is None:
            return int(not self._is_moving and self._moves(info))
        if self._epoch is None:  # it was a classic group
            return 1
        # A lower epoch is that of a group that was deleted and made again.
        return info.epoch - (self._epoch if info.epoch >= self._epoch else 0)

    def _moves(self, info: GroupInfo) -> bool:
        return info.state in REBALANCING or _settled(info) != self._settled


def _settled(info: GroupInfo) -> object:
    members = sorted(info.members, key=lambda member: member.id)
    return [(member.id, member.assignment) for member in members]


def describe_groups(kind: str, groups: Iterable[str]) -> Request:
    """State and members of groups of one of the `KINDS`."""
    names = sorted(groups)
    if kind == "classic":
        return Request(15, Version(4, wire.array([wire.text(g) for g in names]) + b"\x00"))
    body = wire.compact_array([wire.compact_text(g) for g in names]) + b"\x00" + NO_TAGS
    api, version = {"consumer": (69, 0), "share": (77, 1), "streams": (89, 0)}[kind]
    return Request(api, Version(version, body, flexible=True))


def parse_described(kind: str, answer: Answer) -> dict[str, GroupInfo]:
    reader = answer.reader(flexible=kind != "classic")
    reader.int32()
    return dict(KINDS[kind](reader) for _ in range(reader.count()))


# classic


def _classic(reader: Reader) -> tuple[str, GroupInfo]:
    error, name, state, protocol = reader.int16(), reader.name(), reader.name(), reader.name()
    reader.text()
    is_told = protocol == "consumer" and state not in REBALANCING
    members = tuple(_classic_member(reader, is_told) for _ in range(reader.count()))
    reader.int32()
    return name, GroupInfo(error, state, members)


def _classic_member(reader: Reader, is_told: bool) -> GroupMember:
    member, instance = reader.text(), reader.text()
    client_id, host = reader.name(), reader.name()
    subscribed, assigned = reader.bytes() or b"", reader.bytes() or b""
    topics = frozenset(_subscription(subscribed) if is_told else ())
    assignment = _assignment(assigned) if is_told else None
    return GroupMember(client_id, host, assignment, topics, instance or member or "")


def _subscription(encoded: bytes) -> list[str]:
    """The topics of the consumer protocol's subscription."""
    reader = Reader(encoded)
    try:
        reader.int16()
        return [reader.name() for _ in range(reader.count())]
    except ValueError:
        return []


def _assignment(encoded: bytes) -> Assignment | None:
    """The consumer protocol's; empty where the group's leader gave the member none."""
    reader = Reader(encoded)
    if not encoded:
        return {}
    try:
        reader.int16()
        return {reader.name(): tuple(reader.numbers()) for _ in range(reader.count())}
    except ValueError:
        return None


# consumer (KIP-848), share (KIP-932)


def _consumer(reader: Reader) -> tuple[str, GroupInfo]:
    head = _head(reader)
    reader.text()  # the assignor
    return _group(reader, head, [_consumer_member(reader) for _ in range(reader.count())])


def _share(reader: Reader) -> tuple[str, GroupInfo]:
    head = _head(reader)
    reader.text()  # the assignor
    return _group(reader, head, [_share_member(reader) for _ in range(reader.count())])


class _Head(NamedTuple):
    error: int
    name: str
    state: str
    epoch: int


def _head(reader: Reader) -> _Head:
    """How a group of any newer type begins."""
    error = reader.int16()
    reader.text()
    head = _Head(error, reader.name(), reader.name(), reader.int32())
    reader.int32()  # the epoch of the assignment
    return head


def _group(reader: Reader, head: _Head, members: Iterable[GroupMember]) -> tuple[str, GroupInfo]:
    """And how it ends."""
    reader.int32()
    reader.tags()
    if head.error == GROUP_NOT_FOUND:
        return head.name, DEAD
    return head.name, GroupInfo(head.error, head.state, tuple(members), head.epoch)


def _consumer_member(reader: Reader) -> GroupMember:
    member, instance = reader.text(), reader.text()
    reader.text()
    reader.int32()
    client_id, host, topics = reader.name(), reader.name(), _texts(reader)
    reader.text()  # a pattern of topics, whose partitions the assignment has
    assignment = _assigned(reader)
    _assigned(reader)  # the one that it is on its way to
    reader.tags()
    return GroupMember(client_id, host, assignment, topics, instance or member or "")


def _share_member(reader: Reader) -> GroupMember:
    member = reader.name()
    reader.text()
    reader.int32()
    client_id, host, topics = reader.name(), reader.name(), _texts(reader)
    assignment = _assigned(reader)
    reader.tags()
    return GroupMember(client_id, host, assignment, topics, member)


def _texts(reader: Reader) -> frozenset[str]:
    return frozenset(reader.name() for _ in range(reader.count()))


def _assigned(reader: Reader) -> Assignment:
    assigned = {}
    for _ in range(reader.count()):
        reader.take(16)
        topic = reader.name()
        assigned[topic] = tuple(reader.numbers())
        reader.tags()
    reader.tags()
    return assigned


# streams (KIP-1071)

Topology = Mapping[str, frozenset[str]]
"""The topics that each subtopology reads: its task of a number has their partitions of it."""


def _streams(reader: Reader) -> tuple[str, GroupInfo]:
    head, topology = _head(reader), _topology(reader)
    members = [_streams_member(reader, topology) for _ in range(reader.count())]
    return _group(reader, head, members)


def _topology(reader: Reader) -> Topology:
    if reader.int8() < 0:
        return {}
    reader.int32()
    topology = dict(_subtopology(reader) for _ in range(reader.count()))
    reader.tags()
    return topology


def _subtopology(reader: Reader) -> tuple[str, frozenset[str]]:
    id, sources = reader.name(), _texts(reader)
    _texts(reader)  # repartition topics that it writes
    _internal_topics(reader)  # changelogs
    repartitioned = _internal_topics(reader)
    reader.tags()
    return id, sources | repartitioned


def _internal_topics(reader: Reader) -> frozenset[str]:
    return frozenset(_internal_topic(reader) for _ in range(reader.count()))


def _internal_topic(reader: Reader) -> str:
    name = reader.name()
    reader.int32()
    reader.int16()
    _pairs(reader)
    reader.tags()
    return name


def _pairs(reader: Reader) -> None:
    for _ in range(reader.count()):
        reader.text()
        reader.text()
        reader.tags()


def _streams_member(reader: Reader, topology: Topology) -> GroupMember:
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
    _active_tasks(reader)  # those that it is on its way to
    reader.int8()
    reader.tags()
    topics = frozenset().union(*topology.values())
    return GroupMember(client_id, host, _partitions(tasks, topology), topics, instance or member)


def _task_offsets(reader: Reader) -> None:
    for _ in range(reader.count()):
        reader.text()
        reader.int32()
        reader.int64()
        reader.tags()


def _active_tasks(reader: Reader) -> dict[str, list[int]]:
    """By subtopology. Standby and warm-up tasks read changelogs only."""
    active, _, _ = (_tasks(reader) for _ in range(3))
    reader.tags()
    return active


def _tasks(reader: Reader) -> dict[str, list[int]]:
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


KINDS: Mapping[str, Callable[[Reader], tuple[str, GroupInfo]]] = {
    "classic": _classic,
    "consumer": _consumer,
    "share": _share,
    "streams": _streams,
}
"""How a group of each type is read."""
