"""Reads the groups' commits and the ends of logs, from the brokers that know them."""

import asyncio
from collections.abc import Iterable

from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import Broker
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.group import ConsumerGroup, offsets_request, parse_commits
from telemetron_collectors.kafka.protocol import messages
from telemetron_collectors.kafka.protocol.messages import Commits, Offset
from telemetron_collectors.kafka.protocol.wire import Request, ResponseBody, UnsupportedError
from telemetron_collectors.kafka.queue import KafkaQueue, Refusal
from telemetron_collectors.kafka.scopes import refusal_of
from telemetron_collectors.kafka.topic import UNREAD, CommitsByTopic, LeaderQuery, Topic
from telemetron_collectors.kafka.transactions import Transactions


class Offsets:
    """Reads commits from coordinators, and ends of logs from leaders."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster
        self._schedule = cluster.schedule
        self._clock = cluster.clock
        self._topics = cluster.topics
        self._groups = cluster.groups
        self._brokers = cluster.brokers
        self._scopes = cluster.scopes
        self._hold_seconds = cluster.hold_seconds
        self._queries: dict[int, LeaderQuery] = {}
        """By leader."""
        self._layout = -1
        """The cluster's layout that the queries were planned for."""
        self._read_at: dict[int, float] = {}
        """When each leader last returned the ends of its logs."""
        self._ahead: set[KafkaQueue] = set()
        """Queues whose group has committed beyond the last stable offset of a partition."""
        self._late: set[KafkaQueue] = set()
        self._transactions = Transactions(cluster)

    def plan(self) -> None:
        """Decide what to ask each leader, if the cluster's layout has changed."""
        if self._layout == self._cluster.layout:
            return
        self._layout = self._cluster.layout
        asked: dict[int, dict[str, list[int]]] = {}
        for topic in self._topics.values():
            if topic.queues:
                for number, leader in enumerate(topic.leaders):
                    asked.setdefault(leader, {}).setdefault(topic.name, []).append(number)
        known = self._brokers.known
        self._queries = {node: LeaderQuery(asked[node]) for node in asked if node in known}
        for group in self._groups.values():
            group.request, group.raw = None, b""
        self._cluster.mark_all_changed()

    def by_coordinator(self) -> dict[int, list[ConsumerGroup]]:
        """Return the groups whose commits to read, by their coordinator."""
        groups: dict[int, list[ConsumerGroup]] = {}
        for group in self._groups.values():
            if group.queues and group.node is not None:
                groups.setdefault(group.node, []).append(group)
        self._scopes.send_only_to(groups, "commits")
        return groups

    def by_leader(self) -> dict[int, LeaderQuery]:
        """Return the queries for the ends of logs, by leader."""
        self._scopes.send_only_to(self._queries, "ends")
        return self._queries

    async def read_commits(self, node: int, groups: list[ConsumerGroup]) -> None:
        """Read the commits of the groups of one coordinator."""
        broker = self._brokers.get(node)
        if broker is None:
            for group in groups:
                self._lose(group, "the metadata does not name the group's coordinator")
            return
        read = await asyncio.gather(*(self._read_group(node, broker, group) for group in groups))
        if all(read):
            self._scopes.succeed(node, "commits")

    async def _read_group(self, node: int, broker: Broker, group: ConsumerGroup) -> bool:
        """Return whether the coordinator answered."""
        request = group.request or self._build_request(group)
        topics = group.topics
        try:
            response = await broker.control.call(request)
            if response.content == group.raw:
                group.read_at = self._clock.monotonic()
                return True
            commits = parse_commits(group, response)
        except TroubleError as trouble:
            self._scopes.fail(node, "commits", trouble)
            return False
        except (ValueError, UnsupportedError) as error:
            self._refuse(group, refusal_of(error))
        else:
            self._apply_commits(group, topics, commits, response)
        return True

    def _build_request(self, group: ConsumerGroup) -> Request:
        topics = self._topics
        partitions = {q.topic: range(len(topics[q.topic].leaders)) for q in group.queues}
        group.request = offsets_request(group, partitions)
        group.topics = tuple(partitions)
        group.raw = b""
        return group.request

    def _apply_commits(
        self, group: ConsumerGroup, topics: Iterable[str], commits: Commits, response: ResponseBody
    ) -> None:
        if commits.error in messages.COORDINATOR_ERRORS:
            self._lose(group, "the group's coordinator does not serve the group")
        elif commits.error == messages.GROUP_DENIED:
            self._refuse(group, ("Forbidden", "no permission to describe the group"))
        elif commits.error != messages.NONE:
            message = f"cannot read the group's offsets: error {commits.error}"
            self._refuse(group, ("BadAnswer", message))
        else:
            if group.read_at is None or group.refusal is not None:
                self._cluster.mark_changed(group.queues)
            now = self._clock.monotonic()
            group.raw, group.read_at, group.refusal = response.content, now, None
            group.update(commits, topics)

    def _lose(self, group: ConsumerGroup, why: str) -> None:
        """Find the group's coordinator again."""
        group.node = None
        self._schedule.hasten("groups")
        self._cluster.lose(group, ("Unreachable", why))

    def _refuse(self, group: ConsumerGroup, refusal: Refusal) -> None:
        self._cluster.refuse(group, refusal)
        group.read_at = self._clock.monotonic()

    def commits(self) -> dict[str, CommitsByTopic]:
        """Return the commits of all groups, to keep them with the ends that are asked for now."""
        return {
            group.name: {queue.topic: {} for queue in group.queues}
            if group.is_absent
            else group.commits
            for group in self._groups.values()
            if group.queues and group.read_at is not None
        }

    async def read_ends(
        self, node: int, query: LeaderQuery, commits: dict[str, CommitsByTopic]
    ) -> None:
        """Read where the logs of one leader start and end.

        `commits` were read before: an end is compared only with older commits, however late the
        response is.
        """
        broker = self._brokers.get(node)
        if broker is None:
            self._cluster.replan()
            return
        try:
            await self._read_ends(node, broker, query, commits)
        except (TroubleError, ValueError, UnsupportedError) as error:
            self._scopes.fail(node, "ends", error)

    async def _read_ends(
        self, node: int, broker: Broker, query: LeaderQuery, commits: dict[str, CommitsByTopic]
    ) -> None:
        control = broker.control
        highs = await self._transactions.ask(node, control, query)
        latest, earliest = await asyncio.gather(
            control.call(query.latest), control.call(query.earliest)
        )
        if self._layout != self._cluster.layout or query is not self._queries.get(node):
            return  # planned again since it was asked
        self._apply_ends("latest", query, latest)
        self._apply_ends("earliest", query, earliest)
        if highs is not None:
            self._transactions.update(query, highs, latest)
        self._keep_commits(query, commits)
        await self._read_watermarks(node, broker)
        self._read_at[node] = self._clock.monotonic()
        self._scopes.succeed(node, "ends")

    def _keep_commits(self, query: LeaderQuery, commits: dict[str, CommitsByTopic]) -> None:
        """Keep the commits with the ends; queues with other commits than before have changed."""
        before, query.commits = query.commits, commits
        for name, ours in commits.items():
            was = before.get(name, {})
            if was is ours or name not in self._groups:
                continue
            for queue in self._groups[name].queues:
                if was.get(queue.topic) != ours.get(queue.topic):
                    self._cluster.mark_changed([queue])
                    watermarks = self._topics[queue.topic].fresh_watermarks
                    for number in query.partitions.get(queue.topic, ()) if watermarks else ():
                        watermarks.pop(number, None)

    def _apply_ends(self, which: str, query: LeaderQuery, response: ResponseBody) -> None:
        if query.responses.get(which) == response.content:
            return
        for name, offsets in messages.parse_offsets(response).items():
            if topic := self._topics.get(name):
                for number, offset in offsets.items():
                    self._apply_end(topic, number, offset, which, query)
        query.responses[which] = response.content

    def _apply_end(
        self, topic: Topic, number: int, offset: Offset, which: str, query: LeaderQuery
    ) -> None:
        if offset.error not in (messages.NONE, messages.TOPIC_DENIED):
            topic.bad_since.setdefault(number, self._clock.monotonic())
            topic.bad.setdefault(number, set()).add(which)
            self._schedule.make_due("topics")
            return
        topic.asked[number] = query
        is_bad = topic.is_bad(number, which)
        known = topic.ends if which == "latest" else topic.starts
        before = known.get(number)
        if before == offset and (is_bad or number not in topic.bad_since):
            return
        if not is_bad:
            topic.bad_since.pop(number, None)
        known[number] = offset
        if before and before.error == messages.NONE and offset.error == messages.NONE:
            self._compare(topic, number, offset.offset - before.offset, which)
        self._cluster.mark_changed(topic.queues)

    def _compare(self, topic: Topic, number: int, growth: int, which: str) -> None:
        """Handle a log whose start or end has moved by `growth` offsets."""
        if growth < 0:
            self._schedule.hasten("topics")  # is it still the same topic?
            topic.shrink(number)
        elif growth > 0 and which == "latest":
            topic.produced_at = self._clock.now()

    async def _read_watermarks(self, node: int, broker: Broker) -> None:
        """Read the high watermarks of partitions with a commit beyond the last stable offset.

        They say whether the commit is behind an open transaction, or outside the log.
        """
        ahead: dict[str, set[int]] = {}
        for queue in self._cluster.changed | self._ahead:
            topic = self._topics.get(queue.topic)
            numbers = [] if topic is None or queue.is_removed else _ahead(queue, topic)
            (self._ahead.add if numbers else self._ahead.discard)(queue)
            if topic and (here := {number for number in numbers if topic.leader(number) == node}):
                ahead.setdefault(topic.name, set()).update(here)
        if not ahead:
            return
        request = messages.list_offsets(ahead, messages.LATEST, messages.UNCOMMITTED)
        response = await broker.control.call(request)
        for name, offsets in messages.parse_offsets(response).items():
            if topic := self._topics.get(name):
                for number, offset in offsets.items():
                    watermarks = topic.fresh_watermarks
                    if offset.error == messages.NONE and watermarks.get(number) != offset.offset:
                        watermarks[number] = offset.offset
                        self._cluster.mark_changed(topic.queues)

    def mark_late(self) -> None:
        """Mark the queues that depend on a silent broker now, or did in the last round."""
        too_old = self._clock.monotonic() - self._hold_seconds
        late: set[KafkaQueue] = set()
        for node, query in self._queries.items():
            if self._read_at.get(node, too_old) <= too_old:
                for name in query.partitions.keys() & self._topics.keys():
                    late.update(self._topics[name].queues)
        for group in self._groups.values():
            if group.read_at is None or group.read_at <= too_old:
                late.update(group.queues)
        for topic in self._topics.values():
            if topic.bad_since or not self._brokers.known.keys() >= set(topic.leaders):
                late.update(topic.queues)
        self._cluster.mark_changed(late | self._late)
        self._late = late


def _ahead(queue: KafkaQueue, topic: Topic) -> list[int]:
    """Return the partitions in which the group has committed beyond the last stable offset."""
    return [
        number
        for number, commit in enumerate(topic.commits(queue.group) if queue.group else ())
        if commit
        and commit.offset > topic.ends.get(number, UNREAD).offset
        and topic.is_read(number)
    ]
