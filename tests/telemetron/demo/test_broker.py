"""The demo's own broker, and topics as queues between processes."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetron.demo import broker as module
from telemetron.demo.broker import TOPICS, Broker, NoBrokerError
from telemetron.demo.queue import RECORD
from telemetron.demo.topic import Kafka, TopicQueue
from telemetron.demo.worker import Worker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker")
    made.wait()
    yield made
    made.process.kill()
    made.process.wait()


def claim(queue: TopicQueue) -> dict[str, object]:
    until = time.monotonic() + 20
    while (item := queue.claim("")) is None:
        assert time.monotonic() < until
    return item


def test_a_topic_is_a_queue(broker: Broker, tmp_path: Path) -> None:
    giver, taker = Kafka(broker.address, "planner"), Kafka(broker.address, "researcher-1")
    try:
        sections = TopicQueue(giver, "sections", "researcher", TOPICS["sections"])
        mine = Worker("researcher-1", tmp_path, [], kafka=taker).queue("sections")
        assert isinstance(mine, TopicQueue)
        assert len(sections) == 0
        assert all(sections.put({"id": f"t{n}"}) for n in range(3))
        assert len(sections) == 3
        first = claim(mine)
        assert first[RECORD].headers[0] == ("telemetron-task-id", first["id"].encode())  # type: ignore
        assert len(sections) == 3  # claimed, and not done
        claim(mine)
        assert len(sections) == 2
    finally:
        giver.close()
        taker.close()


def test_a_broker_that_is_gone_is_no_error(broker: Broker) -> None:
    kafka = Kafka(broker.address, "researcher-1")
    broker.process.kill()
    broker.process.wait()
    queue = TopicQueue(kafka, "sections", "researcher", 2)
    assert not queue.put({"id": "t"})
    assert queue.claim("") is None
    kafka.close()


def test_without_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(NoBrokerError, match=r"pip install 'telemetron\[demo\]'"):
        Broker(tmp_path)


def test_a_broker_that_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # where a folder is wanted
    broken = Broker(tmp_path / "file")
    with pytest.raises(NoBrokerError, match="does not start"):
        broken.wait()
    broken.process.kill()
    broken.process.wait()
