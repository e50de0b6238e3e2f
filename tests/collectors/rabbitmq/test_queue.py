"""One queue: its movement, and what is unknown."""

from datetime import UTC, datetime, timedelta

import pytest

from telemetron_collectors.rabbitmq.metrics import Counts
from telemetron_collectors.rabbitmq.queue import RabbitQueue
from telemetron_collectors.rabbitmq.rows import QueueRow, Stats
from telemetron_collectors.rabbitmq.settings import Settings

NONE = Settings()
START = datetime(2030, 1, 1, tzinfo=UTC)


def row(ready: int | None = 0, unacknowledged: int | None = 0, **more: object) -> QueueRow:
    return QueueRow(
        "q",
        "classic",
        "running",
        "a@x",
        messages_ready=ready,
        messages_unacknowledged=unacknowledged,
        **more,
    )  # type: ignore[arg-type]


class Watch:
    """A queue that is looked at every second."""

    def __init__(self, settings: Settings = NONE) -> None:
        self.queue = RabbitQueue("q")
        self.queue.settings = settings
        self.now = START

    def look(self, found: QueueRow):
        self.now += timedelta(seconds=1)
        self.queue.row = found
        return self.queue.build(self.now)


def test_counts_that_rise_and_fall() -> None:
    watch = Watch()
    assert watch.look(row(5)).produced_at is None
    risen = watch.look(row(6))
    assert (risen.produced_at, risen.consumed_at) == (watch.now, None)
    delivered = watch.look(row(5, 1))
    assert (delivered.produced_at, delivered.consumed_at) == (risen.produced_at, None)
    done = watch.look(row(5, 0))
    assert done.consumed_at == watch.now


def test_counters_come_first() -> None:
    watch = Watch()
    watch.look(row(5, message_stats=Stats(publish=10, ack=5)))
    purged = watch.look(row(0, message_stats=Stats(publish=10, ack=5)))
    assert (purged.produced_at, purged.consumed_at) == (None, None)
    steady = watch.look(row(0, message_stats=Stats(publish=11, ack=5, deliver_no_ack=1)))
    assert steady.produced_at == steady.consumed_at == watch.now
    again = watch.look(row(0, message_stats=Stats()))
    assert again.consumed_at == steady.consumed_at


def test_a_fall_proves_nothing_where_messages_are_dropped() -> None:
    watch = Watch(Settings(max_length=5))
    watch.look(row(5))
    found = watch.look(row(2))
    assert found.consumed_at is None
    assert [one.reason for one in found.problems] == ["MetricsUnavailable"]
    assert watch.look(row(2)).problems == found.problems


@pytest.mark.parametrize(
    ("found", "settings"),
    [
        (row(0, head_message_timestamp=1_900_000_000), Settings()),
        (row(1, head_message_timestamp=""), Settings()),
        (row(1, head_message_timestamp=10**30), Settings()),
        (row(1, head_message_timestamp=1_900_000_000), Settings(max_priority=5)),
    ],
)
def test_an_unknown_oldest_message(found: QueueRow, settings: Settings) -> None:
    assert Watch(settings).look(found).oldest_submitted_at is None


def test_an_equal_look_is_the_same_part() -> None:
    watch = Watch()
    assert watch.look(row(3)) is watch.look(row(3))


def test_members_whose_channel_is_closed() -> None:
    details = [{"consumer_tag": "b", "channel_details": []}, "garbage"]
    details += [
        {"consumer_tag": str(n), "channel_details": {"peer_host": "::1"}} for n in range(20)
    ]
    found = Watch().look(row(consumer_details=details))
    assert (found.members[0].client_id, found.members[0].host) == ("0", "::1")
    assert (len(found.members), found.truncated) == (16, {"members": 21})


def test_a_queue_that_no_node_counted() -> None:
    queue = RabbitQueue("q")
    queue.row = row(5, 1, consumers=2)
    queue.count(Counts(consumers=0))
    found = queue.build(START)
    assert (found.depth, found.depth_exact, found.unacknowledged, found.consumers) == (
        *(None, None, None),
        0,
    )
