"""Which topics, groups and so which queues there are."""

import asyncio

from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import Broker
from telemetron_collectors.kafka.cluster import CLUSTER, Known, refusal_of, trouble_of
from telemetron_collectors.kafka.config import QueueConfig, matches
from telemetron_collectors.kafka.group import Group, Refusal, Topic, commits_of, offsets_of
from telemetron_collectors.kafka.members import Members
from telemetron_collectors.kafka.protocol import messages as ask
from telemetron_collectors.kafka.protocol.membership import DEAD
from telemetron_collectors.kafka.protocol.messages import Metadata
from telemetron_collectors.kafka.protocol.wire import UnsupportedError
from telemetron_collectors.kafka.queue import TopicQueue

MISSES = 2
"""How many times in a row a topic is not known until it counts as deleted."""
MAX_GROUPS = 10_000
MAX_AT_ONCE = 8
"""Groups that are asked for at a time, so that others' requests are not behind all of them."""
COORDINATOR_TOPIC = "__consumer_offsets"
UNSEEN = "which groups read the topic is not known"


class Finder:
    """Looks for what is there; never makes anything be there."""

    def __init__(self, known: Known, members: Members) -> None:
        self.known = known
        self._members = members
        self._room = asyncio.Semaphore(MAX_AT_ONCE)
        self._topic_names: list[str] = []
        """Those that a pattern fits."""

    async def read_topics(self) -> None:
        """Leaders and ids of the topics that are known or named."""
        named = {entry.topic for entry in self.known.config.entries}
        unused = {n for n, topic in self.known.topics.items() if not topic.queues} - named
        try:
            answer = await self.known.brokers.any(ask.metadata(sorted(self.known.topics)))
            metadata = ask.parse_metadata(answer)
        except (TroubleError, ValueError, UnsupportedError) as error:
            self.known.tell(CLUSTER, trouble_of(error))
            return
        await self._take_brokers(metadata)
        now = self.known.clock.monotonic()
        for name, info in metadata.topics.items():
            if name in self.known.topics:
                topic = self.known.topics[name]
                self._take_topic(topic, info, now)
                if name in unused and not topic.queues and not 0 < topic.missed < MISSES:
                    del self.known.topics[name]
        self.known.troubles.pop(CLUSTER, None)
        if self.known.is_complete:
            self._confirm_cluster()
        self._confirm_topics()

    async def _take_brokers(self, metadata: Metadata) -> None:
        before = dict(self.known.brokers.known)
        gone = self.known.brokers.update(metadata.brokers)
        if before != self.known.brokers.known:
            self.known.planned = False  # one that is new may lead what was known before it
        for broker in gone:
            await broker.close()
        self.known.expect()
        for node in self.known.listed.keys() - metadata.brokers.keys():
            del self.known.listed[node]

    def _take_topic(self, topic: Topic, info: ask.TopicInfo, now: float) -> None:
        topic.fault = 0
        if info.error == ask.UNKNOWN_TOPIC:
            topic.missed += 1
            if topic.missed == MISSES:
                self._bury(topic)
            elif topic.missed < MISSES:
                self.known.due["topics"] = now
        elif info.error == ask.TOPIC_DENIED:
            topic.refusal = ("Forbidden", "no permission to describe the topic")
            topic.leaders = ()
            self.known.touched.update(topic.queues)
            topic.missed = 0
        elif info.error == ask.NONE:
            if topic.leaders != info.leaders or topic.refusal:
                self.known.planned = False
                self.known.touched.update(topic.queues)
            if topic.id and info.id and topic.id != info.id:
                for group in self.known.groups.values():
                    group.disown(topic)
            if topic.update(info):
                self.known.planned = False
                self.known.raw.clear()
                self.known.touched.update(topic.queues)
        else:
            topic.fault = info.error

    def _bury(self, topic: Topic) -> None:
        """The topic is deleted: so are its queues."""
        for group in self.known.groups.values():
            group.disown(topic)
        topic.forget()
        topic.id = ""
        topic.leaders = ()
        for queue in list(topic.queues):
            self.known.drop(queue)
        self.known.planned = False

    def _confirm_cluster(self) -> None:
        if self.known.limits:
            message = "; ".join(self.known.limits.values())
            self.known.output.confirm(CLUSTER, reason="LimitReached", message=message)
        else:
            self.known.output.confirm(CLUSTER)

    def _confirm_topics(self) -> None:
        """Those that the configuration names: known for certain to be there, or not."""
        for entry in self.known.config.entries:
            if entry.is_pattern:
                continue
            topic = self.known.topics[entry.topic]
            scope = f"topic {topic.name}"
            if topic.missed >= MISSES:
                self.known.output.confirm(
                    scope, reason="NotFound", message="there is no such topic"
                )
            elif topic.refusal:
                reason, message = topic.refusal
                self.known.output.confirm(scope, reason=reason, message=message)
            elif topic.fault:
                message = f"the brokers answer with error {topic.fault}"
                self.known.output.confirm(scope, reason="BadAnswer", message=message)
            elif topic.leaders:
                self.known.output.confirm(scope)

    async def discover(self) -> bool:
        """Find the groups, what they have committed on, and so the queues; False: it failed."""
        try:
            if any(entry.is_pattern for entry in self.known.config.entries):
                await self._find_topics()
        except (TroubleError, ValueError, UnsupportedError) as error:
            self.known.tell(CLUSTER, trouble_of(error))
            return False
        known = self.known.brokers.known.items()
        if all(await asyncio.gather(*(self._list_groups(*broker) for broker in known))):
            self._forget_groups()
        for name in {name for entry in self.known.config.entries for name in entry.named_groups}:
            self.known.groups.setdefault(name, Group(name))
        unlocated = [group for group in self.known.groups.values() if group.node is None]
        await self._locate(unlocated)
        sought = self._sought()
        await asyncio.gather(*map(self._find_commits, sought))
        await self._members.read("sought", [group for group in sought if not group.queues])
        self.known.see(self._unseen(sought))
        self._take_pairs(self._pairs())
        return True

    def _sought(self) -> list[Group]:
        """The groups that are shown once they read a topic."""
        seeking = [entry for entry in self.known.config.entries if entry.seeks_groups]
        groups = self.known.groups.values()
        return [group for group in groups if any(entry.has_group(group.name) for entry in seeking)]

    def _unseen(self, sought: list[Group]) -> Refusal | None:
        """Why a group that reads a topic may be none of those that we know; None: it is not so."""
        listed = set().union(*self.known.listed.values())
        is_cut = not listed <= self.known.groups.keys()
        self._limit("groups", is_cut, f"the first {MAX_GROUPS} groups are looked at")
        if is_cut:
            return "LimitReached", f"{UNSEEN}: the first {MAX_GROUPS} groups are looked at"
        for node in self.known.brokers.known:
            if node not in self.known.listed or "groups" in self.known.failing.get(node, ()):
                return self._unanswered(node)
        for group in sought:
            if group.refusal and group.refusal[0] == "Forbidden":
                continue  # as one that we do not know of, since it is not named
            if not group.is_searched or group.described_at is None:
                return self._unanswered(group.node)
            if group.hides_topics:
                return "Unreachable", f"{UNSEEN}: group {group.name} rebalances"
        return None

    def _unanswered(self, node: int | None) -> Refusal:
        trouble = self.known.silence(node)
        if trouble is None:
            return "Unreachable", f"{UNSEEN}: a coordinator has not told its groups"
        broker = "" if node is None else f"broker {node}: "
        return trouble.reason, f"{UNSEEN}: {broker}{trouble.message}"

    def _limit(self, what: str, is_reached: bool, message: str) -> None:
        if is_reached:
            self.known.limits[what] = message
        else:
            self.known.limits.pop(what, None)

    async def _find_topics(self) -> None:
        answer = await self.known.brokers.any(ask.metadata(None))
        if self.known.raw.get("all") == answer.data:
            return
        metadata = ask.parse_metadata(answer)
        before, self.known.raw["all"] = self._topic_names, answer.data
        patterns = [entry.topic for entry in self.known.config.entries if entry.is_pattern]
        self._topic_names = [
            name
            for name, info in metadata.topics.items()
            if info.error == ask.NONE
            and not name.startswith("__")  # Kafka's own
            and any(matches(pattern, name) for pattern in patterns)
        ]
        missing = [
            name
            for name in set(before).difference(self._topic_names)
            if (topic := self.known.topics.get(name)) and topic.missed < MISSES
        ]
        if missing:  # whether they are gone is for `read_topics` to say
            self._topic_names += missing
            self.known.raw.pop("all")
            self.known.due["topics"] = 0.0

    async def _list_groups(self, node: int, broker: Broker) -> bool:
        """Whether it told."""
        try:
            error, listings = ask.parse_groups(await broker.control.call(ask.list_groups()))
            if error in ask.COORDINATOR_ERRORS:
                return False  # it just started; what it listed before still counts
            if error != ask.NONE:
                raise TroubleError("BadAnswer", f"its list of groups has error {error}")
        except (TroubleError, ValueError, UnsupportedError) as failed:
            self.known.fail(node, "groups", trouble_of(failed))
            return False
        self.known.serve(node, "groups")
        for name, kind in listings:
            group = self.known.groups.get(name)
            if group is None:
                if len(self.known.groups) >= MAX_GROUPS:
                    continue
                group = self.known.groups[name] = Group(name)
            if (group.node, group.type) != (node, kind):
                group.node, group.type, group.request = node, kind, None
                group.committed_raw = b""
                self.known.touched.update(group.queues)
        self.known.listed[node] = {listing.name for listing in listings}
        return True

    def _forget_groups(self) -> None:
        listed = set().union(*self.known.listed.values())
        named = {name for entry in self.known.config.entries for name in entry.named_groups}
        for name in self.known.groups.keys() - listed - named:
            if self.known.groups[name].node in self.known.listed:
                for queue in list(self.known.groups[name].queues):
                    self.known.drop(queue)
                del self.known.groups[name]

    async def _locate(self, groups: list[Group]) -> None:
        """Find the coordinators of groups that no broker lists: not there, or not permitted."""
        if not groups:
            return
        try:
            exist = any(self.known.listed.values()) or await self._has_coordinators()
        except (TroubleError, ValueError, UnsupportedError):
            return
        if exist:
            await asyncio.gather(*map(self._find_coordinator, groups))
        elif self.known.listed.keys() == self.known.brokers.known.keys():  # nobody may know them
            for group in groups:
                group.read_at = self.known.clock.monotonic()
                group.describe(DEAD, None, group.read_at)
                group.is_absent = group.is_searched = True
                group.refusal = None

    async def _has_coordinators(self) -> bool:
        """To ask for a coordinator creates the topic that keeps the offsets: not by us."""
        answer = await self.known.brokers.any(ask.metadata([COORDINATOR_TOPIC]))
        found = ask.parse_metadata(answer).topics.get(COORDINATOR_TOPIC)
        return found is not None and found.error != ask.UNKNOWN_TOPIC

    async def _find_coordinator(self, group: Group) -> None:
        try:
            async with self._room:
                answer = await self.known.brokers.any(ask.find_coordinator(group.name))
            error, node = ask.parse_coordinator(answer)
        except (TroubleError, ValueError, UnsupportedError) as failed:
            self.known.lose(group, refusal_of(failed))
            return
        if error == ask.NONE:
            group.node = node
        elif error == ask.GROUP_DENIED:
            self.known.refuse(group, ("Forbidden", "no permission to describe the group"))
        else:
            self.known.lose(group, ("Unreachable", "the group has no coordinator"))
        self.known.touched.update(group.queues)

    async def _find_commits(self, group: Group) -> None:
        """Which topics it has committed on."""
        broker = self.known.brokers.known.get(-1 if group.node is None else group.node)
        if broker is None:
            return
        try:
            async with self._room:
                answer = await broker.control.call(offsets_of(group, None))
            if answer.data[4:] == group.committed_raw:
                return
            commits = commits_of(group, answer)
        except UnsupportedError:
            group.is_searched = True  # there is no more to know
            return
        except (TroubleError, ValueError):
            return  # what is known stays
        group.is_searched |= commits.error not in ask.COORDINATOR_ERRORS
        if commits.error == ask.NONE:
            group.committed_raw = answer.data[4:]
            group.committed = {
                topic
                for topic, offsets in commits.topics.items()
                if any(commit.offset >= 0 for commit in offsets.values())
            }

    def _pairs(self) -> dict[tuple[str, str | None], QueueConfig]:
        """Topic and group of every queue that is to be shown."""
        pairs: dict[tuple[str, str | None], QueueConfig] = {}
        matching = [(entry, self._matching(entry)) for entry in self.known.config.entries]
        for entry, topics in matching:
            for group in entry.named_groups:
                for topic in topics:
                    pairs[topic, group] = self._entry(topic, group) or entry
        known = {topic for _, topics in matching for topic in topics}
        for group_state in self.known.groups.values():
            for topic in known & (group_state.committed | group_state.subscribed):
                found = self._entry(topic, group_state.name)
                if found and found.seeks_groups:
                    pairs[topic, group_state.name] = found
        read = {topic for topic, _ in pairs}
        for entry, topics in sorted(matching, key=lambda it: it[0].is_pattern):
            for topic in topics:
                if topic not in read:
                    pairs.setdefault((topic, None), entry)
        return pairs

    def _matching(self, entry: QueueConfig) -> list[str]:
        if entry.is_pattern:
            return [name for name in self._topic_names if matches(entry.topic, name)]
        topic = self.known.topics[entry.topic]
        return [entry.topic] if topic.leaders or topic.refusal else []

    def _entry(self, topic: str, group: str) -> QueueConfig | None:
        """The first that fits."""
        for entry in self.known.config.entries:
            if entry.has_topic(topic) and entry.has_group(group):
                return entry
        return None

    def _take_pairs(self, pairs: dict[tuple[str, str | None], QueueConfig]) -> None:
        limit = self.known.config.max_queues
        order = sorted(pairs, key=lambda pair: _rank(pair, pairs[pair]))
        read = sum(group is not None for _, group in pairs)
        self._limit("queues", read > limit, f"the first {limit} queues are shown")
        unread = f"{len(pairs) - limit} topics that no group reads are not looked at"
        self._limit("topics", read <= limit < len(pairs), unread)
        wanted = set(order[:limit])
        for queue in list(self.known.queues.values()):
            if (queue.topic, queue.group) not in wanted:
                self.known.drop(queue)
        known = {(queue.topic, queue.group) for queue in self.known.queues.values()}
        for name, group in order[:limit]:
            if (name, group) not in known:
                self.known.add(TopicQueue(name, group, pairs[name, group]))


def _rank(pair: tuple[str, str | None], config: QueueConfig) -> tuple[bool, bool, str, str]:
    """Queues with groups first, then topics that are named."""
    topic, group = pair
    return group is None, group is None and config.is_pattern, topic, group or ""
