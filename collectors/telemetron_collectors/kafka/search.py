"""The search for one task: by its record exactly, or by its id within some pending records.

It reads as a consumer that commits nothing: positions are those of the last round, and records are
fetched over a connection of its own, one partition at a time, so that rounds never wait for it.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from telemetron.document import PendingTask
from telemetron.poll import TroubleError
from telemetron.search import (
    QueueRecord,
    SearchedRange,
    SearchResult,
    TaskQuery,
    TaskSighting,
    shares,
)
from telemetron.slices import paced
from telemetron_collectors.kafka.brokers import BrokerConnection
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.config import QueueConfig
from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.messages import Fetched
from telemetron_collectors.kafka.protocol.records import Scan, scan
from telemetron_collectors.kafka.protocol.wire import UnsupportedError
from telemetron_collectors.kafka.queue import KafkaQueue
from telemetron_collectors.kafka.scopes import refusal_of
from telemetron_collectors.kafka.task import parse_tasks, with_id
from telemetron_collectors.kafka.topic import Topic

FETCH_BYTES = 1 << 18
MAX_BYTES = 64 << 20
"""Of all records that one search fetches."""
MAX_HITS = 8
"""Records of one partition with the same id."""
OFFSET_OUT_OF_RANGE = 1

COUNTS_ONLY = "its records are not read: `max_tasks` is 0"
NOT_THERE = "there is no readable record at this offset: deleted, aborted or a marker"
BEYOND = "beyond the end of the log that consumers can read"
LOOK, DEADLINE = "the look ended", "the time was up"


class UnreadError(Exception):
    """Why records were not read."""


class Span:
    """The pending records of one partition that a search reads."""

    def __init__(self, topic: Topic, number: int, config: QueueConfig, end: int) -> None:
        self.topic = topic
        self.number = number
        self.config = config
        self.first = self.next = min(_bases(topic, number), default=end)
        self.end = end
        self.left = 0
        """How many records it may still read."""
        self.why = LOOK
        self.hits: list[LogHit] = []

    @property
    def is_open(self) -> bool:
        return self.next < self.end and self.left > 0 and len(self.hits) < MAX_HITS

    def searched(self) -> SearchedRange:
        return SearchedRange(
            queue=self.topic.name,
            partition=self.number,
            first=self.first,
            next=self.next,
            end=self.end,
            why=None if self.next >= self.end else self.why,
        )


class LogHit(NamedTuple):
    """A record that was found."""

    topic: Topic
    partition: int
    offset: int
    task: PendingTask | None
    why: str | None = None


class TaskSearch:
    """Answers where a task is; `find` is what the collector offers."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster

    async def find(self, query: TaskQuery) -> SearchResult:
        """Return the sightings of the task, and how far it was searched for."""
        spans = [span async for span in paced(self._spans())] if query.look else []
        hits: list[LogHit] = []
        reader = RecordReader(self._cluster)
        try:
            async with asyncio.timeout(query.seconds):
                hits += [hit for one in query.records for hit in await self._look_at(reader, one)]
                await self._read_spans(reader, spans, query)
        except TimeoutError:
            for span in spans:
                span.why = DEADLINE
            found = {(hit.topic.name, hit.partition, hit.offset) for hit in hits}
            missed = [
                one for one in query.records if (one.queue, one.partition, one.offset) not in found
            ]
            hits += [hit for one in missed for hit in self._unread(one, DEADLINE)]
        finally:
            await reader.close()
        hits += [hit for span in spans for hit in span.hits]
        return SearchResult(
            sightings=[sighting for hit in hits for sighting in _sightings(hit)],
            searched=[span.searched() for span in spans],
            unchecked=[why async for why in paced(self._unchecked())] if query.look else [],
        )

    # one record

    async def _look_at(self, reader: "RecordReader", record: QueueRecord) -> list[LogHit]:
        topic = self._topic(record)
        if topic is None:
            return []
        config = _readable(topic)
        if config is None:
            return self._unread(record, COUNTS_ONLY)
        end = topic.ends.get(record.partition)
        if end is not None and end.error == messages.NONE and record.offset >= end.offset:
            return self._unread(record, BEYOND)
        try:
            found = await reader.read(topic, record.partition, record.offset, 1)
        except UnreadError as error:
            return self._unread(record, str(error))
        if not found.records or found.records[0].offset != record.offset:
            return self._unread(record, found.trouble or NOT_THERE)
        now = self._cluster.clock.now()
        arguments = found.records[:1], topic.name, record.partition, config, now
        (task,) = await asyncio.to_thread(parse_tasks, *arguments)
        return [LogHit(topic, record.partition, record.offset, task)]

    def _topic(self, record: QueueRecord) -> Topic | None:
        """Return the topic that has the partition; None: this source does not show it."""
        topic = self._cluster.topics.get(record.queue)
        known = topic and topic.queues and 0 <= record.partition < len(topic.leaders)
        return topic if known else None

    def _unread(self, record: QueueRecord, why: str) -> list[LogHit]:
        topic = self._topic(record)
        return [LogHit(topic, record.partition, record.offset, None, why)] if topic else []

    # an id

    def _spans(self) -> Iterator[Span]:
        for topic in list(self._cluster.topics.values()):
            config = _readable(topic)
            for number in range(len(topic.leaders)) if config else ():
                if config and topic.is_read(number):
                    span = Span(topic, number, config, topic.ends[number].offset)
                    if span.next < span.end:
                        yield span

    async def _read_spans(
        self, reader: "RecordReader", spans: list[Span], query: TaskQuery
    ) -> None:
        given = shares(query.look, {span: span.end - span.next for span in spans})
        leaders: dict[int, list[Span]] = {}
        for span in sorted(spans, key=lambda one: one.end - one.next):
            span.left = given[span]
            leaders.setdefault(span.topic.leader(span.number), []).append(span)
        async with asyncio.TaskGroup() as group:
            for ours in leaders.values():
                group.create_task(self._read_leader(reader, ours, query.id))

    async def _read_leader(self, reader: "RecordReader", spans: list[Span], id: str) -> None:
        for span in spans:
            try:
                while span.is_open:
                    await self._read_on(reader, span, id)
            except UnreadError as error:
                span.why = str(error)

    async def _read_on(self, reader: "RecordReader", span: Span, id: str) -> None:
        topic, number, config = span.topic, span.number, span.config
        found = await reader.read(topic, number, span.next, span.left)
        records = await asyncio.to_thread(with_id, found.records, id, config)
        span.left -= len(found.records)
        span.next = max(span.next, found.next)
        now = self._cluster.clock.now()
        arguments = records[:MAX_HITS], topic.name, number, config, now
        for task in await asyncio.to_thread(parse_tasks, *arguments):
            span.hits.append(LogHit(topic, number, task.offset or 0, task))
        if found.trouble:
            raise UnreadError(found.trouble)

    def _unchecked(self) -> Iterator[str]:
        """Yield why pending tasks may be there that no span has."""
        if self._cluster.groups_unknown:
            yield self._cluster.groups_unknown[1]
        for topic in list(self._cluster.topics.values()):
            waiting = [queue for queue in topic.queues if queue.part is None or queue.part.lag != 0]
            if waiting and _readable(topic) is None and topic.queues:
                yield f"queue {topic.name}: {COUNTS_ONLY}"
            for number in range(len(topic.leaders)) if waiting else ():
                if number not in topic.ends or not topic.is_read(number):
                    yield f"queue {topic.name}: the end of partition {number} is not known"


class RecordReader:
    """Fetches records of single partitions, over connections that it opens for one search."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._brokers = cluster.brokers
        self._connections: dict[int, BrokerConnection] = {}
        self._bytes = 0

    async def read(self, topic: Topic, number: int, offset: int, limit: int) -> Scan:
        """Return at most `limit` records from an offset on; raise UnreadError."""
        if self._bytes >= MAX_BYTES:
            raise UnreadError(f"{MAX_BYTES >> 20} MiB of records were read")
        fetched = await self._fetch(topic, number, offset)
        self._bytes += len(fetched.records)
        if fetched.error == OFFSET_OUT_OF_RANGE:
            raise UnreadError(NOT_THERE)
        if fetched.error == messages.TOPIC_DENIED:
            raise UnreadError("no permission to read the topic")
        if fetched.error != messages.NONE:
            raise UnreadError(f"the leader answered with error {fetched.error}")
        if not fetched.records:  # the rest of the log is compacted away, or behind a transaction
            return Scan([], max(offset + 1, fetched.last_stable))
        return await asyncio.to_thread(scan, fetched, offset, limit)

    async def _fetch(self, topic: Topic, number: int, offset: int) -> Fetched:
        request = messages.fetch({topic.name: {number: offset}}, FETCH_BYTES, FETCH_BYTES)
        try:
            response = await self._connection(topic.leader(number)).call(request)
            error, fetched = messages.parse_fetched(response)
        except (TroubleError, ValueError, UnsupportedError) as failed:
            raise UnreadError(refusal_of(failed)[1]) from None
        if error != messages.NONE or number not in fetched.get(topic.name, {}):
            raise UnreadError(f"the leader answered with error {error}")
        return fetched[topic.name][number]

    def _connection(self, node: int) -> BrokerConnection:
        if node not in self._connections:
            connection = self._brokers.connect(node)
            if connection is None:
                raise UnreadError("the partition has no leader")
            self._connections[node] = connection
        return self._connections[node]

    async def close(self) -> None:
        await asyncio.gather(*(one.close() for one in self._connections.values()))


def _readable(topic: Topic) -> QueueConfig | None:
    """Return the configuration that allows to read the topic's records; None: none does."""
    return next((queue.config for queue in topic.queues if queue.config.max_tasks), None)


def _bases(topic: Topic, number: int) -> Iterator[int]:
    """Yield the first offset that is pending, or may be, in each queue of a topic."""
    start = topic.starts[number].offset if number in topic.starts else 0
    for queue in topic.queues:
        position = queue.partitions[number].position if number < len(queue.partitions) else None
        yield start if position is None or position.base is None else position.base


def _sightings(hit: LogHit) -> Iterable[TaskSighting]:
    """Yield a record as each group sees it."""
    for queue in hit.topic.queues:
        yield _sighting(hit, queue)


def _sighting(hit: LogHit, queue: KafkaQueue) -> TaskSighting:
    known = hit.partition < len(queue.partitions) and not queue.is_share
    partition = queue.partitions[hit.partition] if known else None
    position = partition.position if partition else None
    base = position.base if position else None
    status = "absent" if hit.why in (NOT_THERE, BEYOND) else None
    ahead, is_exact = None, None
    if base is not None and partition and not status:
        status = "pending" if hit.offset >= base else "consumed"
        if status == "pending":
            ahead, is_exact = hit.offset - base, hit.offset == base
            window = partition.window
            if window and window.begin == base and window.next > hit.offset:
                ahead = sum((task.offset or 0) < hit.offset for task in window.tasks)
                is_exact = True
    return TaskSighting(
        queue=queue.topic,
        consumer_group=queue.group,
        partition=hit.partition,
        offset=hit.offset,
        status=status,
        ahead=ahead,
        ahead_exact=is_exact,
        task=hit.task,
        why=hit.why,
    )
