"""One source's watch: rounds of reading commits, then ends, then publishing what changed.

Committed offsets are read before the ends of the logs: the other way round a group that commits in
between would seem to be further than it is, even past the end. What is waited for in a round is
bounded; a broker that does not answer holds up its own partitions and groups alone.
"""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import msgspec

from collectors.kafka import request as ask
from collectors.kafka.config import MAX_SHOWN, KafkaConfig, QueueConfig, matches
from collectors.kafka.connection import Broker, Brokers, access
from collectors.kafka.jobs import Jobs
from collectors.kafka.lane import Log
from collectors.kafka.queue import TopicQueue
from collectors.kafka.records import Scan, scan
from collectors.kafka.request import Commits, Fetched, GroupInfo, Metadata
from collectors.kafka.state import NO_COMMIT, Group, Refusal, Topic
from collectors.kafka.task import parse_tasks
from collectors.kafka.wire import Answer, Request, UnsupportedError
from telemetron.backoff import Backoff
from telemetron.collector import Output, Put
from telemetron.document import PendingTask, Queue
from telemetron.poll import TroubleError

PATIENCE = 0.25
"""Seconds that a round waits for answers; what comes later counts in a later one."""
REFRESH_SECONDS = 1.0
"""Between two looks at topics and members."""
DISCOVER_SECONDS = 3.0
DISCOVER_INTERVALS = 20
"""Between two looks for new topics and groups; sooner where the interval is short."""
SLICE_SECONDS = 0.004
"""How long the event loop is kept at a time."""
MAX_PARTITIONS = 500
"""In one fetch."""
FETCH_BYTES = 1 << 20
PARTITION_BYTES = 1 << 17
BYTES_PER_SECOND = 8 << 20
IN_THREAD_FROM = 1 << 15
RETRY_SECONDS = 0.5
UNREAD_SECONDS = 30.0
"""Until a partition whose records could not be read is tried again."""
MISSES = 2
MAX_GROUPS = 10_000

CLUSTER = ""
COORDINATOR_TOPIC = "__consumer_offsets"
GONE = ("Unreachable", "the partition has no leader")

log = logging.getLogger(__name__)


class Ends(NamedTuple):
    """What one leader is asked in every round."""

    partitions: dict[str, list[int]]
    latest: Request
    earliest: Request


class Watch:
    """Everything that is known of one cluster, and how it is kept true."""

    def __init__(self, config: KafkaConfig, output: Output, hold_seconds: float) -> None:
        self._config = config
        self._output = output
        self._clock = output.clock
        self._hold = hold_seconds
        self._brokers: Brokers | None = None
        self._jobs = Jobs()
        self._topics = {
            entry.topic: Topic(entry.topic) for entry in config.entries if not entry.is_pattern
        }
        self._groups: dict[str, Group] = {}
        self._queues: dict[str, TopicQueue] = {}
        self._parts: dict[str, Queue] = {}
        """What was put last."""
        self._touched: set[TopicQueue] = set()
        self._hungry: set[TopicQueue] = set()
        self._beyond: set[TopicQueue] = set()
        """Those whose group stands beyond the stable end of a log."""
        self._listed: dict[int, set[str]] = {}
        self._ends: dict[int, Ends] = {}
        self._raw: dict[object, bytes] = {}
        self._read_at: dict[int, float] = {}
        """When each leader last told the ends of its logs."""
        self._troubles: dict[str, TroubleError] = {}
        self._late: set[int] = set()
        self._shown = MAX_SHOWN
        self._scopes: list[str] = []
        self._due = dict.fromkeys(("topics", "groups", "members"), 0.0)
        self._is_discovered = False
        self._is_complete = False
        self._planned = False
        self._limited = False
        self._topic_names: list[str] = []

    @property
    def brokers(self) -> Brokers:
        assert self._brokers is not None, "the watch has begun"  # noqa: S101
        return self._brokers

    async def run(self) -> None:
        """Until cancelled."""
        await self._begin()
        try:
            while True:
                await self._round()
                await self._clock.sleep(self._config.interval)
        finally:
            await self._jobs.close()
            await self.brokers.close()

    async def _begin(self) -> None:
        backoff = Backoff()
        while self._brokers is None:
            try:
                made = await access(self._config)
            except TroubleError as trouble:
                self._tell(CLUSTER, trouble)
                await self._clock.sleep(backoff.next())
            else:
                self._brokers = Brokers(self._config.bootstrap_servers, made, self._clock)

    # A round

    async def _round(self) -> None:
        if self._is_due("topics", REFRESH_SECONDS):
            self._jobs.start("topics", self._read_topics)
            await self._jobs.settle(PATIENCE)
        discover = min(DISCOVER_SECONDS, DISCOVER_INTERVALS * self._config.interval)
        if self.brokers.known and self._is_due("groups", discover):
            self._jobs.start("groups", self._discover)
        if self._is_discovered and self._is_due("members", REFRESH_SECONDS):
            self._jobs.start("members", self._read_members)
            self._share_out()
        await self._jobs.settle(PATIENCE)
        if not self._is_discovered:
            return
        self._plan()
        for node, groups in self._by_coordinator().items():
            self._jobs.start(("commits", node), partial(self._read_commits, node, groups))
        await self._jobs.settle(PATIENCE)
        for node, ends in self._ends.items():
            self._jobs.start(("ends", node), partial(self._read_ends, node, ends))
        await self._jobs.settle(PATIENCE)
        if not self._due["topics"]:  # the log of a topic shrank: is it still the same?
            self._jobs.start("topics", self._read_topics)
            await self._jobs.settle(PATIENCE)
        self._touch_late()
        await self._publish()
        self._feed()

    def _is_due(self, what: str, seconds: float) -> bool:
        now = self._clock.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + seconds
        return True

    def _tell(self, scope: str, trouble: TroubleError) -> None:
        """Trouble with a scope; logged once, until it is over or another one."""
        told = self._troubles.get(scope)
        if told is None or told.reason != trouble.reason:
            what = f"{self._output.source} ({scope})" if scope else self._output.source
            log.warning("source %s: %s: %s", what, trouble.reason, trouble.message)
        self._troubles[scope] = trouble
        self._output.trouble(scope, trouble.reason, trouble.message)

    def _well(self, scope: str) -> None:
        self._troubles.pop(scope, None)
        self._output.confirm(scope)

    # Topics

    async def _read_topics(self) -> None:
        try:
            answer = await self.brokers.any(ask.metadata(sorted(self._topics)))
            metadata = ask.parse_metadata(answer)
        except (TroubleError, ValueError, UnsupportedError) as error:
            self._tell(CLUSTER, _trouble(error))
            return
        await self._take_brokers(metadata)
        now = self._clock.monotonic()
        for name, info in metadata.topics.items():
            if name in self._topics:
                self._take_topic(self._topics[name], info, now)
        self._troubles.pop(CLUSTER, None)
        if self._is_complete:
            self._confirm_cluster()
        self._confirm_topics()

    async def _take_brokers(self, metadata: Metadata) -> None:
        for broker in self.brokers.update(metadata.brokers):
            await broker.close()
            self._planned = False
        for node in self._listed.keys() - metadata.brokers.keys():
            del self._listed[node]

    def _take_topic(self, topic: Topic, info: ask.TopicInfo, now: float) -> None:
        if info.error == ask.UNKNOWN_TOPIC:
            topic.missed += 1
            if topic.missed == MISSES:
                self._bury(topic)
            elif topic.missed < MISSES:
                self._due["topics"] = now
        elif info.error == ask.TOPIC_DENIED:
            topic.refusal = ("Forbidden", "no permission to describe the topic")
            topic.leaders = ()
            self._touched.update(topic.queues)
            topic.missed = 0
        elif info.error == ask.NONE:
            if topic.leaders != info.leaders or topic.refusal:
                self._planned = False
                self._touched.update(topic.queues)
            groups = [group for group in self._groups.values() if topic.name in group.commits]
            if topic.id and info.id and topic.id != info.id:
                for group in groups:
                    group.disown(topic)
            if topic.update(info, now):
                self._planned = False
                self._raw.clear()
                self._touched.update(topic.queues)
            topic.seen_at = now

    def _bury(self, topic: Topic) -> None:
        """The topic is deleted: so are its queues."""
        for group in self._groups.values():
            group.disown(topic)
        topic.forget()
        topic.id = ""
        topic.leaders = ()
        for queue in list(topic.queues):
            self._drop(queue)
        self._planned = False

    def _confirm_cluster(self) -> None:
        if self._limited:
            limit = self._config.max_queues
            self._output.confirm(
                CLUSTER, reason="LimitReached", message=f"the first {limit} queues are shown"
            )
        else:
            self._output.confirm(CLUSTER)

    def _confirm_topics(self) -> None:
        """Those that the configuration names: known for certain to be there, or not."""
        for entry in self._config.entries:
            if entry.is_pattern:
                continue
            topic = self._topics[entry.topic]
            scope = f"topic {topic.name}"
            if topic.missed >= MISSES:
                self._output.confirm(scope, reason="NotFound", message="there is no such topic")
            elif topic.refusal:
                reason, message = topic.refusal
                self._output.confirm(scope, reason=reason, message=message)
            elif topic.leaders:
                self._output.confirm(scope)

    # Which queues there are

    async def _discover(self) -> None:
        """Find the groups, what they have committed on, and so the queues."""
        try:
            if any(entry.is_pattern for entry in self._config.entries):
                await self._find_topics()
        except (TroubleError, ValueError, UnsupportedError) as error:
            self._tell(CLUSTER, _trouble(error))
            return
        await asyncio.gather(*(self._list_groups(n, b) for n, b in self.brokers.known.items()))
        for name in {name for entry in self._config.entries for name in entry.named_groups}:
            self._groups.setdefault(name, Group(name))
        unlocated = [group for group in self._groups.values() if group.node is None]
        await self._locate(unlocated)
        seeking = [entry for entry in self._config.entries if entry.seeks_groups]
        await asyncio.gather(
            *(
                self._find_commits(group)
                for group in self._groups.values()
                if any(entry.has_group(group.name) for entry in seeking)
            )
        )
        self._take_pairs(self._pairs())
        await self._read_members()
        self._is_discovered = True

    async def _find_topics(self) -> None:
        answer = await self.brokers.any(ask.metadata(None))
        if self._raw.get("all") == answer.data:
            return
        metadata = ask.parse_metadata(answer)
        self._raw["all"] = answer.data
        patterns = [entry.topic for entry in self._config.entries if entry.is_pattern]
        self._topic_names = [
            name
            for name, info in metadata.topics.items()
            if info.error == ask.NONE
            and not name.startswith("__")  # Kafka's own
            and any(matches(pattern, name) for pattern in patterns)
        ]

    async def _list_groups(self, node: int, broker: Broker) -> None:
        try:
            listings = ask.parse_groups(await broker.control.call(ask.list_groups()))
        except (TroubleError, ValueError, UnsupportedError):
            return  # what it listed before still counts; its scope says what is wrong
        for name, kind in listings[:MAX_GROUPS]:
            group = self._groups.get(name)
            if group is None:
                if len(self._groups) >= MAX_GROUPS:
                    continue
                group = self._groups[name] = Group(name)
            if (group.node, group.type) != (node, kind):
                group.node, group.type, group.is_absent = node, kind, False
                group.refusal = group.request = None
        self._listed[node] = {listing.name for listing in listings}
        self._forget_groups()

    def _forget_groups(self) -> None:
        listed = set().union(*self._listed.values())
        named = {name for entry in self._config.entries for name in entry.named_groups}
        for name in self._groups.keys() - listed - named:
            if self._groups[name].node in self._listed:
                for queue in list(self._groups[name].queues):
                    self._drop(queue)
                del self._groups[name]

    async def _locate(self, groups: list[Group]) -> None:
        """Find the coordinators of groups that no broker lists: not there, or not permitted."""
        if not groups:
            return
        if not any(self._listed.values()) and not await self._has_coordinators():
            for group in groups:
                group.is_absent = True
                group.info = GroupInfo(ask.NONE, "Dead", ())
                group.commits.clear()
                group.read_at = self._clock.monotonic()
            return
        await asyncio.gather(*map(self._find_coordinator, groups))

    async def _has_coordinators(self) -> bool:
        """To ask for a coordinator creates the topic that keeps the offsets: not by us."""
        try:
            answer = await self.brokers.any(ask.metadata([COORDINATOR_TOPIC]))
            topics = ask.parse_metadata(answer).topics
        except (TroubleError, ValueError, UnsupportedError):
            return False
        found = topics.get(COORDINATOR_TOPIC)
        return found is not None and found.error != ask.UNKNOWN_TOPIC

    async def _find_coordinator(self, group: Group) -> None:
        try:
            answer = await self.brokers.any(ask.find_coordinator(group.name))
            error, node = ask.parse_coordinator(answer)
        except (TroubleError, ValueError, UnsupportedError) as failed:
            group.refusal = _refusal(failed)
            return
        if error == ask.NONE:
            group.node, group.is_absent, group.refusal = node, False, None
        elif error == ask.GROUP_DENIED:
            group.refusal = ("Forbidden", "no permission to describe the group")
        else:
            group.refusal = ("Unreachable", "the group has no coordinator")
        self._touched.update(group.queues)

    async def _find_commits(self, group: Group) -> None:
        """Which topics it has committed on."""
        try:
            commits = await self._ask_commits(group, _all_offsets(group))
        except (TroubleError, ValueError, UnsupportedError):
            return  # what is known stays
        if commits and commits.error == ask.NONE:
            group.committed = {
                topic
                for topic, offsets in commits.topics.items()
                if any(commit.offset >= 0 for commit in offsets.values())
            }

    async def _ask_commits(self, group: Group, request: Request) -> Commits | None:
        broker = self.brokers.known.get(-1 if group.node is None else group.node)
        if broker is None:
            return None
        return _parse_commits(group, await broker.control.call(request))

    def _pairs(self) -> dict[tuple[str, str | None], QueueConfig]:
        """Topic and group of every queue that is to be shown."""
        pairs: dict[tuple[str, str | None], QueueConfig] = {}
        for entry in self._config.entries:
            for topic in self._matching(entry):
                for group in entry.named_groups:
                    pairs[topic, group] = self._entry(topic, group) or entry
        known = {topic for entry in self._config.entries for topic in self._matching(entry)}
        for group_state in self._groups.values():
            for topic in group_state.committed & known:
                found = self._entry(topic, group_state.name)
                if found and found.seeks_groups:
                    pairs[topic, group_state.name] = found
        for entry in self._config.entries:  # a topic that is named is shown, consumed or not
            if not entry.is_pattern and not any(topic == entry.topic for topic, _ in pairs):
                pairs.update({(topic, None): entry for topic in self._matching(entry)})
        return pairs

    def _matching(self, entry: QueueConfig) -> list[str]:
        if entry.is_pattern:
            return [name for name in self._topic_names if matches(entry.topic, name)]
        topic = self._topics[entry.topic]
        return [entry.topic] if topic.leaders or topic.refusal else []

    def _entry(self, topic: str, group: str) -> QueueConfig | None:
        """The first that fits."""
        for entry in self._config.entries:
            if entry.has_topic(topic) and entry.has_group(group):
                return entry
        return None

    def _take_pairs(self, pairs: dict[tuple[str, str | None], QueueConfig]) -> None:
        order = sorted(pairs, key=lambda pair: (pair[0], pair[1] or ""))
        self._limited = len(order) > self._config.max_queues
        wanted = set(order[: self._config.max_queues])
        for queue in list(self._queues.values()):
            if (queue.topic, queue.group) not in wanted:
                self._drop(queue)
        known = {(queue.topic, queue.group) for queue in self._queues.values()}
        for name, group in order[: self._config.max_queues]:
            if (name, group) not in known:
                self._add(TopicQueue(name, group, pairs[name, group]))

    def _add(self, queue: TopicQueue) -> None:
        self._queues[queue.id] = queue
        topic = self._topics.get(queue.topic)
        if topic is None:
            topic = self._topics[queue.topic] = Topic(queue.topic)
            self._due["topics"] = 0.0
        topic.queues.append(queue)
        if queue.group is not None:
            group = self._groups[queue.group]
            group.queues.append(queue)
            group.request = None
        self._touched.add(queue)
        self._planned = False

    def _drop(self, queue: TopicQueue) -> None:
        del self._queues[queue.id]
        self._parts.pop(queue.id, None)
        for known in (self._touched, self._hungry, self._beyond):
            known.discard(queue)
        topic = self._topics[queue.topic]
        topic.queues.remove(queue)
        if not topic.queues and not any(
            entry.topic == topic.name for entry in self._config.entries
        ):
            del self._topics[topic.name]
        if queue.group in self._groups:
            self._groups[queue.group].queues.remove(queue)
            self._groups[queue.group].request = None
        self._output.remove("queues", queue.id)
        self._planned = False

    # Whom to ask what

    def _plan(self) -> None:
        if self._planned:
            return
        self._planned = True
        asked: dict[int, dict[str, list[int]]] = {}
        for topic in self._topics.values():
            if topic.queues:
                for number, leader in enumerate(topic.leaders):
                    asked.setdefault(leader, {}).setdefault(topic.name, []).append(number)
        self._ends = {
            node: Ends(
                partitions,
                ask.list_offsets(partitions, ask.LATEST),
                ask.list_offsets(partitions, ask.EARLIEST),
            )
            for node, partitions in asked.items()
            if node in self.brokers.known
        }
        for group in self._groups.values():
            group.request, group.raw = None, b""
        self._raw.clear()
        self._touched.update(self._queues.values())

    def _expect(self, nodes: Iterable[int]) -> None:
        topics = [f"topic {entry.topic}" for entry in self._config.entries if not entry.is_pattern]
        scopes = sorted({CLUSTER, *topics, *(f"broker {node}" for node in nodes)})
        if scopes != self._scopes:
            self._scopes = scopes
            self._output.expect(scopes)

    def _by_coordinator(self) -> dict[int, list[Group]]:
        groups: dict[int, list[Group]] = {}
        for group in self._groups.values():
            if group.queues and group.node is not None:
                groups.setdefault(group.node, []).append(group)
        self._expect((groups.keys() | self._ends.keys()) & self.brokers.known.keys())
        return groups

    # Commits

    async def _read_commits(self, node: int, groups: list[Group]) -> None:
        broker = self.brokers.known.get(node)
        if broker is None:
            for group in groups:
                group.node = None
            self._due["groups"] = 0.0
            return
        await asyncio.gather(*(self._read_group(node, broker, group) for group in groups))

    async def _read_group(self, node: int, broker: Broker, group: Group) -> None:
        if group.request is None:
            partitions = {
                queue.topic: range(len(self._topics[queue.topic].leaders)) for queue in group.queues
            }
            group.request = _offsets(group, partitions)
            group.raw = b""
        try:
            answer = await broker.control.call(group.request)
            if answer.data[4:] == group.raw:
                group.read_at = self._clock.monotonic()
                return
            commits = _parse_commits(group, answer)
        except TroubleError as trouble:
            self._tell(f"broker {node}", trouble)
        except (ValueError, UnsupportedError) as error:
            self._refuse(group, _refusal(error))
        else:
            self._take_commits(group, commits, answer)

    def _take_commits(self, group: Group, commits: Commits, answer: Answer) -> None:
        if commits.error in ask.COORDINATOR_ERRORS:
            group.node = None
            self._due["groups"] = 0.0
        elif commits.error == ask.GROUP_DENIED:
            self._refuse(group, ("Forbidden", "no permission to describe the group"))
        elif commits.error != ask.NONE:
            self._refuse(group, ("BadAnswer", f"the group's offsets: error {commits.error}"))
        else:
            now = self._clock.monotonic()
            first = group.read_at is None or group.refusal is not None
            group.raw, group.read_at, group.refusal = answer.data[4:], now, None
            changed = set(group.update(commits, now))
            for queue in group.queues:
                if first or queue.topic in changed:
                    self._topics[queue.topic].highs.clear()
                    self._touched.add(queue)

    def _refuse(self, group: Group, refusal: Refusal) -> None:
        if group.refusal != refusal:
            group.refusal = refusal
            self._touched.update(group.queues)
        group.read_at = self._clock.monotonic()

    # Ends

    async def _read_ends(self, node: int, ends: Ends) -> None:
        scope = f"broker {node}"
        try:
            control = self.brokers.known[node].control
            latest, earliest = await asyncio.gather(
                control.call(ends.latest), control.call(ends.earliest)
            )
            if ends is not self._ends.get(node):
                return  # planned anew meanwhile
            self._take_ends(("latest", node), latest)
            self._take_ends(("earliest", node), earliest)
            await self._read_highs(node)
        except (TroubleError, ValueError, UnsupportedError) as error:
            self._tell(scope, _trouble(error))
        except KeyError:
            self._planned = False  # the broker is gone
        else:
            self._read_at[node] = self._clock.monotonic()
            self._well(scope)

    def _take_ends(self, which: tuple[str, int], answer: Answer) -> None:
        if self._raw.get(which) == answer.data[4:]:
            return
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for name, offsets in ask.parse_offsets(answer).items():
            topic = self._topics.get(name)
            if topic is None:
                continue
            known = topic.ends if which[0] == "latest" else topic.starts
            for number, offset in offsets.items():
                before = known.get(number)
                if before == offset:
                    continue
                self._touched.update(topic.queues)
                if offset.error not in (ask.NONE, ask.TOPIC_DENIED):
                    topic.bad_since.setdefault(number, monotonic)
                    self._due["topics"] = min(self._due["topics"], monotonic)
                    continue
                if before and before.error == ask.NONE and offset.error == ask.NONE:
                    if offset.offset < before.offset:
                        self._due["topics"] = 0.0
                        topic.shrink(number)
                    elif which[0] == "latest":
                        topic.produced_at = now
                known[number] = offset
                if topic.is_read(number):
                    topic.bad_since.pop(number, None)
        self._raw[which] = answer.data[4:]

    async def _read_highs(self, node: int) -> None:
        """Where a group stands beyond the stable end: is it behind a transaction, or astray?"""
        beyond: dict[str, set[int]] = {}
        for queue in self._touched | self._beyond:
            topic = self._topics[queue.topic]
            ahead = self._ahead(queue, topic)
            (self._beyond.add if ahead else self._beyond.discard)(queue)
            here = {number for number in ahead if topic.leaders[number] == node}
            if here:
                beyond.setdefault(topic.name, set()).update(here)
        if not beyond:
            return
        request = ask.list_offsets(beyond, ask.LATEST, ask.UNCOMMITTED)
        answer = await self.brokers.known[node].control.call(request)
        for name, offsets in ask.parse_offsets(answer).items():
            for number, offset in offsets.items():
                topic = self._topics[name]
                if offset.error == ask.NONE and topic.highs.get(number) != offset.offset:
                    topic.highs[number] = offset.offset
                    self._touched.update(topic.queues)

    def _ahead(self, queue: TopicQueue, topic: Topic) -> list[int]:
        group = self._groups.get(queue.group or "")
        if group is None:
            return []
        commits = group.commits.get(topic.name, {})
        return [
            number
            for number, commit in commits.items()
            if number < len(topic.leaders)
            and topic.is_read(number)
            and commit.offset > topic.ends[number].offset
        ]

    # Members

    async def _read_members(self) -> None:
        asked: dict[tuple[int, str], list[Group]] = {}
        for group in self._groups.values():
            if group.queues and group.node is not None:
                asked.setdefault((group.node, group.type), []).append(group)
        await asyncio.gather(*(self._describe(*key, groups) for key, groups in asked.items()))

    async def _describe(self, node: int, kind: str, groups: list[Group]) -> None:
        broker = self.brokers.known.get(node)
        if broker is None:
            return
        names = sorted(group.name for group in groups)
        try:
            answer = await broker.control.call(ask.describe_groups(kind, names))
            if self._raw.get((node, kind)) == answer.data[4:]:
                return
            described = ask.parse_described(kind, answer)
        except (TroubleError, ValueError, UnsupportedError):
            return  # the broker's scope says what is wrong
        self._raw[node, kind] = answer.data[4:]
        for group in groups:
            info = described.get(group.name)
            if info is not None and info.error == ask.NONE and info != group.info:
                group.info = info
                self._touched.update(group.queues)

    # Publishing

    def _touch_late(self) -> None:
        """Whoever depends on a broker that just began or ceased to be silent for long."""
        now = self._clock.monotonic()
        late = {node for node in self._ends if now - self._read_at.get(node, now) > self._hold}
        for group in self._groups.values():
            if group.queues and now - (group.read_at or now) > self._hold:
                self._touched.update(group.queues)
        if late != self._late:
            self._late = late
            self._touched.update(self._queues.values())
        for topic in self._topics.values():
            if topic.bad_since or -1 in topic.leaders:
                self._touched.update(topic.queues)

    async def _publish(self) -> None:
        """Put every queue that something has changed of."""
        begun = self._clock.monotonic()
        while self._touched:
            self._put(self._touched.pop())
            if self._clock.monotonic() - begun > SLICE_SECONDS:
                await asyncio.sleep(0)
                begun = self._clock.monotonic()
        if not self._is_complete:
            # An earlier run may have left queues that nobody watches any more.
            self._is_complete = True
            await self._output.replace(
                [Put("queues", id, id, part) for id, part in self._parts.items()], scope=CLUSTER
            )

    def _put(self, queue: TopicQueue) -> None:
        self._place(queue)
        part = queue.build(self._clock.now(), min(queue.config.max_tasks, self._shown))
        before = self._parts.get(queue.id)
        if before and msgspec.structs.replace(part, measured_at=before.measured_at) == before:
            return
        self._parts[queue.id] = part
        self._output.put("queues", queue.id, queue.id, part)

    def _place(self, queue: TopicQueue) -> None:
        """Take into the queue what is known of its topic and its group."""
        topic = self._topics[queue.topic]
        group = self._groups.get(queue.group) if queue.group is not None else None
        queue.resize(len(topic.leaders))
        queue.produced_at = topic.produced_at
        queue.refusal = topic.refusal or (group.refusal if group else None)
        if group is None:
            return
        queue.info, queue.is_share = group.info, group.type == "share"
        for number, lane in enumerate(queue.lanes):
            trouble, is_known = self._trouble(topic, group, number)
            if trouble:
                queue.troubles[number] = trouble
                continue
            if not is_known:
                continue  # the last known stands for a while
            queue.troubles.pop(number, None)
            commit, foreign = group.commit(topic.name, number)
            start, end = topic.starts[number].offset, topic.ends[number].offset
            found = Log(start, end, topic.highs.get(number))
            policy = queue.config.on_no_commit
            lane.place(commit, found, policy, self._clock.now(), foreign=foreign)
        if any(window.wants(end, self._wanted(queue)) for _, window, end in queue.windows()):
            self._hungry.add(queue)

    def _trouble(self, topic: Topic, group: Group, number: int) -> tuple[Refusal | None, bool]:
        """Why a partition is not known, and whether what was read of it last is good."""
        now = self._clock.monotonic()
        commit = group.commits.get(topic.name, {}).get(number, NO_COMMIT)
        if topic.is_denied(number) or commit.error == ask.TOPIC_DENIED:
            return ("Forbidden", "no permission to describe the topic"), False
        leader = topic.leaders[number]
        trouble = self._silence(leader, self._read_at.get(leader), number in topic.ends, now)
        if trouble is None and leader < 0:
            topic.bad_since.setdefault(number, now)
            trouble = GONE if now - topic.bad_since[number] > self._hold else None
        if trouble is None and group.node is not None:
            trouble = self._silence(group.node, group.read_at, group.read_at is not None, now)
        if trouble is None and number in topic.bad_since:
            late = now - topic.bad_since[number] > self._hold
            trouble = ("Unreachable", "its leader does not serve it") if late else None
        is_known = (
            leader >= 0
            and topic.is_read(number)
            and number not in topic.bad_since
            and group.read_at is not None
        )
        return trouble, is_known

    def _silence(
        self, node: int, read_at: float | None, is_known: bool, now: float
    ) -> Refusal | None:
        """The broker's trouble, where what it told last is too old, or is nothing."""
        told = self._troubles.get(f"broker {node}")
        if told is None or (is_known and read_at is not None and now - read_at <= self._hold):
            return None
        return told.reason, f"broker {node}: {told.message}"

    def _share_out(self) -> None:
        """How many tasks of each queue are shown, so that it is not too many of all."""
        waiting = [q for q in self._queues.values() if q.shows_tasks and any(q.windows())]
        asked = sum(queue.config.max_tasks for queue in waiting)
        shown = MAX_SHOWN if asked <= MAX_SHOWN else max(1, MAX_SHOWN // len(waiting))
        if shown != self._shown:
            self._shown = shown
            self._touched.update(waiting)

    def _wanted(self, queue: TopicQueue) -> int:
        return min(queue.config.max_tasks, self._shown)

    # Records

    def _feed(self) -> None:
        """Read the tasks that are missing, leader by leader, beside the rounds."""
        nodes = {
            self._topics[queue.topic].leaders[number]
            for queue in self._hungry
            for number, _, _ in queue.windows()
        }
        for node in nodes & self.brokers.known.keys():
            self._jobs.start(("records", node), partial(self._read_records, node), wait=False)

    async def _read_records(self, node: int) -> None:
        """Until nothing is missing of this leader, or it is in trouble."""
        while offsets := self._missing(node):
            broker = self.brokers.known.get(node)
            if broker is None:
                return
            request = ask.fetch(offsets, FETCH_BYTES, PARTITION_BYTES)
            try:
                answer = await broker.data.call(request)
                error, topics = ask.parse_fetched(answer)
            except (TroubleError, ValueError, UnsupportedError) as failed:
                self._set_unread(offsets, _refusal(failed), 1.0)
                return
            if error != ask.NONE:
                return
            for name, partitions in topics.items():
                for number, fetched in partitions.items():
                    await self._take_records(name, number, offsets[name][number], fetched)
            await self._publish()
            await self._clock.sleep(len(answer.data) / BYTES_PER_SECOND)

    def _missing(self, node: int) -> dict[str, dict[int, int]]:
        """The offsets to read from, by topic and partition: the least that a group misses."""
        now = self._clock.monotonic()
        offsets: dict[str, dict[int, int]] = {}
        count = 0
        for queue in list(self._hungry):
            topic = self._topics[queue.topic]
            is_hungry = False
            for number, window, end in queue.windows():
                if not window.wants(end, self._wanted(queue)):
                    continue
                is_hungry = True
                if topic.leaders[number] != node or topic.unread_until.get(number, 0.0) > now:
                    continue
                if count < MAX_PARTITIONS:
                    here = offsets.setdefault(topic.name, {})
                    count += number not in here
                    here[number] = min(here.get(number, window.next), window.next)
            if not is_hungry:
                self._hungry.discard(queue)
        return offsets

    async def _take_records(self, name: str, number: int, offset: int, fetched: Fetched) -> None:
        topic = self._topics.get(name)
        if topic is None:
            return
        if fetched.error == ask.TOPIC_DENIED:
            refusal = ("Forbidden", "no permission to read the topic")
            self._set_unread({name: {number: offset}}, refusal, UNREAD_SECONDS)
            return
        if fetched.error != ask.NONE:  # what its leader says of its end tells why
            topic.unread_until[number] = self._clock.monotonic() + RETRY_SECONDS
            return
        limit = 2 * max((self._wanted(queue) for queue in topic.queues), default=1)
        if len(fetched.records) < IN_THREAD_FROM:
            found = scan(fetched, offset, limit)
        else:
            found = await asyncio.to_thread(scan, fetched, offset, limit)
        if found.trouble:
            self._set_unread({name: {number: offset}}, ("BadAnswer", found.trouble), UNREAD_SECONDS)
        elif found.next == offset:
            topic.unread_until[number] = self._clock.monotonic() + RETRY_SECONDS
        else:
            self._set_read(topic, number)
            await self._hand_out(topic, number, offset, found)

    async def _hand_out(self, topic: Topic, number: int, offset: int, found: Scan) -> None:
        """To every group that stands where it was read, each as its queue wants it."""
        parsed: dict[int, list[PendingTask]] = {}
        size = sum(len(record.value or b"") for record in found.records)
        for queue in list(topic.queues):
            if not queue.shows_tasks or number >= len(queue.lanes):
                continue
            window = queue.lanes[number].window
            if window is None or not offset <= window.next < found.next:
                continue
            if id(queue.config) not in parsed:
                arguments = (found.records, topic.name, number, queue.config, self._clock.now())
                parsed[id(queue.config)] = (
                    await asyncio.to_thread(parse_tasks, *arguments)
                    if size >= IN_THREAD_FROM
                    else parse_tasks(*arguments)
                )
            window.take(parsed[id(queue.config)], found.next, found.whole, self._wanted(queue))
            self._touched.add(queue)

    def _set_unread(
        self, offsets: dict[str, dict[int, int]], refusal: Refusal, seconds: float
    ) -> None:
        until = self._clock.monotonic() + seconds
        for name, numbers in offsets.items():
            topic = self._topics.get(name)
            for number in numbers if topic else ():
                assert topic is not None  # noqa: S101
                topic.unread_until[number] = until
                for queue in topic.queues:
                    if queue.shows_tasks and queue.unread.get(number) != refusal:
                        queue.unread[number] = refusal
                        self._touched.add(queue)

    def _set_read(self, topic: Topic, number: int) -> None:
        topic.unread_until.pop(number, None)
        for queue in topic.queues:
            if queue.unread.pop(number, None):
                self._touched.add(queue)


def _trouble(error: Exception) -> TroubleError:
    if isinstance(error, TroubleError):
        return error
    if isinstance(error, UnsupportedError):
        return TroubleError("BadAnswer", "the brokers are too old: Kafka 2.3 is the oldest")
    return TroubleError("BadAnswer", "an answer is not as Kafka's protocol has it")


def _refusal(error: Exception) -> Refusal:
    trouble = _trouble(error)
    return trouble.reason, trouble.message


def _offsets(group: Group, partitions: ask.Partitions) -> Request:
    make = ask.share_offsets if group.type == "share" else ask.fetch_offsets
    return make(group.name, partitions)


def _all_offsets(group: Group) -> Request:
    make = ask.share_offsets if group.type == "share" else ask.fetch_offsets
    return make(group.name, None)


def _parse_commits(group: Group, answer: Answer) -> Commits:
    parse = ask.parse_share_offsets if group.type == "share" else ask.parse_commits
    return parse(answer)
