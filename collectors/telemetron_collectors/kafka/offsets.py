"""Where groups stand and logs end."""

import asyncio
from collections.abc import Iterable
from datetime import datetime

from telemetron.poll import TroubleError
from telemetron_collectors.kafka.brokers import Broker
from telemetron_collectors.kafka.cluster import Known, refusal_of, trouble_of
from telemetron_collectors.kafka.group import (
    UNREAD,
    Ends,
    Group,
    Refusal,
    Stands,
    Topic,
    commits_of,
    offsets_of,
)
from telemetron_collectors.kafka.protocol import messages as ask
from telemetron_collectors.kafka.protocol.messages import Commits
from telemetron_collectors.kafka.protocol.wire import Answer, UnsupportedError
from telemetron_collectors.kafka.queue import TopicQueue
from telemetron_collectors.kafka.transactions import Transactions


class Offsets:
    """Reads commits and ends, by the broker that knows them."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.ends: dict[int, Ends] = {}
        """What each leader is asked."""
        self._transactions = Transactions(known)

    def plan(self) -> None:
        """Whom to ask what, where that has changed."""
        if self.known.planned:
            return
        self.known.planned = True
        asked: dict[int, dict[str, list[int]]] = {}
        for topic in self.known.topics.values():
            if topic.queues:
                for number, leader in enumerate(topic.leaders):
                    asked.setdefault(leader, {}).setdefault(topic.name, []).append(number)
        self.ends = {
            node: Ends(partitions)
            for node, partitions in asked.items()
            if node in self.known.brokers.known
        }
        for group in self.known.groups.values():
            group.request, group.raw = None, b""
        self.known.raw.clear()
        self.known.touched.update(self.known.queues.values())

    def by_coordinator(self) -> dict[int, list[Group]]:
        """The groups to read, by their coordinator."""
        groups: dict[int, list[Group]] = {}
        for group in self.known.groups.values():
            if group.queues and group.node is not None:
                groups.setdefault(group.node, []).append(group)
        self.known.release("commits", groups)
        self.known.release("ends", self.ends)
        return groups

    async def read_commits(self, node: int, groups: list[Group]) -> None:
        """Where the groups of one coordinator stand."""
        broker = self.known.brokers.known.get(node)
        if broker is None:
            for group in groups:
                self._lose(group, "the group's coordinator is no broker that is known")
            return
        read = await asyncio.gather(*(self._read_group(node, broker, group) for group in groups))
        if all(read):
            self.known.serve(node, "commits")

    async def _read_group(self, node: int, broker: Broker, group: Group) -> bool:
        """Whether the coordinator answered."""
        if group.request is None:
            partitions = {
                queue.topic: range(len(self.known.topics[queue.topic].leaders))
                for queue in group.queues
            }
            group.request = offsets_of(group, partitions)
            group.topics = tuple(partitions)
            group.raw = b""
        topics = group.topics
        try:
            answer = await broker.control.call(group.request)
            if answer.data[4:] == group.raw:
                group.read_at = self.known.clock.monotonic()
                return True
            commits = commits_of(group, answer)
        except TroubleError as trouble:
            self.known.fail(node, "commits", trouble)
            return False
        except (ValueError, UnsupportedError) as error:
            self._refuse(group, refusal_of(error))
        else:
            self._take_commits(group, topics, commits, answer)
        return True

    def _take_commits(
        self, group: Group, topics: Iterable[str], commits: Commits, answer: Answer
    ) -> None:
        if commits.error in ask.COORDINATOR_ERRORS:
            self._lose(group, "the group's coordinator does not serve it")
        elif commits.error == ask.GROUP_DENIED:
            self._refuse(group, ("Forbidden", "no permission to describe the group"))
        elif commits.error != ask.NONE:
            self._refuse(group, ("BadAnswer", f"the group's offsets: error {commits.error}"))
        else:
            if group.read_at is None or group.refusal is not None:
                self.known.touched.update(group.queues)
            now = self.known.clock.monotonic()
            group.raw, group.read_at, group.refusal = answer.data[4:], now, None
            group.update(commits, topics)

    def _lose(self, group: Group, why: str) -> None:
        """Its coordinator is to be found anew."""
        group.node = None
        self.known.due["groups"] = 0.0
        self.known.lose(group, ("Unreachable", why))

    def _refuse(self, group: Group, refusal: Refusal) -> None:
        self.known.refuse(group, refusal)
        group.read_at = self.known.clock.monotonic()

    def stands(self) -> dict[str, Stands]:
        """Where all groups stand, to be kept with the ends that are asked for now."""
        return {
            group.name: {queue.topic: {} for queue in group.queues}
            if group.is_absent
            else group.commits
            for group in self.known.groups.values()
            if group.queues and group.read_at is not None
        }

    async def read_ends(self, node: int, ends: Ends, stands: dict[str, Stands]) -> None:
        """Where the logs of one leader start and end.

        `stands` was read before: an end is only ever compared with commits that are older, however
        late the answer comes.
        """
        try:
            control = self.known.brokers.known[node].control
            highs = await self._transactions.ask(node, ends)
            latest, earliest = await asyncio.gather(
                control.call(ends.latest), control.call(ends.earliest)
            )
            if ends is not self.ends.get(node) or not self.known.planned:
                return  # planned anew meanwhile
            self._take_ends(("latest", node), ends, latest)
            self._take_ends(("earliest", node), ends, earliest)
            if highs is not None:
                self._transactions.take(node, ends, highs, latest)
            self._take_stands(ends, stands)
            await self._read_highs(node)
        except (TroubleError, ValueError, UnsupportedError) as error:
            self.known.fail(node, "ends", trouble_of(error))
        except KeyError:
            self.known.planned = False  # the broker is gone
        else:
            self.known.read_at[node] = self.known.clock.monotonic()
            self.known.serve(node, "ends")

    def _take_stands(self, ends: Ends, stands: dict[str, Stands]) -> None:
        before, ends.stands = ends.stands, stands
        for name, ours in stands.items():
            was = before.get(name, {})
            if was is ours or name not in self.known.groups:
                continue
            for queue in self.known.groups[name].queues:
                if was.get(queue.topic) != ours.get(queue.topic):
                    self.known.touched.add(queue)
                    highs = self.known.topics[queue.topic].highs
                    for number in ends.partitions.get(queue.topic, ()) if highs else ():
                        highs.pop(number, None)

    def _take_ends(self, which: tuple[str, int], ends: Ends, answer: Answer) -> None:
        if self.known.raw.get(which) == answer.data[4:]:
            return
        now, monotonic = self.known.clock.now(), self.known.clock.monotonic()
        for name, offsets in ask.parse_offsets(answer).items():
            topic = self.known.topics.get(name)
            if topic is None:
                continue
            known = topic.ends if which[0] == "latest" else topic.starts
            for number, offset in offsets.items():
                before = known.get(number)
                if offset.error not in (ask.NONE, ask.TOPIC_DENIED):
                    topic.bad_since.setdefault(number, monotonic)
                    topic.bad.setdefault(number, set()).add(which[0])
                    self.known.due["topics"] = min(self.known.due["topics"], monotonic)
                    continue
                topic.asked[number] = ends
                is_bad = topic.is_bad(number, which[0])
                if before != offset or (number in topic.bad_since and not is_bad):
                    if not is_bad:
                        topic.bad_since.pop(number, None)
                    known[number] = offset
                    if before and before.error == ask.NONE and offset.error == ask.NONE:
                        self._compare(topic, number, offset.offset - before.offset, which[0], now)
                    self.known.touched.update(topic.queues)
        self.known.raw[which] = answer.data[4:]

    def _compare(self, topic: Topic, number: int, grown: int, which: str, now: datetime) -> None:
        """A log that begins or ends elsewhere than before."""
        if grown < 0:
            self.known.due["topics"] = 0.0  # is it still the same topic?
            topic.shrink(number)
        elif grown > 0 and which == "latest":
            topic.produced_at = now

    async def _read_highs(self, node: int) -> None:
        """Where a group stands beyond the stable end: is it behind a transaction, or astray?"""
        beyond: dict[str, set[int]] = {}
        for queue in self.known.touched | self.known.beyond:
            topic = self.known.topics[queue.topic]
            ahead = self._ahead(queue, topic)
            (self.known.beyond.add if ahead else self.known.beyond.discard)(queue)
            here = {number for number in ahead if topic.leader(number) == node}
            if here:
                beyond.setdefault(topic.name, set()).update(here)
        if not beyond:
            return
        request = ask.list_offsets(beyond, ask.LATEST, ask.UNCOMMITTED)
        answer = await self.known.brokers.known[node].control.call(request)
        for name, offsets in ask.parse_offsets(answer).items():
            for number, offset in offsets.items():
                topic = self.known.topics[name]
                if offset.error == ask.NONE and topic.highs.get(number) != offset.offset:
                    topic.highs[number] = offset.offset
                    self.known.touched.update(topic.queues)

    def _ahead(self, queue: TopicQueue, topic: Topic) -> list[int]:
        return [
            number
            for number, commit in enumerate(topic.commits(queue.group) if queue.group else ())
            if commit
            and commit.offset > topic.ends.get(number, UNREAD).offset
            and topic.is_read(number)
        ]
