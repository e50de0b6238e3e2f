"""Fetches the first pending records of queues, and decodes them into tasks."""

import asyncio
from functools import partial

from telemetron.document import PendingTask
from telemetron.poll import TroubleError
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.jobs import Jobs
from telemetron_collectors.kafka.partition import Window
from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.messages import Fetched
from telemetron_collectors.kafka.protocol.records import Scan, is_heavy, scan
from telemetron_collectors.kafka.protocol.wire import ResponseBody, UnsupportedError
from telemetron_collectors.kafka.publisher import Publisher
from telemetron_collectors.kafka.queue import KafkaQueue, Refusal
from telemetron_collectors.kafka.scopes import refusal_of
from telemetron_collectors.kafka.task import parse_tasks
from telemetron_collectors.kafka.topic import Topic

MAX_PARTITIONS = 500
"""In one request."""
FETCH_BYTES = 1 << 20
PARTITION_BYTES = 1 << 17
BYTES_PER_SECOND = 8 << 20
"""Of each leader."""
THREAD_BYTES = 1 << 15
"""Larger values are decoded in a thread."""
KEYED_TIMES = 6
"""Topics in which compaction was never seen are checked this many times less often."""

Fetch = dict[str, dict[int, int]]
"""The offsets to fetch from, by topic and partition."""


class Fetcher:
    """Fills the windows of all queues with tasks, beside the rounds."""

    def __init__(self, cluster: KafkaCluster, publisher: Publisher) -> None:
        self._cluster = cluster
        self._schedule = cluster.schedule
        self._clock = cluster.clock
        self._topics = cluster.topics
        self._brokers = cluster.brokers
        self._queues = cluster.queues
        self._limits = cluster.limits
        self._compaction_seconds = cluster.limits.compaction_seconds(cluster.config.interval)
        self._publisher = publisher
        self._checks = 0
        self._single: dict[int, tuple[str, int]] = {}
        """By leader, a partition that returned no records beside others. It is fetched by itself
        next: only then does an empty response say that there are no records."""

    def start(self, jobs: Jobs) -> None:
        """Start a job for each leader of a queue that is short of tasks."""
        if self._schedule.is_due("compaction", self._compaction_seconds):
            self._check_compaction()
        nodes = {
            self._topics[queue.topic].leader(number)
            for queue in self._cluster.short
            for number, _, _ in queue.windows()
        }
        for node in nodes & self._brokers.known.keys():
            jobs.start(("records", node), partial(self._fetch_all, node), wait=False)

    def _check_compaction(self) -> None:
        """Have tasks fetched again whose records may be compacted away."""
        self._checks += 1
        is_time = self._checks % KEYED_TIMES == 0
        for queue in self._queues.values():
            if is_time or self._topics[queue.topic].is_compacted:
                for _, window, _ in queue.windows():
                    if window.is_keyed:
                        window.recheck()
                        self._cluster.mark_short(queue)

    async def _fetch_all(self, node: int) -> None:
        """Fetch until no queue misses records of this leader, or it fails."""
        while offsets := self._missing(node):
            broker = self._brokers.get(node)
            if broker is None:
                return
            logs = {name: self._topics[name].log for name in offsets}
            request = messages.fetch(offsets, FETCH_BYTES, PARTITION_BYTES)
            try:
                response = await broker.data.call(request)
                error, fetched = messages.parse_fetched(response)
            except (TroubleError, ValueError, UnsupportedError) as failed:
                self._set_unread(offsets, refusal_of(failed), 2 * self._limits.retry)
                return
            if error != messages.NONE:
                return
            await self._apply(offsets, logs, fetched, response)
            await self._publisher.publish()
            await self._clock.sleep(len(response.data) / BYTES_PER_SECOND)

    async def _apply(
        self,
        offsets: Fetch,
        logs: dict[str, object],
        fetched: dict[str, dict[int, Fetched]],
        response: ResponseBody,
    ) -> None:
        is_single = sum(map(len, offsets.values())) == 1 and not response.throttle
        for name, partitions in fetched.items():
            for number, records in partitions.items():
                topic = self._topics.get(name)
                if topic and topic.log is logs[name]:
                    at = offsets[name][number]
                    await self._apply_records(topic, number, at, records, is_single)

    def _missing(self, node: int) -> Fetch:
        """Return the offsets to fetch from one leader."""
        offsets = self._least_missing(node)
        name, number = self._single.get(node, ("", -1))
        if number not in offsets.get(name, ()):
            return offsets
        del self._single[node]
        return {name: {number: offsets[name][number]}}

    def _least_missing(self, node: int) -> Fetch:
        """Return the least offset of each partition that a queue misses."""
        offsets: Fetch = {}
        count = 0
        for queue in list(self._cluster.short):
            topic = self._topics[queue.topic]
            missing = self._missing_of(queue)
            if not missing:
                self._cluster.mark_filled(queue)
            for number, at in missing.items():
                if count < MAX_PARTITIONS and self._may_fetch(topic, number, at, node):
                    here = offsets.setdefault(topic.name, {})
                    count += number not in here
                    here[number] = min(here.get(number, at), at)
        return offsets

    def _missing_of(self, queue: KafkaQueue) -> dict[int, int]:
        """Return the offsets that a queue misses, by partition."""
        max_tasks = self._publisher.max_tasks(queue)
        found = {}
        for number, window, end in queue.windows():
            at = window.next if window.wants(end, max_tasks) else window.check
            if at is not None:
                found[number] = at
        return found

    def _may_fetch(self, topic: Topic, number: int, at: int, node: int) -> bool:
        now = self._clock.monotonic()
        return (
            topic.leader(number) == node
            and topic.unread_until.get(number, 0.0) <= now
            and topic.broken.get((number, at), 0.0) <= now
        )

    async def _apply_records(
        self, topic: Topic, number: int, offset: int, fetched: Fetched, is_single: bool
    ) -> None:
        """Decode the records of one partition; `is_single`: no other one was fetched with it."""
        log = topic.log
        if fetched.error == messages.TOPIC_DENIED:
            refusal = ("Forbidden", "no permission to read the topic")
            self._set_unread({topic.name: {number: offset}}, refusal, self._limits.unreadable)
            return
        if fetched.error != messages.NONE:  # the request for its end reports the error
            self._wait(topic, number)
            return
        found = await self._scan(topic, offset, fetched)
        if topic.log is not log:
            return
        if is_single and not fetched.records:  # all records up to the end are compacted away
            found = Scan([], max(offset, fetched.last_stable), has_holes=True)
        topic.is_compacted |= found.has_holes
        if found.next > offset:  # records before an undecodable one count, too
            self._set_read(topic, number)
            await self._add_tasks(topic, number, offset, found)
        elif not found.trouble:
            self._wait(topic, number)
            self._single[topic.leader(number)] = topic.name, number
        if found.trouble and topic.log is log:
            self._set_broken(topic, number, found)

    def _wait(self, topic: Topic, number: int) -> None:
        topic.unread_until[number] = self._clock.monotonic() + self._limits.retry

    async def _scan(self, topic: Topic, offset: int, fetched: Fetched) -> Scan:
        limit = 2 * max(map(self._publisher.max_tasks, topic.queues), default=1)
        if is_heavy(fetched.records, THREAD_BYTES):
            return await asyncio.to_thread(scan, fetched, offset, limit)
        return scan(fetched, offset, limit)

    def _set_broken(self, topic: Topic, number: int, found: Scan) -> None:
        """Report undecodable records in the queues that need them; other queues pass them."""
        now, refusal = self._clock.monotonic(), ("BadAnswer", found.trouble)
        topic.broken = {at: until for at, until in topic.broken.items() if until > now}
        topic.broken[number, found.next] = now + self._limits.unreadable
        for queue in topic.queues:
            window = queue.window(number)
            if window and window.next == found.next:
                self._report(queue, number, refusal)

    async def _add_tasks(self, topic: Topic, number: int, offset: int, found: Scan) -> None:
        """Add the tasks to each queue that needs them, decoded once for each configuration."""
        parsed: dict[int, list[PendingTask]] = {}
        log = topic.log
        for queue in list(topic.queues):
            if _window(queue, number, offset, found) is None:
                continue
            if id(queue.config) not in parsed:
                parsed[id(queue.config)] = await self._parse(topic.name, number, queue, found)
            window = _window(queue, number, offset, found)
            if window is None or topic.log is not log:
                continue  # the group's position changed while the records were decoded
            tasks = parsed[id(queue.config)]
            if window.check is not None and offset <= window.check < found.next:
                window.drop_missing(tasks, found.next)
            if offset <= window.next < found.next:
                window.append(tasks, found.next, self._publisher.max_tasks(queue))
            window.is_keyed |= found.is_keyed
            self._cluster.mark_changed([queue])

    async def _parse(
        self, topic: str, number: int, queue: KafkaQueue, found: Scan
    ) -> list[PendingTask]:
        arguments = (found.records, topic, number, queue.config, self._clock.now())
        if sum(len(record.value or b"") for record in found.records) < THREAD_BYTES:
            return parse_tasks(*arguments)
        return await asyncio.to_thread(parse_tasks, *arguments)

    def _set_unread(self, offsets: Fetch, refusal: Refusal, seconds: float) -> None:
        """Report in all queues why the records of these partitions are not read."""
        until = self._clock.monotonic() + seconds
        for name, numbers in offsets.items():
            if topic := self._topics.get(name):
                for number in numbers:
                    topic.unread_until[number] = until
                    for queue in topic.queues:
                        if queue.shows_tasks:
                            self._report(queue, number, refusal)

    def _report(self, queue: KafkaQueue, number: int, refusal: Refusal) -> None:
        if queue.unread.get(number) != refusal:
            queue.unread[number] = refusal
            self._cluster.mark_changed([queue])

    def _set_read(self, topic: Topic, number: int) -> None:
        topic.unread_until.pop(number, None)
        for queue in topic.queues:
            window = queue.window(number)
            if window and (number, window.next) in topic.broken:
                continue
            if queue.unread.pop(number, None):
                self._cluster.mark_changed([queue])


def _window(queue: KafkaQueue, number: int, offset: int, found: Scan) -> Window | None:
    """Return the window that needs records of this scan, if any."""
    window = queue.window(number) if queue.shows_tasks else None
    if window is None:
        return None
    wanted = (window.next, window.check)
    return window if any(at is not None and offset <= at < found.next for at in wanted) else None
