"""The Kafka broker of the demo: an embedded broker, or the user's."""

import asyncio
import logging
import socket
import subprocess
import time
from collections.abc import Coroutine, Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Protocol

from telemetron.demo.process import free_port, stop

if TYPE_CHECKING:
    from aiokafka.admin import AIOKafkaAdminClient

WHEEL = "noida_db"
TOPICS = {"sections": 2, "findings": 1}
"""The partitions of each topic: one for each agent that consumes it."""
GROUPS = {"sections": "researcher", "findings": "writer"}
"""The consumer group of each topic, which is named after the agent."""
START_SECONDS = 5.0
STOP_SECONDS = 2.0
SESSION_SECONDS = 10.0
"""The session timeout of the agents' consumers."""
EXPIRY_SECONDS = 1.0


class BrokerError(Exception):
    """The demo cannot use a broker; the text says why."""


class DemoBroker(Protocol):
    """A broker with the demo's topics.

    `prefix` begins the names of topics and consumer groups.
    """

    address: str
    prefix: str

    def start(self) -> None:
        """Create the topics; raise BrokerError if that fails."""

    def expire(self, ended: Mapping[str, float]) -> list[str]:
        """Remove agents that have ended from their consumer groups; return the removed members.

        `ended` has the monotonic time at which each agent ended.
        """

    def stop(self) -> str | None:
        """Remove what the demo created; return what could not be removed."""


class ExistingBroker:
    """A broker that the user runs: topics and groups get names that no one else uses."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise BrokerError(f"expected HOST:PORT, got {address!r}")
        self.address = address
        self.prefix = f"telemetron-demo-{token_hex(3)}-"
        self._created: list[str] = []

    def start(self) -> None:
        """Create the topics, with one replica of each partition."""
        _run(_create_topics(self.address, self.prefix, self._created), START_SECONDS)

    def expire(self, ended: Mapping[str, float]) -> list[str]:
        """Remove none: Kafka itself removes a member after its session timeout."""
        return []

    def stop(self) -> str | None:
        """Delete the topics; Kafka then removes the groups, which have no offsets left."""
        if not self._created:
            return None
        try:
            _run(_delete_topics(self.address, self._created), STOP_SECONDS)
        except BrokerError as error:
            return f"the topics {', '.join(self._created)} were not deleted: {error}"
        return None


class EmbeddedBroker:
    """A broker in a process of its own, on loopback, that keeps its records in a folder."""

    prefix = ""

    def __init__(self, folder: Path, wheel: str = WHEEL) -> None:
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.process = _start_process(folder, self._port, wheel)
        self._order: dict[str, None] = {}

    def start(self) -> None:
        """Wait until the broker listens, then create the topics."""
        until = time.monotonic() + START_SECONDS
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > until:
                raise BrokerError("the broker of telemetron[demo] does not start")
            time.sleep(0.01)
        _run(_create_topics(self.address, self.prefix, []), START_SECONDS)

    def expire(self, ended: Mapping[str, float]) -> list[str]:
        """Remove the members that Kafka would remove; this broker keeps them for ever.

        A member expires when its agent ended a session timeout ago. A consumer that rejoins under
        a new member id leaves its old member behind: that one expires at once, because this
        broker makes the others wait for it.
        """
        from aiokafka.errors import KafkaError

        until = time.monotonic() - SESSION_SECONDS
        gone = {name for name, at in ended.items() if at <= until}
        try:
            return asyncio.run(asyncio.wait_for(self._expire(gone), EXPIRY_SECONDS))
        except (KafkaError, OSError):  # the next call tries again
            return []

    def stop(self) -> str | None:
        """End the process; the topics end with it."""
        stop([self.process])
        return None

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1):
                return True
        except OSError:
            return False

    async def _expire(self, gone: set[str]) -> list[str]:
        from aiokafka.client import AIOKafkaClient
        from aiokafka.protocol.admin import DescribeGroupsRequest
        from aiokafka.protocol.group import LeaveGroupRequest

        client = AIOKafkaClient(bootstrap_servers=self.address)
        try:
            await client.bootstrap()
            node = client.get_random_node()
            expired = []
            for group in GROUPS.values():
                # One group a request: aiokafka cannot decode an answer about several.
                described = await client.send(node, DescribeGroupsRequest([group]))
                names = {member[0]: member[1] for member in described.groups[0][5]}
                for member in self.expired(names, gone):
                    await client.send(node, LeaveGroupRequest(group, member))
                    expired.append(member)
            return expired
        finally:
            await client.close()

    def expired(self, names: Mapping[str, str], gone: set[str]) -> list[str]:
        """Return the expired ones of a group's members, given each member's client id."""
        self._order.update(dict.fromkeys(names))
        newest = {names[member]: member for member in self._order if member in names}
        return [member for member, name in names.items() if name in gone or newest[name] != member]


def silence_client() -> None:
    """Turn off the log of aiokafka: the demo and Telemetron report what matters."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)


def _start_process(folder: Path, port: int, wheel: str) -> "subprocess.Popen[bytes]":
    if find_spec(wheel) is None:
        raise BrokerError("pip install 'telemetron[demo]' brings the Kafka broker")
    command = [str(files(wheel) / "noida-db"), "start", "--only", "kafka", "--host", "127.0.0.1"]
    command += ["--kafka-port", str(port), "--data-dir", str(folder)]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise BrokerError(f"the broker of telemetron[demo] does not run here: {error}") from None


def _run(work: Coroutine[Any, Any, None], seconds: float) -> None:
    from aiokafka.errors import KafkaConnectionError, KafkaError

    silence_client()
    try:
        asyncio.run(asyncio.wait_for(work, seconds))
    except TimeoutError:
        raise BrokerError(f"no answer within {seconds:g} s") from None
    except (KafkaConnectionError, OSError):
        raise BrokerError(
            "it cannot be reached, or does not accept connections without TLS and password"
        ) from None
    except KafkaError as error:
        raise BrokerError(f"it refuses: {error}") from None


async def _create_topics(address: str, prefix: str, created: list[str]) -> None:
    from aiokafka.admin import NewTopic

    topics = [NewTopic(prefix + name, partitions, 1) for name, partitions in TOPICS.items()]
    admin = await _admin(address)
    try:
        answer = await admin.create_topics(topics)
        created += [name for name, code, *_ in answer.topic_errors if not code]
        _check(answer.topic_errors)
    finally:
        await admin.close()


async def _delete_topics(address: str, topics: list[str]) -> None:
    admin = await _admin(address)
    try:
        answer = await admin.delete_topics(topics)
        _check(answer.topic_error_codes)
    finally:
        await admin.close()


async def _admin(address: str) -> "AIOKafkaAdminClient":
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=address, client_id="telemetron-demo")
    try:
        await admin.start()
    except BaseException:
        await admin.close()
        raise
    return admin


def _check(results: list[tuple[Any, ...]]) -> None:
    from aiokafka.errors import for_code

    for name, code, *_ in results:
        if code:
            raise BrokerError(f"it refuses the topic {name}: {for_code(code).__name__}")
