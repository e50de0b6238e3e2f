"""The rounds of one source: read commits, then ends of logs, then publish the changes.

Commits are read before the ends. In the other order, a group that commits in between would look
further ahead than it is, even past the end. Each round waits only briefly for responses, so that a
slow broker delays only its own partitions and groups.
"""

from functools import partial

from telemetron.backoff import Backoff
from telemetron.collector import Output
from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import ConnectionSettings, connection_settings
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.config import KafkaConfig
from telemetron_collectors.kafka.discovery import Discovery
from telemetron_collectors.kafka.fetcher import Fetcher
from telemetron_collectors.kafka.jobs import Jobs
from telemetron_collectors.kafka.limits import LIMITS, KafkaLimits
from telemetron_collectors.kafka.members import Members
from telemetron_collectors.kafka.offsets import Offsets
from telemetron_collectors.kafka.publisher import Publisher
from telemetron_collectors.kafka.scopes import CLUSTER
from telemetron_collectors.kafka.search import TaskSearch


async def run(config: KafkaConfig, output: Output, limits: KafkaLimits = LIMITS) -> None:
    """Observe one cluster until cancelled."""
    cluster = KafkaCluster(config, output, await _settings(config, output), limits)
    rounds = Rounds(cluster)
    output.offer(TaskSearch(cluster).find)
    try:
        while True:
            await rounds.next()
            await output.clock.sleep(config.interval)
    finally:
        await rounds.jobs.close()
        await cluster.brokers.close()


async def _settings(config: KafkaConfig, output: Output) -> ConnectionSettings:
    """Retry until the configured files can be used: they may be repaired meanwhile."""
    backoff = Backoff()
    while True:
        try:
            return await connection_settings(config)
        except TroubleError as trouble:
            output.trouble(CLUSTER, trouble.reason, trouble.message)
            await output.clock.sleep(backoff.next())


class Rounds:
    """Runs one round after the other, with requests of slow brokers beside them."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self.jobs = Jobs()
        self._cluster = cluster
        self._limits = cluster.limits
        self._members = Members(cluster)
        self._discovery = Discovery(cluster, self._members)
        self._offsets = Offsets(cluster)
        self._publisher = Publisher(cluster)
        self._fetcher = Fetcher(cluster, self._publisher)
        self._is_discovered = False

    async def next(self) -> None:
        """Find topics and groups, read commits, then ends, publish, fetch missing tasks."""
        await self._discover()
        if not self._is_discovered:
            return
        self._offsets.plan()
        for node, groups in self._offsets.by_coordinator().items():
            self.jobs.start(("commits", node), partial(self._offsets.read_commits, node, groups))
        await self._settle()
        commits = self._offsets.commits()
        for node, query in self._offsets.by_leader().items():
            read = partial(self._offsets.read_ends, node, query, commits)
            self.jobs.start(("ends", node), read)
        await self._settle()
        await self._read_hastened_topics()  # if a log shrank, its topic may be another one
        self._offsets.mark_late()
        await self._publisher.publish()
        self._fetcher.start(self.jobs)

    async def _settle(self) -> None:
        is_complete = self._cluster.is_complete
        await self.jobs.settle(
            self._limits.round_wait if is_complete else self._limits.first_round_wait
        )

    async def _discover(self) -> None:
        limits, cluster, schedule = self._limits, self._cluster, self._cluster.schedule
        if schedule.is_due("topics", limits.refresh):
            self.jobs.start("topics", self._discovery.read_topics)
            await self._settle()
        seconds = limits.discovery_seconds(cluster.config.interval)
        if cluster.brokers.known and schedule.is_due("groups", seconds):
            self.jobs.start("groups", self._read_groups)
        if self._is_discovered and schedule.is_due("members", limits.refresh):
            self.jobs.start("members", self._members.read_shown)
            self._publisher.share_tasks()
        await self._settle()
        await self._read_hastened_topics()  # of queues that were just found

    async def _read_hastened_topics(self) -> None:
        schedule = self._cluster.schedule
        if schedule.is_hastened("topics") and schedule.is_due("topics", self._limits.refresh):
            self.jobs.start("topics", self._discovery.read_topics)
            await self._settle()

    async def _read_groups(self) -> None:
        if await self._discovery.discover():
            await self._members.read_shown()
            self._is_discovered = True
