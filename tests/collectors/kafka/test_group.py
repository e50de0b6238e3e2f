"""What is kept of groups, whose topics come and go."""

from telemetron_collectors.kafka.group import MAX_FOREIGN, Group, Topic
from telemetron_collectors.kafka.protocol.messages import NONE, Commit, Commits, TopicInfo


def commit(group: Group, topic: str, offset: int) -> None:
    group.update(Commits(NONE, {topic: {0: Commit(offset)}}), [topic])


def made(name: str) -> Topic:
    topic = Topic(name)
    topic.update(TopicInfo("1", NONE, (1,)))
    return topic


def test_what_was_read_is_never_changed() -> None:
    group = Group("g")
    commit(group, "t", 4)
    before = group.commits
    commit(group, "t", 5)
    commit(group, "other", 1)
    group.disown(made("t"))
    group.forget("other")
    assert before == {"t": {0: Commit(4)}}
    assert group.commits == {"t": {0: Commit(5, foreign=True)}}


def test_a_commit_on_an_earlier_topic_until_it_is_another_one_or_gone() -> None:
    for after in (6, -1):
        group = Group("g")
        commit(group, "t", 4)
        group.disown(made("t"))
        commit(group, "t", 4)
        assert group.commits["t"][0].foreign
        commit(group, "t", after)
        commit(group, "t", 4)
        assert not group.commits["t"][0].foreign


def test_a_commit_that_went_with_its_topic_and_comes_back() -> None:
    """A consumer that lives on commits what it had consumed of the earlier topic."""
    group = Group("g")
    commit(group, "t", 4)
    commit(group, "t", -1)
    group.disown(made("t"))
    group.forget("t")
    commit(group, "t", -1)
    commit(group, "t", 4)
    assert group.commits["t"][0].foreign


def test_a_group_forgets_topics_that_are_gone() -> None:
    group = Group("g")
    for number in range(MAX_FOREIGN + 1):
        commit(group, f"t{number}", 4)
        group.disown(made(f"t{number}"))
        group.forget(f"t{number}")
    assert group.commits == {}
    for number in (0, 1):
        commit(group, f"t{number}", 4)
    assert [group.commits[f"t{number}"][0].foreign for number in (0, 1)] == [False, True]


def test_a_commit_of_0_is_good_for_any_topic_of_the_name() -> None:
    group = Group("g")
    commit(group, "t", 0)
    group.disown(made("t"))
    assert group.commits["t"] == {0: Commit(0)}
