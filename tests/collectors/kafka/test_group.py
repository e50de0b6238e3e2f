"""Commits of groups whose topics come and go, and the rebalances of groups."""

from typing import Any

import pytest

from telemetron_collectors.kafka.group import MAX_DELETED_TOPICS, ConsumerGroup, Rebalances
from telemetron_collectors.kafka.protocol.membership import DEAD, GroupInfo, GroupMember
from telemetron_collectors.kafka.protocol.messages import NONE, Commit, Commits, TopicInfo
from telemetron_collectors.kafka.topic import Topic


def commit(group: ConsumerGroup, topic: str, offset: int) -> None:
    group.update(Commits(NONE, {topic: {0: Commit(offset)}}), [topic])


def made(name: str) -> Topic:
    topic = Topic(name)
    topic.update(TopicInfo("1", NONE, (1,)))
    return topic


def test_commits_are_replaced_and_never_changed() -> None:
    group = ConsumerGroup("g")
    commit(group, "t", 4)
    before = group.commits
    commit(group, "t", 5)
    commit(group, "other", 1)
    group.disown(made("t"))
    group.forget("other")
    assert before == {"t": {0: Commit(4)}}
    assert group.commits == {"t": {0: Commit(5, foreign=True)}}


def test_a_commit_on_a_deleted_topic_is_foreign_until_it_changes() -> None:
    for after in (6, -1):
        group = ConsumerGroup("g")
        commit(group, "t", 4)
        group.disown(made("t"))
        commit(group, "t", 4)
        assert group.commits["t"][0].foreign
        commit(group, "t", after)
        commit(group, "t", 4)
        assert not group.commits["t"][0].foreign


def test_a_commit_that_disappears_with_its_topic_and_returns_is_foreign() -> None:
    """A consumer that lives on commits what it had consumed of the earlier topic."""
    group = ConsumerGroup("g")
    commit(group, "t", 4)
    commit(group, "t", -1)
    group.disown(made("t"))
    group.forget("t")
    commit(group, "t", -1)
    commit(group, "t", 4)
    assert group.commits["t"][0].foreign


def test_a_group_remembers_a_limited_number_of_deleted_topics() -> None:
    group = ConsumerGroup("g")
    for number in range(MAX_DELETED_TOPICS + 1):
        commit(group, f"t{number}", 4)
        group.disown(made(f"t{number}"))
        group.forget(f"t{number}")
    assert group.commits == {}
    for number in (0, 1):
        commit(group, f"t{number}", 4)
    assert [group.commits[f"t{number}"][0].foreign for number in (0, 1)] == [False, True]


def test_a_commit_of_0_is_never_foreign() -> None:
    group = ConsumerGroup("g")
    commit(group, "t", 0)
    group.disown(made("t"))
    assert group.commits["t"] == {0: Commit(0)}


def info(state: str, *members: str, epoch: int | None = None, **more: Any) -> GroupInfo:
    made = (GroupMember(id, "h", more.get("assignment", {}), id=id) for id in members)
    return GroupInfo(0, state, tuple(made), epoch)


def counted(*infos: GroupInfo) -> int | None:
    rebalances = Rebalances()
    for one in infos:
        rebalances.observe(one)
    return rebalances.count


@pytest.mark.parametrize(
    ("infos", "count"),
    [
        ([], None),
        ([info("Stable", "a", epoch=7)], 0),
        ([info("Stable", "a", epoch=7), info("Reconciling", "a", "b", epoch=9)], 2),
        ([info("Stable", "a", epoch=7), info("Stable", "a", epoch=7)], 0),
        # deleted, and made again
        ([info("Stable", "a", epoch=7), info("Stable", "a", epoch=2)], 2),
        ([info("Empty", epoch=7), DEAD], 0),
        ([DEAD, info("Stable", "a", epoch=3)], 3),
        # migrated to the new protocol
        ([info("Stable", "a"), info("Stable", "a", epoch=5)], 1),
    ],
)
def test_rebalances_count_epochs(infos: list[GroupInfo], count: int | None) -> None:
    assert counted(*infos) == count


STABLE, MOVING = info("Stable", "a"), info("PreparingRebalance", "a", "b")


@pytest.mark.parametrize(
    ("infos", "count"),
    [
        ([STABLE, STABLE], 0),
        ([STABLE, MOVING], 1),
        ([STABLE, MOVING, info("CompletingRebalance", "a", "b"), info("Stable", "a", "b")], 1),
        ([STABLE, MOVING, STABLE, MOVING], 2),
        ([STABLE, info("Stable", "a", "b")], 1),  # too short to be seen
        ([STABLE, info("Stable", "a", assignment={"t": (0,)})], 1),
        ([STABLE, info("Empty")], 1),
        ([DEAD, STABLE], 1),
    ],
)
def test_rebalances_of_classic_groups_count_observed_changes(
    infos: list[GroupInfo], count: int
) -> None:
    assert counted(*infos) == count
