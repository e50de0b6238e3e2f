"""Topics that are recreated, truncated, or unreadable in parts."""

from telemetron_collectors.kafka.config import QueueConfig
from telemetron_collectors.kafka.partition import Window
from telemetron_collectors.kafka.protocol.messages import NONE, Commit, Offset, TopicInfo
from telemetron_collectors.kafka.queue import KafkaQueue
from telemetron_collectors.kafka.topic import NO_COMMIT, LeaderQuery, Topic


def made(leaders: tuple[int, ...] = (1,)) -> Topic:
    topic = Topic("t")
    topic.update(TopicInfo("1", NONE, leaders))
    return topic


def test_a_recreated_topic_forgets_its_log() -> None:
    topic = made()
    topic.ends[0], topic.is_compacted, log = Offset(NONE, 9), True, topic.log
    assert not topic.update(TopicInfo("1", NONE, (1,)))
    assert topic.ends
    assert topic.update(TopicInfo("2", NONE, (1, 1)))
    assert (topic.id, topic.ends, topic.is_compacted) == ("2", {}, False)
    assert topic.log is not log


def test_a_broker_without_topic_ids_does_not_recreate_a_topic() -> None:
    topic = made()
    assert not topic.update(TopicInfo("", NONE, (1,)))
    assert topic.id == "1"


def test_a_truncated_partition_loses_only_its_own_tasks() -> None:
    topic = made((1, 1))
    queue = KafkaQueue("t", "g", QueueConfig(topic="t"))
    queue.resize(2)
    for partition in queue.partitions:
        partition.window = Window()
    topic.queues.append(queue)
    log = topic.log
    topic.shrink(1)
    assert [partition.window is None for partition in queue.partitions] == [False, True]
    assert topic.log is not log


def test_commits_are_those_that_were_read_before_the_end() -> None:
    topic = made((1, 1, 2))
    query = LeaderQuery({"t": [0, 1]})
    query.commits = {"g": {"t": {0: Commit(4)}}}
    topic.asked = {0: query, 1: query}
    assert topic.commits("g") == [Commit(4), NO_COMMIT, None]
    assert topic.commits("other") == [None, None, None]


def test_an_error_lasts_until_every_request_succeeds() -> None:
    topic = made()
    topic.bad[0] = {"latest", "earliest"}
    assert topic.is_bad(0, "latest")
    assert not topic.is_bad(0, "earliest")


def test_a_topic_has_records_if_a_log_ends_after_its_start() -> None:
    topic = made()
    topic.starts[0], topic.ends[0] = Offset(NONE, 5), Offset(NONE, 5)
    assert not topic.has_records
    topic.ends[0] = Offset(NONE, 6)
    assert topic.has_records
    topic.ends[0] = Offset(29, 6)
    assert not topic.has_records
