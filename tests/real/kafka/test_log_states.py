"""Whatever happens to a log, a queue shows what Kafka's own consumer can read of it.

Random histories of one topic; the oracle is librdkafka's consumer, from the commit to the end, and
the history itself for what was lost.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from telemetron.document import Queue
from tests.collectors.kafka.conftest import Watched, watching
from tests.real.kafka.truth import SECONDS, Truth
from tests.real.process import wait_until

HISTORIES, STEPS = 10, 20
"""About a minute."""
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
COMPACTED = {
    "cleanup_policy": "compact,delete",
    "segment_ms": "100",
    "min_cleanable_dirty_ratio": "0.01",
    "min_compaction_lag_ms": "0",
}

partitions = st.sampled_from([0, 0, 0, 1])
fractions = st.sampled_from([0, 0.3, 0.6, 1, 1])
counts = st.integers(1, 4)


class Collecting:
    """A collector of one queue, in a thread of its own."""

    def __init__(self, watched: Watched, loop: asyncio.AbstractEventLoop, topic: str) -> None:
        self._watched = watched
        self._loop = loop
        self._topic = topic

    def await_queue(self, true: Callable[[Queue], bool], seconds: float = SECONDS) -> Queue:
        """The queue, once that is true of it, else how it is in the end."""
        last: list[Queue] = []

        def is_true(queue: Queue) -> bool:
            last[:] = [queue]
            return true(queue)

        waiting = self._watched.queue_until(self._topic, is_true, seconds=seconds)
        with suppress(AssertionError):
            asyncio.run_coroutine_threadsafe(waiting, self._loop).result()
        return last[0]

    def await_metadata(self) -> None:
        """Until it has asked for the topic's metadata, and heard it, once more."""
        call = ("confirm", f"topic {self._topic}", None, "")
        calls = self._watched.output.calls
        times = calls.count(call) + 2  # the first one may have been asked before
        waiting = self._watched.until(lambda: calls.count(call) >= times, SECONDS)
        asyncio.run_coroutine_threadsafe(waiting, self._loop).result()


@contextmanager
def collecting(truth: Truth, topic: str) -> Iterator[Collecting]:
    """Started, and ended with the context."""
    begun: list[Collecting] = []
    ready, end = threading.Event(), threading.Event()

    async def collect() -> None:
        queue = {"topic": topic, "groups": ["g"], "on_no_commit": "earliest", "max_tasks": 200}
        async with watching(truth.client["bootstrap.servers"].split(","), queue) as watched:
            begun.append(Collecting(watched, asyncio.get_running_loop(), topic))
            ready.set()
            await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=asyncio.run, args=(collect(),))
    thread.start()
    try:
        assert ready.wait(SECONDS)
        yield begun[0]
    finally:
        end.set()
        thread.join()


class LogStates(RuleBasedStateMachine):
    """One topic, one group, and what happens to them."""

    def __init__(self, truth: Truth) -> None:
        super().__init__()
        self.truth = truth
        self.topic = ""
        self.is_compacted = self.is_recreated = False
        self.partitions = 0
        self.commits: dict[int, int] = {}
        self.former: dict[int, int] = {}
        """Those on the topic that was deleted."""
        self.visible: dict[int, set[int]] = {}
        """Offsets of the records that could be read when they were looked at last."""
        self.known: dict[int, int] = {}
        """From here on Telemetron has read all that could be read."""
        self.open: tuple[Producer, int] | None = None
        self._contexts: list[AbstractContextManager[Any]] = []
        self._number = 0

    # what happens

    @initialize(is_compacted=st.booleans())
    def begin(self, is_compacted: bool) -> None:
        self.is_compacted, self.partitions = is_compacted, 1
        config = COMPACTED if is_compacted else {}
        self.topic = self.truth.topic(1, **config)
        context = collecting(self.truth, self.topic)
        self.collecting = context.__enter__()
        self._contexts.append(context)

    @rule(partition=partitions, count=counts)
    def produce(self, partition: int, count: int) -> None:
        for key, value in self._records(count):
            self.truth.produce(self.topic, [value], partition=self._at(partition), key=key)

    @rule(partition=partitions, count=counts, commit=st.booleans())
    def transact(self, partition: int, count: int, commit: bool) -> None:
        with self.truth.transaction() as producer:
            self._produce_in(producer, self._at(partition), count)
            if commit:
                producer.commit_transaction(SECONDS)

    @precondition(lambda self: self.open is None)
    @rule(partition=partitions, count=counts)
    def open_transaction(self, partition: int, count: int) -> None:
        context = self.truth.transaction()
        producer = context.__enter__()
        self._contexts.append(context)
        self._produce_in(producer, self._at(partition), count)
        self.open = producer, self._at(partition)

    @precondition(lambda self: self.open is not None)
    @rule(commit=st.booleans())
    def end_transaction(self, commit: bool) -> None:
        assert self.open is not None
        producer, partition = self.open
        wait_until(  # markers are written after a commit or an abort was answered
            lambda: {number for number, behind in self._behind().items() if behind} <= {partition},
            seconds=SECONDS,
            what="the markers of other transactions",
        )
        behind: int | None = None

        def agrees(it: Queue) -> bool:
            nonlocal behind
            behind = sum(self._behind().values())  # a marker in its own partition may still come
            return it.open_transaction_offsets == behind

        queue = self.collecting.await_queue(agrees)
        assert queue.open_transaction_offsets == behind
        assert behind == 0 or queue.open_transaction_since is not None
        (producer.commit_transaction if commit else producer.abort_transaction)(SECONDS)
        self.open = None

    @rule(partition=partitions, where=fractions)
    def commit(self, partition: int, where: float) -> None:
        """Anywhere between 0 and the end of all records."""
        number = self._at(partition)
        self._settle()
        self._commit(number, int(where * self._ends(stable=False)[number]))

    @rule(partition=partitions, where=fractions)
    def consume(self, partition: int, where: float) -> None:
        """As a worker: behind the last record that it read, and before any marker."""
        number = self._at(partition)
        self._settle()
        base = self._base(number, self._starts()[number])
        waiting = self._read(number, base) if base < self._ends()[number] else []
        read = waiting[: round(where * len(waiting))]
        if read:
            self._commit(number, read[-1].offset() + 1)

    def _commit(self, number: int, offset: int) -> None:
        start = self._starts()[number]
        if offset and offset == self.former.get(number):
            return  # it counts as one on the topic that was deleted
        base = self._base(number, start)
        consumed = {at for at in self.visible.get(number, ()) if base <= at < offset}
        if max(offset, start) < base:  # set back: the log is read again
            self.known[number] = max(offset, start)
        elif offset > self._ends()[number]:
            self.known[number] = offset
        elif consumed:  # it may be set back to these, which may be deleted until then
            self.known[number] = max(consumed) + 1
        self.truth.commit("g", self.topic, {number: offset})
        self.commits[number] = offset

    @rule(partition=partitions, where=fractions)
    def delete_before(self, partition: int, where: float) -> None:
        """The log begins anywhere between its start and the end of all records."""
        number = self._at(partition)
        self._settle()
        start, stable, high = self._starts(), self._ends(), self._ends(stable=False)
        before = start[number] + int(where * (high[number] - start[number]))
        if before > start[number]:
            self.truth.delete_before(self.topic, before, number)
            if before > stable[number]:  # records that could not be read, whatever became of them
                self.known[number] = before

    @precondition(lambda self: self.is_compacted and self.open is None)
    @rule(partition=partitions)
    def compact(self, partition: int) -> None:
        """Until no key is there twice but in the active segment."""
        number = self._at(partition)

        def compacted() -> bool:
            self.truth.produce(self.topic, [b"{}"], partition=number, key=b"roll")
            keys = [message.key() for message in self._read(number, self._starts()[number])]
            return all(keys.count(key) <= 1 for key in keys[:-3])

        wait_until(compacted, seconds=SECONDS, what="compaction")

    @precondition(lambda self: self.partitions < 3)
    @rule()
    def grow(self) -> None:
        self.partitions += 1
        self.truth.grow(self.topic, self.partitions)

    @precondition(lambda self: self.open is None and not self.is_recreated)
    @rule()
    def recreate(self) -> None:
        self.is_recreated = True
        self.truth.delete(self.topic)
        config = COMPACTED if self.is_compacted else {}
        self.truth.topic(self.partitions, name=self.topic, **config)
        self.collecting.await_metadata()  # a commit before that counts as one on the old topic
        self.former = {**self.commits}
        self.commits.clear()
        self.visible.clear()
        self.known.clear()

    def teardown(self) -> None:
        try:
            if self._contexts:
                self._settle()
        finally:
            for context in reversed(self._contexts):
                context.__exit__(None, None, None)
            if self.topic:
                self.truth.delete(self.topic)

    # what should be shown

    def _settle(self) -> None:
        """Await that the queue shows what a consumer of the group could read now."""
        end = time.monotonic() + SECONDS
        while True:  # a compaction that goes on changes what can be read
            starts, lag, waiting = self._waiting()
            expected = (len(waiting), True, lag, waiting)
            queue = self.collecting.await_queue(
                lambda it, expected=expected, starts=starts: (
                    _shown(it) == expected and self._problems_are_right(it, starts)
                ),
                SECONDS / 4,
            )
            if _shown(queue) == expected or time.monotonic() > end:
                break
        assert _shown(queue) == expected
        assert self._problems_are_right(queue, starts), (queue.problems, self.commits, starts)
        assert queue.oldest_submitted_at == (waiting[0][0] if waiting else None)

    def _waiting(self) -> tuple[dict[int, int], int, list[tuple[datetime, int, int]]]:
        """Where the logs start, the lag, and each record's time, partition and offset."""
        starts, ends = self._starts(), self._ends()
        waiting: list[tuple[datetime, int, int]] = []
        lag = 0
        for number, end in ends.items():
            base = min(self._base(number, starts[number]), end)
            lag += end - base
            found = self._read(number, base) if base < end else []
            waiting += [(_submitted_at(one), number, one.offset()) for one in found]
            before = {at for at in self.visible.get(number, ()) if not base <= at < end}
            self.visible[number] = before | {one.offset() for one in found}
        return starts, lag, sorted(waiting)

    def _problems_are_right(self, queue: Queue, starts: dict[int, int]) -> bool:
        """Lost is only what could be read once, and unknown only what was not read."""
        lost, unknown = set(), set()
        for number, start in starts.items():
            commit = self.commits.get(number)
            if commit is None or commit >= start:
                continue
            if any(commit <= offset < start for offset in self.visible.get(number, ())):
                lost.add(number)
            if commit < self.known.get(number, 0):
                unknown.add(number)
        reasons = {problem.reason for problem in queue.problems} - {"OpenTransaction"}
        if unknown:  # it may be known for a part of the offsets, and so for all that is asked
            allowed = {"OffsetsDeleted"} | ({"RecordsLost"} if lost else set())
            return reasons <= allowed and bool(reasons or not lost)
        return reasons == ({"RecordsLost"} if lost else set())

    def _base(self, number: int, start: int) -> int:
        return max(self.commits.get(number, 0), start)

    def _read(self, number: int, offset: int) -> list[Message]:
        with self.truth.reader(self.topic, offset, number) as read:
            return read()

    def _starts(self) -> dict[int, int]:
        return self.truth.starts(self.topic)

    def _ends(self, *, stable: bool = True) -> dict[int, int]:
        return self.truth.ends(self.topic, stable=stable)

    def _behind(self) -> dict[int, int]:
        """Offsets behind open transactions."""
        stable, high = self._ends(), self._ends(stable=False)
        return {number: high[number] - stable[number] for number in high}

    def _at(self, partition: int) -> int:
        return partition % self.partitions

    def _produce_in(self, producer: Producer, partition: int, count: int) -> None:
        for key, value in self._records(count):
            producer.produce(self.topic, value, key, partition)
        producer.flush(SECONDS)

    def _records(self, count: int) -> Iterator[tuple[bytes | None, bytes | None]]:
        """Keys and values: now and then a tombstone, a time that is not in order, or none."""
        for _ in range(count):
            self._number += 1
            at = NOON - timedelta(minutes=self._number * 7 % 5)
            value = {"id": str(self._number), "submitted_at": at.isoformat()}
            is_tombstone = self._number % 6 == 0
            key = b"%d" % (self._number % 3) if self.is_compacted or is_tombstone else None
            yield key, None if is_tombstone else json.dumps(value).encode()


def _shown(queue: Queue) -> tuple[int | None, bool | None, int | None, list[Any]]:
    tasks = [(task.submitted_at, task.partition, task.offset) for task in queue.tasks]
    return queue.depth, queue.depth_exact, queue.lag, tasks


def _submitted_at(message: Message) -> datetime:
    """As the test wrote it, or the record's own time."""
    value = message.value()
    if value and "submitted_at" in (task := json.loads(value)):
        return datetime.fromisoformat(task["submitted_at"])
    _, milliseconds = message.timestamp()
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


@pytest.fixture(autouse=True)
def _coordinator(truth: Truth) -> None:
    """A first commit makes the topic that keeps the offsets, which may take long."""
    topic = truth.topic()

    def committed() -> bool:
        with suppress(TimeoutError):
            truth.commit("g", topic, {0: 0})
            return True
        return False

    wait_until(committed, seconds=3 * SECONDS, what="the coordinator")


def test_any_history_of_a_log(truth: Truth) -> None:
    """A failure prints its steps, which belong among the recorded ones."""
    options = settings(
        max_examples=HISTORIES,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(lambda: LogStates(truth), settings=options)


RECORDED: dict[str, list[tuple[Callable[..., None], dict[str, Any]]]] = {
    "a commit moves on among aborted records that were deleted": [
        (LogStates.begin, {"is_compacted": False}),
        (LogStates.transact, {"partition": 0, "count": 1, "commit": True}),
        (LogStates.consume, {"partition": 0, "where": 1}),
        (LogStates.transact, {"partition": 0, "count": 4, "commit": False}),
        (LogStates.delete_before, {"partition": 0, "where": 1}),
        (LogStates.open_transaction, {"partition": 0, "count": 3}),
        (LogStates.commit, {"partition": 0, "where": 0.3}),
    ],
    "a marker behind the commit is deleted": [
        (LogStates.begin, {"is_compacted": False}),
        (LogStates.transact, {"partition": 0, "count": 3, "commit": True}),
        (LogStates.consume, {"partition": 0, "where": 1}),
        (LogStates.delete_before, {"partition": 0, "where": 1}),
    ],
    "aborted records and one that waits are deleted, then the group is set back": [
        (LogStates.begin, {"is_compacted": False}),
        (LogStates.produce, {"partition": 0, "count": 2}),
        (LogStates.consume, {"partition": 0, "where": 1}),
        (LogStates.transact, {"partition": 0, "count": 3, "commit": False}),
        (LogStates.delete_before, {"partition": 0, "where": 1}),
        (LogStates.produce, {"partition": 0, "count": 4}),
        (LogStates.delete_before, {"partition": 0, "where": 0.6}),
        (LogStates.consume, {"partition": 0, "where": 0.6}),
        (LogStates.commit, {"partition": 0, "where": 0}),
    ],
    "the log is deleted up to the middle of an open transaction": [
        (LogStates.begin, {"is_compacted": False}),
        (LogStates.produce, {"partition": 0, "count": 1}),
        (LogStates.open_transaction, {"partition": 0, "count": 4}),
        (LogStates.produce, {"partition": 0, "count": 2}),
        (LogStates.delete_before, {"partition": 0, "where": 0.6}),
        (LogStates.commit, {"partition": 0, "where": 1}),
        (LogStates.end_transaction, {"commit": True}),
    ],
    "a commit of 0 before and after the topic is recreated": [
        (LogStates.begin, {"is_compacted": True}),
        (LogStates.commit, {"partition": 0, "where": 0}),
        (LogStates.recreate, {}),
        (LogStates.commit, {"partition": 0, "where": 0}),
        (LogStates.compact, {"partition": 0}),
        (LogStates.grow, {}),
        (LogStates.produce, {"partition": 1, "count": 3}),
        (LogStates.consume, {"partition": 1, "where": 0.6}),
    ],
    "compaction on both sides of the commit, then deletion": [
        (LogStates.begin, {"is_compacted": True}),
        (LogStates.produce, {"partition": 0, "count": 4}),
        (LogStates.transact, {"partition": 0, "count": 4, "commit": True}),
        (LogStates.consume, {"partition": 0, "where": 0.3}),
        (LogStates.compact, {"partition": 0}),
        (LogStates.delete_before, {"partition": 0, "where": 0.6}),
        (LogStates.produce, {"partition": 0, "count": 2}),
    ],
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_history_of_a_log(truth: Truth, name: str) -> None:
    """What has failed once, or is easily missed by chance."""
    states = LogStates(truth)
    try:
        for event, arguments in RECORDED[name]:
            event(states, **arguments)
    finally:
        states.teardown()
