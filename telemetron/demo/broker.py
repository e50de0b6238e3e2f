"""A Kafka broker of the demo's own, where the wheel that brings one is installed."""

import asyncio
import socket
import subprocess
import time
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

WHEEL = "noida_db"
TOPICS = {"sections": 2, "findings": 1}
"""The topics, and how many partitions each has: one for each agent that takes from it."""
START_SECONDS = 5.0


class NoBrokerError(Exception):
    """There is no broker; says why."""


class Broker:
    """A broker in a process of its own, on loopback, that keeps its records in a folder."""

    def __init__(self, folder: Path) -> None:
        self._port = _free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.process = _start(folder, self._port)

    def wait(self) -> None:
        """Until it answers and has the topics; NoBrokerError: it does not."""
        until = time.monotonic() + START_SECONDS
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > until:
                raise NoBrokerError("the broker of telemetron[demo] does not start")
            time.sleep(0.01)
        asyncio.run(_create_topics(self.address))

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1):
                return True
        except OSError:
            return False


def _start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    if find_spec(WHEEL) is None:
        raise NoBrokerError("pip install 'telemetron[demo]' brings the Kafka broker")
    command = [str(files(WHEEL) / "noida-db"), "start", "--only", "kafka", "--host", "127.0.0.1"]
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
        raise NoBrokerError(f"the broker of telemetron[demo] does not run here: {error}") from None


async def _create_topics(address: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5000)
    try:
        await admin.start()
        await admin.create_topics([NewTopic(name, count, 1) for name, count in TOPICS.items()])
    except (KafkaError, OSError) as error:
        raise NoBrokerError(
            f"the broker of telemetron[demo] has a {type(error).__name__}"
        ) from None
    finally:
        await admin.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
        return free
