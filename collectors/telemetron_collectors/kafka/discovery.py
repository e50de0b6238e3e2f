"""Finds topics and groups, and so the queues to show. It never creates any."""

import asyncio
from collections.abc import Iterable

from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import Broker
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.config import QueueConfig, matches
from telemetron_collectors.kafka.group import ConsumerGroup, offsets_request, parse_commits
from telemetron_collectors.kafka.members import Members
from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.membership import DEAD
from telemetron_collectors.kafka.protocol.messages import (
    ClusterMetadata,
    GroupListing,
    TopicInfo,
)
from telemetron_collectors.kafka.protocol.wire import UnsupportedError
from telemetron_collectors.kafka.queue import KafkaQueue, Refusal
from telemetron_collectors.kafka.scopes import CLUSTER, refusal_of, topic_scope, trouble_of
from telemetron_collectors.kafka.topic import Topic

MISSES = 2
"""A topic counts as deleted if so many metadata responses in a row do not contain it."""
MAX_AT_ONCE = 8
"""Groups that are asked for at a time: other requests do not wait for all of them."""
COORDINATOR_TOPIC = "__consumer_offsets"
UNKNOWN_GROUPS = "which groups read the topic is not known"

Pair = tuple[str, str | None]
"""The topic and group of a queue."""


class Discovery:
    """Reads metadata, lists groups, and adds and removes queues."""

    def __init__(self, cluster: KafkaCluster, members: Members) -> None:
        self._cluster = cluster
        self._schedule = cluster.schedule
        self._entries = cluster.config.entries
        self._max_groups = cluster.limits.max_groups
        self._max_queues = cluster.config.max_queues
        self._topics = cluster.topics
        self._queues = cluster.queues
        self._clock = cluster.clock
        self._brokers = cluster.brokers
        self._groups = cluster.groups
        self._scopes = cluster.scopes
        self._members = members
        self._room = asyncio.Semaphore(MAX_AT_ONCE)
        self._named_groups = {name for entry in self._entries for name in entry.named_groups}
        self._topic_names: list[str] = []
        """Topics that match a pattern."""
        self._all_topics = b""
        """The last metadata of all topics; empty: to be decoded again."""
        self._left_out: dict[str, str] = {}
        """Messages about topics, groups and queues that are left out."""

    # Topics

    async def read_topics(self) -> None:
        """Read the leaders and ids of the known and the named topics."""
        named = {entry.topic for entry in self._entries}
        unused = {name for name, topic in self._topics.items() if not topic.queues} - named
        try:
            response = await self._brokers.any(messages.metadata(sorted(self._topics)))
            metadata = messages.parse_metadata(response)
        except (TroubleError, ValueError, UnsupportedError) as error:
            self._scopes.report(CLUSTER, trouble_of(error))
            return
        await self._apply_brokers(metadata)
        for name, info in metadata.topics.items():
            if topic := self._topics.get(name):
                self._apply_topic(topic, info)
                if name in unused and not topic.queues and not 0 < topic.missed < MISSES:
                    del self._topics[name]
        self._scopes.forget_cluster_trouble()
        if self._cluster.is_complete:
            message = "; ".join(self._left_out.values())
            self._scopes.confirm(CLUSTER, ("LimitReached", message) if message else None)
        self._confirm_topics()

    async def _apply_brokers(self, metadata: ClusterMetadata) -> None:
        before = dict(self._brokers.known)
        gone = self._brokers.update(metadata.brokers)
        if before != self._brokers.known:
            self._cluster.replan()  # a topic may have named a leader before its broker was known
        for broker in gone:
            await broker.close()
        self._scopes.expect()

    def _apply_topic(self, topic: Topic, info: TopicInfo) -> None:
        topic.fault = 0
        if info.error == messages.UNKNOWN_TOPIC:
            self._miss(topic)
        elif info.error == messages.TOPIC_DENIED:
            topic.refusal = ("Forbidden", "no permission to describe the topic")
            topic.leaders = ()
            self._cluster.mark_changed(topic.queues)
            topic.missed = 0
        elif info.error == messages.NONE:
            self._update_topic(topic, info)
        else:
            topic.fault = info.error

    def _miss(self, topic: Topic) -> None:
        topic.missed += 1
        if topic.missed == MISSES:
            self._remove_topic(topic)
        elif topic.missed < MISSES:
            self._schedule.defer("topics")

    def _update_topic(self, topic: Topic, info: TopicInfo) -> None:
        is_changed = topic.leaders != info.leaders or topic.refusal is not None
        if topic.is_other(info):
            self._disown(topic)
        if topic.update(info) or is_changed:
            self._cluster.replan()
            self._cluster.mark_changed(topic.queues)

    def _disown(self, topic: Topic) -> None:
        for group in self._groups.values():
            group.disown(topic)

    def _remove_topic(self, topic: Topic) -> None:
        """Remove the queues of a deleted topic."""
        self._disown(topic)
        topic.forget()
        topic.id = ""
        topic.leaders = ()
        for queue in list(topic.queues):
            self._cluster.remove(queue)
        self._cluster.replan()

    def _confirm_topics(self) -> None:
        """Confirm the scope of each named topic of which it is certain whether it exists."""
        for entry in self._entries:
            if not entry.is_pattern:
                topic = self._topics[entry.topic]
                problem = _problem(topic)
                if problem or topic.leaders:
                    self._scopes.confirm(topic_scope(topic.name), problem)

    async def _find_topics(self) -> None:
        """Find the topics that match a pattern."""
        response = await self._brokers.any(messages.metadata(None))
        if self._all_topics == response.data:
            return
        metadata = messages.parse_metadata(response)
        before, self._all_topics = self._topic_names, response.data
        patterns = [entry.topic for entry in self._entries if entry.is_pattern]
        self._topic_names = [
            name
            for name, info in metadata.topics.items()
            if info.error == messages.NONE
            and not name.startswith("__")  # Kafka's own
            and any(matches(pattern, name) for pattern in patterns)
        ]
        missing = [
            name
            for name in set(before).difference(self._topic_names)
            if (topic := self._topics.get(name)) and topic.missed < MISSES
        ]
        if missing:  # `read_topics` decides whether they are deleted
            self._topic_names += missing
            self._all_topics = b""
            self._schedule.hasten("topics")

    # Groups

    async def discover(self) -> bool:
        """Find the groups, the topics they read, and so the queues; return whether it worked."""
        try:
            if any(entry.is_pattern for entry in self._entries):
                await self._find_topics()
        except (TroubleError, ValueError, UnsupportedError) as error:
            self._scopes.report(CLUSTER, trouble_of(error))
            return False
        brokers = self._brokers.known.items()
        if all(await asyncio.gather(*(self._list_groups(*broker) for broker in brokers))):
            self._remove_groups()
        for name in self._named_groups:
            self._groups.setdefault(name, ConsumerGroup(name))
        await self._locate([group for group in self._groups.values() if group.node is None])
        sought = self._sought()
        await asyncio.gather(*map(self._find_commits, sought))
        await self._members.read("sought", [group for group in sought if not group.queues])
        self._cluster.set_groups_unknown(self._unknown(sought))
        self._apply_pairs(self._pairs())
        return True

    def _listed(self) -> set[str]:
        """Return the groups that any broker lists."""
        return set().union(*(broker.groups or () for broker in self._brokers.known.values()))

    def _sought(self) -> list[ConsumerGroup]:
        """Return the groups that are shown if they read a topic, though they are not named."""
        seeking = [entry for entry in self._entries if entry.seeks_groups]
        groups = self._groups.values()
        return [group for group in groups if any(entry.has_group(group.name) for entry in seeking)]

    def _unknown(self, sought: list[ConsumerGroup]) -> Refusal | None:
        """Return why a group that we do not know may read a topic; None: no group can."""
        message = f"only the first {self._max_groups} groups are observed"
        is_cut = not self._listed() <= self._groups.keys()
        self._leave_out("groups", is_cut, message)
        if is_cut:
            return "LimitReached", f"{UNKNOWN_GROUPS}: {message}"
        for node, broker in self._brokers.known.items():
            if broker.groups is None or self._scopes.is_failing(node, "groups"):
                return self._unanswered(node)
        for group in sought:
            if group.refusal and group.refusal[0] == "Forbidden":
                continue  # like a group that we may not list
            if not group.is_searched or group.described_at is None:
                return self._unanswered(group.node)
            if group.hides_topics:
                return "Unreachable", f"{UNKNOWN_GROUPS}: group {group.name} is rebalancing"
        return None

    def _unanswered(self, node: int | None) -> Refusal:
        trouble = self._scopes.trouble_with(node)
        if trouble is None:
            return "Unreachable", f"{UNKNOWN_GROUPS}: a coordinator has not described its groups"
        broker = "" if node is None else f"broker {node}: "
        return trouble.reason, f"{UNKNOWN_GROUPS}: {broker}{trouble.message}"

    def _leave_out(self, kind: str, is_reached: bool, message: str) -> None:
        if is_reached:
            self._left_out[kind] = message
        else:
            self._left_out.pop(kind, None)

    async def _list_groups(self, node: int, broker: Broker) -> bool:
        """List the groups of one broker; return whether it answered."""
        try:
            response = await broker.control.call(messages.list_groups())
            error, listings = messages.parse_groups(response)
            if error in messages.COORDINATOR_ERRORS:
                return False  # it just started; the groups that it listed before still count
            if error != messages.NONE:
                raise TroubleError("BadAnswer", f"cannot list the broker's groups: error {error}")
        except (TroubleError, ValueError, UnsupportedError) as failed:
            self._scopes.fail(node, "groups", failed)
            return False
        self._scopes.succeed(node, "groups")
        for listing in listings:
            self._apply_listing(node, listing)
        broker.groups = {listing.name for listing in listings}
        return True

    def _apply_listing(self, node: int, listing: GroupListing) -> None:
        group = self._groups.get(listing.name)
        if group is None:
            if len(self._groups) >= self._max_groups:
                return
            group = self._groups[listing.name] = ConsumerGroup(listing.name)
        if group.move(node, listing.type):
            self._cluster.mark_changed(group.queues)

    def _remove_groups(self) -> None:
        """Remove the groups that their broker no longer lists."""
        for name in self._groups.keys() - self._listed() - self._named_groups:
            broker = self._brokers.get(self._groups[name].node)
            if broker is not None and broker.groups is not None:
                for queue in list(self._groups[name].queues):
                    self._cluster.remove(queue)
                del self._groups[name]

    async def _locate(self, groups: Iterable[ConsumerGroup]) -> None:
        """Find the coordinators of groups that no broker lists: absent, or not permitted."""
        if not groups:
            return
        try:
            exist = bool(self._listed()) or await self._has_coordinators()
        except (TroubleError, ValueError, UnsupportedError):
            return
        brokers = self._brokers.known.values()
        if exist:
            await asyncio.gather(*map(self._find_coordinator, groups))
        elif all(broker.groups is not None for broker in brokers):  # no broker can know them
            for group in groups:
                group.set_absent(DEAD, self._clock.monotonic())

    async def _has_coordinators(self) -> bool:
        """Return whether the offsets topic exists: a request for a coordinator would create it."""
        response = await self._brokers.any(messages.metadata([COORDINATOR_TOPIC]))
        found = messages.parse_metadata(response).topics.get(COORDINATOR_TOPIC)
        return found is not None and found.error != messages.UNKNOWN_TOPIC

    async def _find_coordinator(self, group: ConsumerGroup) -> None:
        try:
            async with self._room:
                response = await self._brokers.any(messages.find_coordinator(group.name))
            error, node = messages.parse_coordinator(response)
        except (TroubleError, ValueError, UnsupportedError) as failed:
            self._cluster.lose(group, refusal_of(failed))
            return
        if error == messages.NONE:
            group.node = node
        elif error == messages.GROUP_DENIED:
            self._cluster.refuse(group, ("Forbidden", "no permission to describe the group"))
        else:
            self._cluster.lose(group, ("Unreachable", "the group has no coordinator"))
        self._cluster.mark_changed(group.queues)

    async def _find_commits(self, group: ConsumerGroup) -> None:
        """Find the topics that a group has committed on."""
        broker = self._brokers.get(group.node)
        if broker is None:
            return
        try:
            async with self._room:
                response = await broker.control.call(offsets_request(group, None))
            if response.content == group.committed_raw:
                return
            commits = parse_commits(group, response)
        except UnsupportedError:
            group.is_searched = True  # the broker cannot say more
            return
        except (TroubleError, ValueError):
            return  # the last known topics stay
        group.is_searched |= commits.error not in messages.COORDINATOR_ERRORS
        if commits.error == messages.NONE:
            group.committed_raw = response.content
            group.committed = {
                topic
                for topic, offsets in commits.topics.items()
                if any(commit.offset >= 0 for commit in offsets.values())
            }

    # Queues

    def _pairs(self) -> dict[Pair, QueueConfig]:
        """Return the topic and group of every queue to show, with its configuration."""
        matching = [(entry, self._matching(entry)) for entry in self._entries]
        pairs: dict[Pair, QueueConfig] = {}
        for entry, topics in matching:
            for group in entry.named_groups:
                for topic in topics:
                    pairs[topic, group] = self._entry(topic, group) or entry
        pairs |= self._found_pairs({topic for _, topics in matching for topic in topics})
        read = {topic for topic, _ in pairs}
        for entry, topics in sorted(matching, key=lambda it: it[0].is_pattern):
            for topic in topics:
                if topic not in read:
                    pairs.setdefault((topic, None), entry)
        return pairs

    def _found_pairs(self, topics: set[str]) -> dict[Pair, QueueConfig]:
        """Return the pairs of groups that read one of the topics."""
        pairs: dict[Pair, QueueConfig] = {}
        for group in self._groups.values():
            for topic in topics & (group.committed | group.subscribed):
                entry = self._entry(topic, group.name)
                if entry and entry.seeks_groups:
                    pairs[topic, group.name] = entry
        return pairs

    def _matching(self, entry: QueueConfig) -> list[str]:
        if entry.is_pattern:
            return [name for name in self._topic_names if matches(entry.topic, name)]
        topic = self._topics[entry.topic]
        return [entry.topic] if topic.leaders or topic.refusal else []

    def _entry(self, topic: str, group: str) -> QueueConfig | None:
        """Return the first entry of the configuration that matches."""
        for entry in self._entries:
            if entry.has_topic(topic) and entry.has_group(group):
                return entry
        return None

    def _apply_pairs(self, pairs: dict[Pair, QueueConfig]) -> None:
        """Add and remove queues."""
        limit = self._max_queues
        order = sorted(pairs, key=lambda pair: _rank(pair, pairs[pair]))[:limit]
        read = sum(group is not None for _, group in pairs)
        self._leave_out("queues", read > limit, f"only the first {limit} queues are shown")
        left_out = f"{len(pairs) - limit} topics that no group reads are not observed"
        self._leave_out("topics", read <= limit < len(pairs), left_out)
        wanted = set(order)
        for queue in list(self._queues.values()):
            if (queue.topic, queue.group) not in wanted:
                self._cluster.remove(queue)
        known = {(queue.topic, queue.group) for queue in self._queues.values()}
        for name, group in order:
            if (name, group) not in known:
                self._cluster.add(KafkaQueue(name, group, pairs[name, group]))


def _problem(topic: Topic) -> Refusal | None:
    """Return the problem with the scope of a named topic."""
    if topic.missed >= MISSES:
        return "NotFound", "the topic does not exist"
    if topic.refusal:
        return topic.refusal
    if topic.fault:
        return "BadAnswer", f"the brokers return error {topic.fault}"
    return None


def _rank(pair: Pair, config: QueueConfig) -> tuple[bool, bool, str, str]:
    """Sort queues with groups first, then topics that are named."""
    topic, group = pair
    return group is None, group is None and config.is_pattern, topic, group or ""
