"""Kafka topics as queues between processes."""

import time
from pathlib import Path

from telemetron.demo.broker import EmbeddedBroker
from telemetron.demo.queue import RECORD
from telemetron.demo.topic import KafkaClients, KafkaQueue
from telemetron.demo.worker import AgentWorker


def claim(queue: KafkaQueue) -> dict[str, object]:
    until = time.monotonic() + 20
    while (item := queue.claim("")) is None:
        assert time.monotonic() < until
    return item


def test_a_topic_is_a_queue(broker: EmbeddedBroker, tmp_path: Path) -> None:
    giver = KafkaClients(broker.address, "planner")
    taker = KafkaClients(broker.address, "researcher-1")
    try:
        sections = KafkaQueue(giver, "sections")
        mine = AgentWorker("researcher-1", tmp_path, [], kafka=taker).queue("sections")
        assert isinstance(mine, KafkaQueue)
        assert len(sections) == 0
        assert all(sections.put({"id": f"t{n}"}) for n in range(3))
        assert len(sections) == 3
        first = claim(mine)
        assert first[RECORD].headers[0] == ("telemetron-task-id", first["id"].encode())  # type: ignore
        assert len(sections) == 3  # claimed, but not committed
        claim(mine)
        assert len(sections) == 2
    finally:
        giver.close()
        taker.close()


def test_a_lost_broker_is_no_error(broker: EmbeddedBroker) -> None:
    kafka = KafkaClients(broker.address, "researcher-1")
    broker.stop()
    queue = KafkaQueue(kafka, "sections")
    assert not queue.put({"id": "t"})
    assert queue.claim("") is None
    kafka.close()
