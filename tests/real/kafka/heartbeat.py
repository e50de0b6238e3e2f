"""Members of share and streams groups, which the other client library does not have.

They only beat: they join, own what they are given, and leave. Records are read by nobody.
"""

import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import uuid4

from telemetron_collectors.kafka.protocol.wire import (
    NO_TAGS,
    WireReader,
    compact_array,
    compact_text,
    text,
)
from tests.real.process import wait_until

COMMIT, COORDINATOR, SHARE, STREAMS = (8, 8), (10, 3), (76, 1), (88, 0)
"""APIs and versions: an offset, who coordinates a group, and the heartbeats."""
NOT_YET = {14, 15, 16}
"""Errors of a coordinator that is just being made."""
JOIN, LEAVE = 0, -1
"""Epochs of a member."""
INTERVAL_SECONDS = 0.5
TIMEOUT_SECONDS = 20
NULL = b"\x00"
Tasks = Mapping[str, Sequence[int]]


class Connection:
    """One connection to the coordinator."""

    def __init__(self, server: str, client_id: str) -> None:
        host, _, port = server.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), TIMEOUT_SECONDS)
        self._client_id = client_id

    def ask(self, api: tuple[int, int], body: bytes) -> tuple[int, WireReader]:
        """Error, and the answer behind it and its message."""
        reader = self.send(api, body)
        error = reader.int16()
        reader.text()
        return error, reader

    def send(self, api: tuple[int, int], body: bytes) -> WireReader:
        """The answer, behind the time that it was throttled."""
        head = struct.pack(">hhi", *api, 1) + text(self._client_id) + NO_TAGS
        self._socket.sendall(struct.pack(">i", len(head + body)) + head + body)
        (size,) = struct.unpack(">i", self._take(4))
        reader = WireReader(self._take(size), flexible=True)
        reader.int32()
        reader.tags()
        reader.int32()
        return reader

    def _take(self, size: int) -> bytes:
        taken = b""
        while len(taken) < size:
            more = self._socket.recv(size - len(taken))
            assert more, "the broker closed the connection"
            taken += more
        return taken

    def close(self) -> None:
        self._socket.close()


def commit_to_the_empty_group(server: str, topic: str, offset: int) -> None:
    """Of partition 0, as clients without a group could; other clients refuse the name."""
    part = struct.pack(">iqi", 0, offset, -1) + NULL + NO_TAGS
    topics = compact_array([compact_text(topic) + compact_array([part]) + NO_TAGS])
    body = compact_text("") + struct.pack(">i", -1) + compact_text("") + NULL + topics + NO_TAGS
    connection = Connection(server, "worker")
    connection.send(COMMIT, body)
    connection.close()


class BeatingMember:
    """Beats in a thread of its own, until it leaves."""

    def __init__(self, server: str, group: str, topics: Sequence[str], client_id: str) -> None:
        self.group = group
        self.topics = topics
        self._id = str(uuid4())
        self._epoch = JOIN
        self._connection = Connection(server, client_id)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._join()
        self._thread.start()

    def beat(self, epoch: int | None = None) -> int:
        """Once; the error."""
        raise NotImplementedError

    def _join(self) -> None:
        where = compact_text(self.group) + b"\x00" + NO_TAGS

        def joins() -> bool:
            self._connection.ask(COORDINATOR, where)  # so it is made
            error = self.beat()
            assert error in {0, *NOT_YET}, f"error {error}"
            return error == 0

        wait_until(joins, seconds=TIMEOUT_SECONDS, what=f"{self.group}'s coordinator")

    def leave(self) -> None:
        """Say so, and end."""
        self._ended.set()
        self._thread.join()
        self.beat(LEAVE)
        self._connection.close()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            self.beat()

    def _head(self, epoch: int | None) -> bytes:
        number = self._epoch if epoch is None else epoch
        return compact_text(self.group) + compact_text(self._id) + struct.pack(">i", number)


class ShareMember(BeatingMember):
    """A member of a share group (KIP-932)."""

    def beat(self, epoch: int | None = None) -> int:
        topics = compact_array([compact_text(topic) for topic in self.topics])
        error, answer = self._connection.ask(SHARE, self._head(epoch) + NULL + topics + NO_TAGS)
        if not error:
            answer.text()
            self._epoch = answer.int32()
        return error


class StreamsMember(BeatingMember):
    """A member of a streams group (KIP-1071), of one subtopology that reads these topics."""

    def __init__(self, server: str, group: str, topics: Sequence[str], client_id: str) -> None:
        self._tasks: Tasks = {}
        super().__init__(server, group, topics, client_id)

    def beat(self, epoch: int | None = None) -> int:
        error, answer = self._connection.ask(STREAMS, self._body(epoch))
        if not error:
            self._take(answer)
        return error

    def _take(self, answer: WireReader) -> None:
        answer.text()
        self._epoch = answer.int32()
        answer.raw(12)
        for _ in range(answer.count()):  # the status, as of topics that are missing
            answer.int8()
            answer.text()
            answer.tags()
        if (tasks := _tasks(answer)) is not None:
            self._tasks = tasks

    def _body(self, epoch: int | None) -> bytes:
        is_join = self._epoch == JOIN and epoch is None
        topology = b"\x01" + struct.pack(">i", 1) + compact_array([self._subtopology()]) + NO_TAGS
        owned = [
            compact_text(id) + compact_array([struct.pack(">i", n) for n in numbers]) + NO_TAGS
            for id, numbers in self._tasks.items()
        ]
        return b"".join(
            [
                self._head(epoch),
                struct.pack(">i", 0),
                NULL + NULL,  # instance, rack
                struct.pack(">i", 5000),
                topology if is_join else b"\xff",
                compact_array(owned) + compact_array([]) + compact_array([]),
                compact_text(self._id),
                b"\xff",  # no endpoint
                compact_array([]),
                NULL + NULL,  # offsets of tasks
                b"\x00",
                NO_TAGS,
            ]
        )

    def _subtopology(self) -> bytes:
        topics = compact_array([compact_text(topic) for topic in self.topics])
        return compact_text("0") + topics + compact_array([]) * 5 + NO_TAGS


def _tasks(answer: WireReader) -> Tasks | None:
    """None: no other tasks than before."""
    count = answer.varint() - 1
    if count < 0:
        return None
    tasks = {}
    for _ in range(count):
        id = answer.name()
        tasks[id] = answer.numbers()
        answer.tags()
    return tasks


MEMBERS = {"share": ShareMember, "streams": StreamsMember}


@contextmanager
def beating(
    server: str, kind: str, group: str, *topics: str, client_id: str = "worker"
) -> Iterator[BeatingMember]:
    """A member that leaves with the context."""
    member = MEMBERS[kind](server, group, topics, client_id)
    try:
        yield member
    finally:
        member.leave()
