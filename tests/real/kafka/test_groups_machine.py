"""Groups of all types that do what they like, compared with Kafka's own client and with a model.

A machine joins, moves and removes members, commits, deletes groups, and makes, fills, deletes and
renames topics. It begins with a group of each type: the first example that Hypothesis makes is the
simplest one. After a few steps the document must agree with what Kafka's admin client says
(states, assignments, lags, epochs) and with what the machine did (who is where).
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.real.kafka import observer as telemetron
from tests.real.kafka.broker import Cluster
from tests.real.kafka.heartbeat import MEMBERS
from tests.real.kafka.observer import Observer, cluster_source, reasons
from tests.real.kafka.oracle import GroupTruth, Oracle
from tests.real.kafka.truth import SECONDS, Truth, tasks
from tests.real.process import wait_until

PROTOCOLS = ["classic", "consumer"]
KINDS = [*PROTOCOLS, "share", "streams"]
EXAMPLES, STEPS, STEPS_UNTIL_AGREED = 2, 8, 4
MAX_TOPICS, MAX_MEMBERS = 3, 5
SETTLED = {"Stable", "Empty"}
PREFIX = "machine"


class Consuming:
    """A real consumer that polls in a thread of its own, and commits what it is told to."""

    def __init__(self, truth: Truth, kind: str, group: str, topics: list[str], name: str) -> None:
        protocol = {"group.protocol": kind, "client.id": name, "group.id": group}
        if kind == "classic":
            protocol["session.timeout.ms"] = "6000"
        self._consumer = Consumer({**truth.client, **protocol, "enable.auto.commit": False})
        self._consumer.subscribe(topics)
        self._commits: Queue[TopicPartition] = Queue()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def _poll(self) -> None:
        while not self._ended.is_set():
            self._consumer.poll(0.05)
            while not self._commits.empty():
                with suppress(KafkaException):  # it may be none of its own just now
                    self._consumer.commit(offsets=[self._commits.get()], asynchronous=False)
                self._commits.task_done()

    def commit(self, topic: str, offset: int) -> None:
        """By the thread that polls: beside it the client may wait without end."""
        self._commits.put(TopicPartition(topic, 0, offset))
        self._commits.join()

    def leave(self) -> None:
        self._ended.set()
        self._thread.join()
        self._consumer.close()


class Groups(RuleBasedStateMachine):
    """The model: topics with their records, and the members of each group."""

    truth: Truth
    server: str
    oracle: Oracle
    observer: Observer

    def __init__(self) -> None:
        super().__init__()
        self.run = f"{PREFIX}-{uuid4().hex[:8]}"
        self.records: dict[str, int] = {}
        self.partitions: dict[str, int] = {}
        self.members: dict[str, dict[str, tuple[list[str], Any]]] = {}
        """By group and name: topics, and the member itself."""
        self.kinds: dict[str, str] = {}
        self.bases: dict[str, int] = {}
        """A group's epoch less its generation."""
        self.made = self.steps = 0

    @initialize()
    def begin(self) -> None:
        """A group of each type reads one topic; then some commit and go on with another one."""
        self.create(partitions=2)
        self.create(partitions=1)
        old, new = self.records
        self._produce(old, 3)
        for kind in KINDS:
            self._start(kind, old)
        self.agree()
        for group in [group for group, kind in self.kinds.items() if kind in PROTOCOLS]:
            ((name, (_, member)),) = self.members[group].items()
            member.commit(old, 1)
            self._leave(group, name)
            self._join(group, name, [new])
        self.agree()

    def name(self, what: str) -> str:
        self.made += 1
        return f"{self.run}-{what}{self.made}"

    # topics

    @precondition(lambda self: len(self.records) < MAX_TOPICS)
    @rule(partitions=st.integers(1, 3))
    def create(self, partitions: int) -> None:
        topic = self.truth.topic(partitions, name=self.name("t"))
        self.records[topic], self.partitions[topic] = 0, partitions

    @precondition(lambda self: self.records)
    @rule(data=st.data(), count=st.integers(1, 5))
    def produce(self, data: st.DataObject, count: int) -> None:
        topic = data.draw(st.sampled_from(sorted(self.records)))
        self._produce(topic, count)

    def _produce(self, topic: str, count: int) -> None:
        self.truth.produce(topic, tasks(0, count))
        self.records[topic] += count

    @precondition(lambda self: self._renamable())
    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        """Its records are made under another name, and nobody has told its readers."""
        old = data.draw(st.sampled_from(self._renamable()))
        new = self.truth.topic(1, name=self.name("t"))
        self.truth.produce(new, tasks(0, 2))
        self.truth.delete(old)
        del self.records[old], self.partitions[old]
        self.records[new], self.partitions[new] = 2, 1

    def _renamable(self) -> list[str]:
        """Without its topic a streams group never settles."""
        streams = [self.members[group] for group, kind in self.kinds.items() if kind == "streams"]
        kept = {topic for members in streams for topics, _ in members.values() for topic in topics}
        return sorted(self.records.keys() - kept)

    # members

    @precondition(lambda self: self.records and sum(map(len, self.members.values())) < MAX_MEMBERS)
    @rule(data=st.data(), kind=st.sampled_from(KINDS), is_new=st.booleans())
    def join(self, data: st.DataObject, kind: str, is_new: bool) -> None:
        topic = data.draw(st.sampled_from(sorted(self.records)))
        # A streams group has one topology for all: each gets one member.
        known = sorted(g for g, its in self.kinds.items() if its == kind != "streams")
        if is_new or not known:
            self._start(kind, topic)
        else:
            self._join(data.draw(st.sampled_from(known)), self.name("m"), [topic])

    def _start(self, kind: str, topic: str) -> None:
        group = self.name("g")
        self.kinds[group] = kind
        self._join(group, self.name("m"), [topic])

    def _join(self, group: str, name: str, topics: list[str]) -> None:
        kind = self.kinds[group]
        if kind in PROTOCOLS:
            member: Any = Consuming(self.truth, kind, group, topics, name)
        else:
            member = MEMBERS[kind](self.server, group, topics, name)
        self.members.setdefault(group, {})[name] = (topics, member)

    @precondition(lambda self: any(self.members.values()))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        group, name = data.draw(st.sampled_from(self._all_members()))
        self._leave(group, name)

    def _leave(self, group: str, name: str) -> None:
        _, member = self.members[group].pop(name)
        member.leave()

    def _all_members(self) -> list[tuple[str, str]]:
        return [(group, name) for group in sorted(self.members) for name in self.members[group]]

    @precondition(lambda self: self._movable())
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """A member goes on with another topic; its group does not forget the old one."""
        group, name = data.draw(st.sampled_from(self._movable()))
        topic = data.draw(st.sampled_from(sorted(self.records)))
        self._leave(group, name)
        self._join(group, name, [topic])

    def _movable(self) -> list[tuple[str, str]]:
        found = self._all_members() if self.records else []
        return [it for it in found if self.kinds[it[0]] != "streams"]

    # groups

    @precondition(lambda self: any(self.records.values()))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        topic = data.draw(st.sampled_from(sorted(t for t, n in self.records.items() if n)))
        offset = data.draw(st.integers(0, self.records[topic]))
        kinds = {g: kind for g, kind in self.kinds.items() if kind in PROTOCOLS}
        reading = [
            (group, member)
            for group in sorted(kinds)
            for topics, member in self.members[group].values()
            if topic in topics
        ]
        if reading:
            data.draw(st.sampled_from([member for _, member in reading])).commit(topic, offset)
        else:
            group = self.name("g")
            self.truth.commit(group, topic, {0: offset})
            self.kinds[group], self.members[group] = "classic", {}

    @precondition(lambda self: self._empty())
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from(self._empty()))
        with suppress(KafkaException):  # Kafka forgets an empty group without offsets by itself
            self.truth.forget(group)
        del self.kinds[group], self.members[group]
        self.bases.pop(group, None)

    def _empty(self) -> list[str]:
        empty = [group for group, members in self.members.items() if not members]
        return sorted(group for group in empty if self.kinds[group] in PROTOCOLS)

    # agreement

    @invariant()
    def agree_at_times(self) -> None:
        self.steps += 1
        if self.steps % STEPS_UNTIL_AGREED == 0:
            self.agree()

    def agree(self) -> None:
        found: list[str] = []

        def agrees() -> bool:
            found[:] = self._differences()
            return not found

        try:
            wait_until(agrees, seconds=SECONDS, what="agreement")
        except TimeoutError:
            raise AssertionError("\n".join(found)) from None

    def teardown(self) -> None:
        try:
            self.agree()
        finally:
            for group, name in self._all_members():
                self._leave(group, name)
            for topic in self.records:
                self.truth.delete(topic)

    def _differences(self) -> list[str]:
        said = self.oracle.groups(self.run)
        shown = {
            pair: queue
            for pair, queue in self.observer.queues().items()
            if pair[0].startswith(self.run)
        }
        return [*self._model(said), *self._queues(said, shown), *self._nobody(shown)]

    def _model(self, said: dict[str, GroupTruth]) -> Iterator[str]:
        """Kafka itself has come to where the machine led it."""
        for group, members in self.members.items():
            it = said.get(group)
            if members and (it is None or it.state not in SETTLED):
                yield f"{group}: {it and it.state}"
            if it and sorted(members) != [client for client, _ in it.members]:
                yield f"{group}: {sorted(members)} are its members, not {it.members}"
            topics = {topic for named, _ in members.values() for topic in named}
            for topic in topics & self.records.keys() if it else ():
                has = {n for _, parts in it.members for n in parts.get(topic, ())}
                if has != set(range(self.partitions[topic])):
                    yield f"{group}: of {topic} its members have {has}"

    def _queues(self, said: dict[str, GroupTruth], shown: dict[Any, Any]) -> Iterator[str]:
        pairs = {
            (topic, group)
            for group, it in said.items()
            for topic in {*it.lags, *(topic for _, parts in it.members for topic in parts)}
            if topic in self.records
        }
        pairs |= {
            (topic, group)
            for group, members in self.members.items()
            for topics, _ in members.values()
            for topic in topics
            if topic in self.records
        }
        if missing := pairs ^ {pair for pair in shown if pair[1] is not None}:
            yield f"shown, or not, other than they should be: {missing}"
        for topic, group in pairs & shown.keys():
            if group in said:
                for difference in self._queue(said[group], shown[topic, group], group):
                    yield f"{group} on {topic}: {difference}"

    def _queue(self, it: GroupTruth, queue: dict[str, Any], group: str) -> Iterator[str]:
        topic = queue["name"]
        members = sorted((m["client_id"], m["partitions"]) for m in queue["members"])
        if members != [(client, parts.get(topic, [])) for client, parts in it.members]:
            yield f"members {members}, and not {it.members}"
        if queue["consumers"] != it.consumers(topic):
            yield f"{queue['consumers']} consumers, and not {it.consumers(topic)}"
        if queue["group_state"] != it.state:
            yield f"{queue['group_state']}, and not {it.state}"
        lags = it.lags.get(topic, {})
        if it.type != "share":
            yield from self._lag(lags, queue)
        if it.epoch is not None and queue["generation"] is not None:
            base = self.bases.setdefault(group, it.epoch - queue["generation"])
            if base != it.epoch - queue["generation"]:
                yield f"generation {queue['generation']}, and not {it.epoch - base}"

    def _lag(self, lags: dict[int, int], queue: dict[str, Any]) -> Iterator[str]:
        """Records are in partition 0 only, and so are commits."""
        lag = lags.get(0) if self.records[queue["name"]] else 0
        if queue["lag"] != lag:
            yield f"lag {queue['lag']}, and not {lag}"
        if reasons(queue) != (set() if lag is not None else {"NoCommit"}):
            yield f"{reasons(queue)}, and the lag is {lag}"

    def _nobody(self, shown: dict[Any, Any]) -> Iterator[str]:
        read = {topic for topic, group in shown if group is not None}
        for topic, count in self.records.items():
            queue = shown.get((topic, None))
            if (queue is not None) != (count > 0 and topic not in read):
                yield f"{topic}: {count} records, read: {topic in read}, shown as {queue}"
            if queue and (queue["consumers"], reasons(queue)) != (0, {"NoCommit"}):
                yield f"{topic}: {queue}"
        if gone := {topic for topic, _ in shown} - self.records.keys():
            yield f"deleted, and shown: {gone}"


@pytest.fixture(scope="module")
def watcher(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observer]:
    queues = [{"topic": f"{PREFIX}-*"}]
    config = cluster_source(kafka.servers(), queues, interval_seconds=0.05)
    folder: Path = tmp_path_factory.mktemp("machine")
    with telemetron.observing(folder, {"kafka": config}, faults=2) as observer:
        yield observer


def test_groups_of_all_types(
    kafka: Cluster, truth: Truth, admin_client: Oracle, watcher: Observer
) -> None:
    class Here(Groups):
        pass

    Here.truth, Here.server, Here.oracle = truth, kafka.servers()[0], admin_client
    Here.observer = watcher
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )
