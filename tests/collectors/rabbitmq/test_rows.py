"""The answers of the management plugin, and what it writes for nothing."""

import msgspec

from telemetron_collectors.rabbitmq.rows import QueueRow, Stats, table


def test_an_empty_table_is_written_as_a_list_too() -> None:
    assert table([]) == table({}) == table(None) == {}


def test_a_queue_of_a_node_that_is_down() -> None:
    """Nothing but its name and settings is known."""
    row = msgspec.json.decode(b'{"name": "q", "arguments": {}, "vhost": "/"}', type=QueueRow)
    assert (row.messages_ready, row.consumers, row.state) == (None, None, None)
    assert not isinstance(row.message_stats, Stats)


def test_what_was_consumed() -> None:
    stats = msgspec.json.decode(
        b'{"publish": 9, "ack": 2, "deliver_no_ack": 3, "get_no_ack": 4, "ack_details": {}}',
        type=Stats,
    )
    assert (stats.publish, stats.consumed) == (9, 9)
