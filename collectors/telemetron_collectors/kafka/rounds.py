"""One source's watch: rounds of reading commits, then ends, then publishing what changed.

Committed offsets are read before the ends of the logs: the other way round a group that commits in
between would seem to be further than it is, even past the end. What is waited for in a round is
bounded; a broker that does not answer holds up its own partitions and groups alone.
"""

from functools import partial

from telemetron.backoff import Backoff
from telemetron.collector import Output
from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import Access, access
from telemetron_collectors.kafka.cluster import CLUSTER, Known
from telemetron_collectors.kafka.config import KafkaConfig
from telemetron_collectors.kafka.discovery import Finder
from telemetron_collectors.kafka.fetcher import Content
from telemetron_collectors.kafka.jobs import Jobs
from telemetron_collectors.kafka.members import Members
from telemetron_collectors.kafka.offsets import Offsets
from telemetron_collectors.kafka.publisher import Publisher
from telemetron_collectors.kafka.queue import TopicQueue

PATIENCE = 0.1
FIRST_PATIENCE = 1.0
"""Seconds that a round waits for answers; what comes later counts in a later one. The first round
waits longer, so that it is whole."""
REFRESH_SECONDS = 1.0
"""Between two looks at topics and members."""
DISCOVER_SECONDS = 3.0
DISCOVER_INTERVALS = 20
"""Between two looks for new topics and groups; sooner where the interval is short."""


async def observe(config: KafkaConfig, output: Output, hold_seconds: float) -> None:
    """Until cancelled; the last known of what is not answered stands for `hold_seconds`."""
    known = Known(config, output, await _access(config, output), hold_seconds)
    rounds = Rounds(known)
    try:
        while True:
            await rounds.next()
            await output.clock.sleep(config.interval)
    finally:
        await rounds.jobs.close()
        await known.brokers.close()


async def _access(config: KafkaConfig, output: Output) -> Access:
    """Files of the configuration that cannot be used may be mended while we wait."""
    backoff = Backoff()
    while True:
        try:
            return await access(config)
        except TroubleError as trouble:
            output.trouble(CLUSTER, trouble.reason, trouble.message)
            await output.clock.sleep(backoff.next())


class Rounds:
    """One look after the other at everything that is known."""

    def __init__(self, known: Known) -> None:
        self.jobs = Jobs()
        self._known = known
        self._members = Members(known)
        self._finder = Finder(known, self._members)
        self._offsets = Offsets(known)
        self._publisher = Publisher(known)
        self._content = Content(known, self._publisher.publish)
        self._late: set[TopicQueue] = set()
        self._is_discovered = False

    async def next(self) -> None:
        """Find what there is, read commits, then ends, show what changed, fetch what is missing."""
        await self._find()
        if not self._is_discovered:
            return
        self._offsets.plan()
        for node, groups in self._offsets.by_coordinator().items():
            self.jobs.start(("commits", node), partial(self._offsets.read_commits, node, groups))
        await self._settle()
        stands = self._offsets.stands()
        for node, ends in self._offsets.ends.items():
            read = partial(self._offsets.read_ends, node, ends, stands)
            self.jobs.start(("ends", node), read)
        await self._settle()
        await self._read_topics_anew()  # where the log of one shrank: is it still the same?
        self._touch_late()
        await self._publisher.publish()
        self._content.feed(self.jobs)

    async def _settle(self) -> None:
        await self.jobs.settle(PATIENCE if self._known.is_complete else FIRST_PATIENCE)

    async def _find(self) -> None:
        known = self._known
        if known.is_due("topics", REFRESH_SECONDS):
            self.jobs.start("topics", self._finder.read_topics)
            await self._settle()
        discover = min(DISCOVER_SECONDS, DISCOVER_INTERVALS * known.config.interval)
        if known.brokers.known and known.is_due("groups", discover):
            self.jobs.start("groups", self._discover)
        if self._is_discovered and known.is_due("members", REFRESH_SECONDS):
            self.jobs.start("members", self._members.read_shown)
            known.share_out()
        await self._settle()
        await self._read_topics_anew()  # those that were just found

    async def _read_topics_anew(self) -> None:
        """At once, where somebody asked for it."""
        if not self._known.due["topics"] and self._known.is_due("topics", REFRESH_SECONDS):
            self.jobs.start("topics", self._finder.read_topics)
            await self._settle()

    async def _discover(self) -> None:
        if await self._finder.discover():
            await self._members.read_shown()
            self._is_discovered = True

    def _touch_late(self) -> None:
        """Whoever depends on a broker that is silent for too long, or just was."""
        known, ends = self._known, self._offsets.ends
        too_old = known.clock.monotonic() - known.hold
        late: set[TopicQueue] = set()
        for node in [node for node in ends if known.read_at.get(node, too_old) <= too_old]:
            for name in ends[node].partitions:
                if name in known.topics:
                    late.update(known.topics[name].queues)
        for group in known.groups.values():
            if group.queues and (group.read_at is None or group.read_at <= too_old):
                late.update(group.queues)
        for topic in known.topics.values():
            if topic.bad_since or not known.brokers.known.keys() >= set(topic.leaders):
                late.update(topic.queues)
        news = late | self._late
        known.touched.update(queue for queue in news if known.queues.get(queue.id) is queue)
        self._late = late
