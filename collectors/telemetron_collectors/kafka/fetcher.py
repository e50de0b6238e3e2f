"""The tasks themselves: the first records that wait, read where some are missing."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from telemetron.document import PendingTask
from telemetron.poll import TroubleError
from telemetron_collectors.kafka.cluster import Known, refusal_of
from telemetron_collectors.kafka.group import Refusal, Topic
from telemetron_collectors.kafka.jobs import Jobs
from telemetron_collectors.kafka.partition import Window
from telemetron_collectors.kafka.protocol import messages as ask
from telemetron_collectors.kafka.protocol.messages import Fetched
from telemetron_collectors.kafka.protocol.records import Scan, is_heavy, scan
from telemetron_collectors.kafka.protocol.wire import UnsupportedError
from telemetron_collectors.kafka.queue import TopicQueue
from telemetron_collectors.kafka.task import parse_tasks

MAX_PARTITIONS = 500
"""In one fetch."""
FETCH_BYTES = 1 << 20
PARTITION_BYTES = 1 << 17
BYTES_PER_SECOND = 8 << 20
"""Of each leader."""
IN_THREAD_FROM = 1 << 15
RETRY_SECONDS = 0.5
UNREAD_SECONDS = 10.0
"""Until a partition whose records could not be read is tried again."""
COMPACTION_SECONDS = 5.0
COMPACTION_INTERVALS = 50
"""Until records with keys that wait in a topic with holes are read again, which may be gone; sooner
if the interval is short."""
KEYED_TIMES = 6
"""So many times as long in a topic in which no hole was seen yet."""


class Content:
    """Fills the windows of all queues; `publish` shows what came."""

    def __init__(self, known: Known, publish: Callable[[], Awaitable[None]]) -> None:
        self.known = known
        self._publish = publish
        self._checks = 0
        self._alone: dict[int, tuple[str, int]] = {}
        """Of each leader, a partition of which nothing came beside others: it is asked for alone,
        so that an answer without records says that there are none."""

    def feed(self, jobs: Jobs) -> None:
        """Read the tasks that are missing, leader by leader, beside the rounds."""
        interval = COMPACTION_INTERVALS * self.known.config.interval
        if self.known.is_due("compaction", min(COMPACTION_SECONDS, interval)):
            self._recheck()
        nodes = {
            self.known.topics[queue.topic].leader(number)
            for queue in self.known.hungry
            for number, _, _ in queue.windows()
        }
        for node in nodes & self.known.brokers.known.keys():
            jobs.start(("records", node), partial(self._read_records, node), wait=False)

    def _recheck(self) -> None:
        """Have tasks read again that compaction may have removed."""
        self._checks += 1
        is_time = self._checks % KEYED_TIMES == 0
        for queue in self.known.queues.values():
            if is_time or self.known.topics[queue.topic].is_compacted:
                for _, window, _ in queue.windows():
                    if window.is_keyed:
                        window.recheck()
                        self.known.hungry.add(queue)

    async def _read_records(self, node: int) -> None:
        """Until nothing is missing of this leader, or it is in trouble."""
        while offsets := self._missing(node):
            broker = self.known.brokers.known.get(node)
            if broker is None:
                return
            logs = {name: self.known.topics[name].log for name in offsets}
            request = ask.fetch(offsets, FETCH_BYTES, PARTITION_BYTES)
            try:
                answer = await broker.data.call(request)
                error, topics = ask.parse_fetched(answer)
            except (TroubleError, ValueError, UnsupportedError) as failed:
                self._set_unread(offsets, refusal_of(failed), 1.0)
                return
            if error != ask.NONE:
                return
            is_whole = sum(map(len, offsets.values())) == 1 and not answer.throttle
            for name, partitions in topics.items():
                for number, fetched in partitions.items():
                    topic = self.known.topics.get(name)
                    if topic and topic.log is logs[name]:
                        at = offsets[name][number]
                        await self._take_records(topic, number, at, fetched, is_whole)
            await self._publish()
            await self.known.clock.sleep(len(answer.data) / BYTES_PER_SECOND)

    def _missing(self, node: int) -> dict[str, dict[int, int]]:
        """The offsets to read from, by topic and partition: the least that a group misses."""
        offsets = self._least_missing(node)
        name, number = self._alone.get(node, ("", -1))
        if number not in offsets.get(name, ()):
            return offsets
        del self._alone[node]
        return {name: {number: offsets[name][number]}}

    def _least_missing(self, node: int) -> dict[str, dict[int, int]]:
        now = self.known.clock.monotonic()
        offsets: dict[str, dict[int, int]] = {}
        count = 0
        for queue in list(self.known.hungry):
            topic = self.known.topics[queue.topic]
            is_hungry = False
            for number, window, end in queue.windows():
                is_short = window.wants(end, self.known.wanted(queue))
                at = window.next if is_short else window.check
                if at is None:
                    continue
                is_hungry = True
                if topic.leader(number) != node or topic.unread_until.get(number, 0.0) > now:
                    continue
                if topic.broken.get((number, at), 0.0) > now:
                    continue
                if count < MAX_PARTITIONS:
                    here = offsets.setdefault(topic.name, {})
                    count += number not in here
                    here[number] = min(here.get(number, at), at)
            if not is_hungry:
                self.known.hungry.discard(queue)
        return offsets

    async def _take_records(
        self, topic: Topic, number: int, offset: int, fetched: Fetched, is_whole: bool
    ) -> None:
        """`is_whole`: whether nothing else took room in the answer."""
        log = topic.log
        if fetched.error == ask.TOPIC_DENIED:
            refusal = ("Forbidden", "no permission to read the topic")
            self._set_unread({topic.name: {number: offset}}, refusal, UNREAD_SECONDS)
            return
        if fetched.error != ask.NONE:  # what its leader says of its end tells why
            topic.unread_until[number] = self.known.clock.monotonic() + RETRY_SECONDS
            return
        limit = 2 * max((self.known.wanted(queue) for queue in topic.queues), default=1)
        if not is_heavy(fetched.records, IN_THREAD_FROM):
            found = scan(fetched, offset, limit)
        else:
            found = await asyncio.to_thread(scan, fetched, offset, limit)
        if topic.log is not log:
            return
        if is_whole and not fetched.records:  # as if all that is behind were compacted away
            found = Scan([], max(offset, fetched.last_stable), has_holes=True)
        topic.is_compacted |= found.has_holes
        if found.next > offset:  # what stands before records that cannot be decoded, too
            self._set_read(topic, number)
            await self._hand_out(topic, number, offset, found)
        elif not found.trouble:
            topic.unread_until[number] = self.known.clock.monotonic() + RETRY_SECONDS
            self._alone[topic.leader(number)] = topic.name, number
        if found.trouble and topic.log is log:
            self._set_broken(topic, number, found)

    def _set_broken(self, topic: Topic, number: int, found: Scan) -> None:
        """Who waits for these records; others go on behind them."""
        now, refusal = self.known.clock.monotonic(), ("BadAnswer", found.trouble)
        topic.broken = {at: until for at, until in topic.broken.items() if until > now}
        topic.broken[number, found.next] = now + UNREAD_SECONDS
        for queue in topic.queues:
            window = queue.window(number)
            if window and window.next == found.next:
                self._tell(queue, number, refusal)

    async def _hand_out(self, topic: Topic, number: int, offset: int, found: Scan) -> None:
        """To every group that stands where it was read, each as its queue wants it."""
        parsed: dict[int, list[PendingTask]] = {}
        log = topic.log
        for queue in list(topic.queues):
            if _window(queue, number, offset, found) is None:
                continue
            if id(queue.config) not in parsed:
                parsed[id(queue.config)] = await self._parse(topic.name, number, queue, found)
            window = _window(queue, number, offset, found)
            if window is None or topic.log is not log:
                continue  # the group went elsewhere meanwhile
            tasks = parsed[id(queue.config)]
            if window.check is not None and offset <= window.check < found.next:
                window.renew(tasks, found.next)
            if offset <= window.next < found.next:
                window.take(tasks, found.next, self.known.wanted(queue))
            window.is_keyed |= found.is_keyed
            self.known.touched.add(queue)

    async def _parse(
        self, topic: str, number: int, queue: TopicQueue, found: Scan
    ) -> list[PendingTask]:
        arguments = (found.records, topic, number, queue.config, self.known.clock.now())
        if sum(len(record.value or b"") for record in found.records) < IN_THREAD_FROM:
            return parse_tasks(*arguments)
        return await asyncio.to_thread(parse_tasks, *arguments)

    def _set_unread(
        self, offsets: dict[str, dict[int, int]], refusal: Refusal, seconds: float
    ) -> None:
        until = self.known.clock.monotonic() + seconds
        for name, numbers in offsets.items():
            topic = self.known.topics.get(name)
            for number in numbers if topic else ():
                assert topic is not None  # noqa: S101
                topic.unread_until[number] = until
                for queue in topic.queues:
                    if queue.shows_tasks:
                        self._tell(queue, number, refusal)

    def _tell(self, queue: TopicQueue, number: int, refusal: Refusal) -> None:
        """Why records of a partition are not read."""
        if queue.unread.get(number) != refusal:
            queue.unread[number] = refusal
            self.known.touched.add(queue)

    def _set_read(self, topic: Topic, number: int) -> None:
        topic.unread_until.pop(number, None)
        for queue in topic.queues:
            window = queue.window(number)
            if window and (number, window.next) in topic.broken:
                continue
            if queue.unread.pop(number, None):
                self.known.touched.add(queue)


def _window(queue: TopicQueue, number: int, offset: int, found: Scan) -> Window | None:
    """Where the records go that were read from this offset on; None: nowhere."""
    window = queue.window(number) if queue.shows_tasks else None
    if window is None:
        return None
    wanted = (window.next, window.check)
    return window if any(at is not None and offset <= at < found.next for at in wanted) else None
