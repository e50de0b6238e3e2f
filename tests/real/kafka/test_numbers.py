"""The right number in each case, those included that Kafka's own tool gets wrong."""

import pytest

from tests.real.kafka.broker import Cluster
from tests.real.kafka.conftest import Observing, ToolLag
from tests.real.kafka.observer import ids, offsets, reasons, source
from tests.real.kafka.truth import Truth, tasks


def test_what_was_produced_and_not_committed_waits(
    kafka: Cluster,
    truth: Truth,
    group: str,
    observing: Observing,
    tool_lag: ToolLag,
) -> None:
    """Several partitions, several groups: as another client library and Kafka's own tool say."""
    topic, other = truth.topic(3), f"{group}-b"
    for partition, count in enumerate((5, 7, 11)):
        truth.produce(topic, tasks(100 * partition, count), partition=partition)
    truth.commit(group, topic, {0: 5, 1: 3, 2: 0})
    truth.commit(other, topic, {0: 1, 1: 2, 2: 3})
    with observing(kafka=source(kafka.servers(), topic)) as observer:
        mine = observer.await_shown(topic, group, depth=15, depth_exact=True, lag=15)
        observer.await_shown(topic, other, depth=17, depth_exact=True, lag=17)
        assert (mine["partitions"], mine["consumers"], mine["problems"]) == (3, 0, [])
        assert {lag["partition"]: lag["lag"] for lag in mine["lagging"]} == {1: 4, 2: 11}
        mine = observer.await_queue(topic, group, lambda queue: len(queue["tasks"]) == 15)
        assert set(ids(mine)) == {f"task-{n}" for n in (*range(103, 107), *range(200, 211))}
        assert tool_lag(group) == 15
        assert tool_lag(other) == 17


def test_produced_is_shown_and_committed_is_gone(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 4))
    with observing(kafka=source(kafka.servers(), topic, group, on_no_commit="earliest")) as it:
        it.await_shown(topic, group, depth=4)
        read = truth.read(topic, group, 3)
        left = it.await_queue(topic, group, lambda queue: offsets(queue) == [3])
        assert left["depth"] == 4 - len(read) == 1
        truth.produce(topic, tasks(4, 2))
        more = it.await_queue(topic, group, lambda queue: offsets(queue) == [3, 4, 5])
        assert (more["depth"], ids(more)) == (3, ["task-3", "task-4", "task-5"])
        assert more["produced_at"]
        truth.read(topic, group, 1)
        moved = it.await_queue(topic, group, lambda queue: offsets(queue) == [4, 5])
        assert moved["consumed_at"]


def test_a_group_without_members_keeps_its_backlog(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 10))
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        with truth.member(group, topic) as member:
            member.read(4)
            shown = observer.await_shown(topic, group, depth=6, consumers=1, group_state="Stable")
            assert [(m["host"], m["partitions"]) for m in shown["members"]] == [("127.0.0.1", [0])]
        observer.await_shown(
            topic, group, depth=6, consumers=0, members=[], group_state="Empty", problems=[]
        )


@pytest.mark.parametrize(("policy", "depth"), [("earliest", 5), ("latest", 0), ("unknown", None)])
def test_a_group_without_commits_has_what_its_policy_says(
    kafka: Cluster,
    truth: Truth,
    group: str,
    observing: Observing,
    policy: str,
    depth: int | None,
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 5))
    with observing(kafka=source(kafka.servers(), topic, group, on_no_commit=policy)) as observer:
        queue = observer.await_queue(
            topic, group, lambda it: it["depth"] == depth and it["measured_at"]
        )
        assert ("NoCommit" in reasons(queue)) == (policy == "unknown")


def test_a_partition_the_tool_leaves_out_is_counted(
    kafka: Cluster,
    truth: Truth,
    group: str,
    observing: Observing,
    tool_lag: ToolLag,
) -> None:
    """One partition has a commit, the other none: the tool shows 0 of 500."""
    topic = truth.topic(2)
    truth.produce(topic, tasks(0, 3))
    truth.produce(topic, tasks(0, 500), partition=1)
    truth.commit(group, topic, {0: 3})
    with observing(kafka=source(kafka.servers(), topic, group, on_no_commit="earliest")) as it:
        it.await_shown(topic, group, depth=500, lag=500)
        assert tool_lag(group) == 0


def test_retention_past_the_commit_leaves_what_is_left(
    kafka: Cluster,
    truth: Truth,
    group: str,
    observing: Observing,
    tool_lag: ToolLag,
) -> None:
    """Start 80, commit 30, end 100: 20 wait and 50 are lost; the tool says 70."""
    topic = truth.topic()
    truth.produce(topic, tasks(0, 100))
    truth.commit(group, topic, {0: 30})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        observer.await_queue(topic, group, lambda it: it["depth"] == 70 and it["tasks"])
        truth.delete_before(topic, 80)
        queue = observer.await_shown(topic, group, depth=20, lag=20, depth_exact=True)
        assert reasons(queue) == {"RecordsLost"}
        observer.await_queue(topic, group, lambda it: offsets(it) == list(range(80, 100)))
        assert tool_lag(group) == 70
        truth.commit(group, topic, {0: 90})
        observer.await_shown(topic, group, depth=10, problems=[])


def test_offsets_reset_backwards_and_forwards(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 60))
    truth.commit(group, topic, {0: 50})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        for commit, shown in ((50, 10), (5, 20), (55, 5), (0, 20), (60, 0)):
            truth.commit(group, topic, {0: commit})
            queue = observer.await_queue(
                topic,
                group,
                lambda it, commit=commit, shown=shown: (
                    it["depth"] == 60 - commit
                    and offsets(it) == list(range(commit, commit + shown))
                ),
            )
            assert queue["lag"] == 60 - commit
            assert queue["depth_exact"] == (60 - commit <= 40)  # so many are read


def test_a_commit_past_the_end_is_no_backlog(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic()
    truth.produce(topic, tasks(0, 10))
    truth.commit(group, topic, {0: 60})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        queue = observer.await_shown(topic, group, depth=None, lag=None)
        assert reasons(queue) == {"OffsetOutOfRange"}


def test_a_deleted_group_is_gone_or_unknown(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    """Named, it has no commit any more; found by its commits, it is not shown any more."""
    named, found = truth.topic(), truth.topic()
    for topic in (named, found):
        truth.produce(topic, tasks(0, 3))
        truth.commit(group, topic, {0: 1})
    queues = [{"topic": named, "groups": [group]}, {"topic": found}]
    config = {"bootstrap_servers": kafka.servers(), "queues": queues}
    with observing(kafka=config) as observer:
        observer.await_shown(named, group, depth=2)
        observer.await_shown(found, group, depth=2)
        truth.forget(group)
        queue = observer.await_shown(named, group, depth=None)
        assert reasons(queue) == {"NoCommit"}
        observer.await_queues(lambda queues: (found, group) not in queues)


@pytest.mark.alone
def test_a_million_pending_are_counted_at_once(
    kafka: Cluster, truth: Truth, group: str, observing: Observing
) -> None:
    topic = truth.topic(4)
    for partition in range(4):
        truth.produce(topic, (b'{"id":"%d"}' % n for n in range(250_000)), partition=partition)
    truth.commit(group, topic, {0: 0, 1: 0, 2: 0, 3: 0})
    with observing(kafka=source(kafka.servers(), topic, group)) as observer:
        queue = observer.await_queue(topic, group, lambda it: len(it["tasks"]) == 20)
        assert (queue["depth"], queue["lag"]) == (1_000_000, 1_000_000)
        assert queue["truncated"] == {"tasks": 1_000_000}
