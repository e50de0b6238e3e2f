"""Which transactions are open, and since when."""

import struct

import pytest

from telemetron.testing import FakeClock, RecordingOutput
from telemetron_collectors.kafka.brokers import ConnectionSettings
from telemetron_collectors.kafka.cluster import KafkaCluster
from telemetron_collectors.kafka.limits import LIMITS
from telemetron_collectors.kafka.protocol import wire
from telemetron_collectors.kafka.protocol.messages import Offset
from telemetron_collectors.kafka.protocol.wire import ResponseBody
from telemetron_collectors.kafka.topic import LeaderQuery, Topic
from telemetron_collectors.kafka.transactions import Transactions
from tests.collectors.kafka.conftest import config_of


class Looks:
    """One topic of two partitions, and what its leader says of its ends."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        config = config_of(bootstrap_servers=["127.0.0.1:1"], queues=[{"topic": "t"}])
        output = RecordingOutput(self.clock)
        settings = ConnectionSettings("test", "PLAINTEXT", None, {})
        cluster = KafkaCluster(config, output, settings)  # type: ignore[arg-type]
        self.topic: Topic = cluster.topics["t"]
        self.query = LeaderQuery({"t": [0, 1]})
        self.transactions = Transactions(cluster)

    def look(self, *, stable: tuple[int, int], high: tuple[int, int], error: int = 0) -> None:
        """`error`: of the first partition, instead of its ends."""
        for number, offset in enumerate(stable):
            self.topic.ends[number] = self.topic.starts[number] = Offset(0, offset)
        self.transactions.update(self.query, _answer(high, error), _answer(stable, error))


def _answer(offsets: tuple[int, int], error: int) -> ResponseBody:
    entries = [
        struct.pack(">ihqq", n, 0 if n else error, -1, offset) for n, offset in enumerate(offsets)
    ]
    return ResponseBody(2, bytes(4) + wire.array([wire.text("t") + wire.array(entries)]))


@pytest.fixture
def looks() -> Looks:
    return Looks()


def test_a_transaction_counts_if_it_is_open_in_two_checks(looks: Looks) -> None:
    looks.look(stable=(5, 7), high=(5, 7))
    looks.look(stable=(5, 7), high=(9, 7))
    since = looks.clock.now()
    assert looks.topic.open == {}
    looks.clock.advance(1)
    looks.look(stable=(5, 7), high=(12, 7))
    assert looks.topic.open == {0: (5, 7, since, False)}
    looks.clock.advance(LIMITS.long_transaction)
    looks.look(stable=(5, 7), high=(12, 7))
    assert looks.topic.open == {0: (5, 7, since, True)}
    looks.look(stable=(13, 7), high=(13, 7))
    assert looks.topic.open == looks.topic.opened == {}


def test_a_partition_with_an_error_is_checked_the_next_time(looks: Looks) -> None:
    """Though nothing is written, and both answers are the same."""
    looks.look(stable=(5, 7), high=(5, 7), error=6)
    assert looks.topic.high_watermarks == {1: 7}
    for _ in range(2):
        looks.look(stable=(5, 7), high=(5, 7))
    assert looks.topic.high_watermarks == {0: 5, 1: 7}


def test_successive_transactions_are_not_a_long_one(looks: Looks) -> None:
    looks.look(stable=(0, 0), high=(0, 0))
    for first in range(0, 50, 5):
        looks.clock.advance(3)
        looks.look(stable=(first, 0), high=(first + 3, 0))
        assert looks.topic.open == {}


def test_records_behind_an_open_transaction_set_produced_at(looks: Looks) -> None:
    looks.look(stable=(5, 7), high=(9, 7))
    assert looks.topic.produced_at is None  # it was not seen
    looks.clock.advance(1)
    looks.look(stable=(5, 7), high=(9, 7))
    assert looks.topic.produced_at is None
    looks.clock.advance(1)
    looks.look(stable=(5, 7), high=(10, 7))
    assert looks.topic.produced_at == looks.clock.now()


def test_the_first_records_of_a_transaction_set_produced_at(looks: Looks) -> None:
    looks.look(stable=(5, 7), high=(5, 7))
    looks.look(stable=(9, 7), high=(9, 7))
    looks.clock.advance(1)
    looks.look(stable=(9, 7), high=(10, 7))
    assert looks.topic.produced_at == looks.clock.now()


def test_records_between_the_two_responses_are_no_transaction(looks: Looks) -> None:
    """The end of all records is asked for first."""
    for number in range(5):
        looks.clock.advance(1)
        looks.look(stable=(10 * number, 0), high=(10 * number - 3, 0))
        assert looks.topic.opened == {}
