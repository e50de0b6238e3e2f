"""RabbitMQ of Debian on free ports of loopback, with its management and Prometheus plugins."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pika

from tests.ports import free_port
from tests.real.process import running, wait_until

START_SECONDS = 120
ADMIN, PASSWORD = "lab", "not-a-secret"
CONFIG = """
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {prometheus}
collect_statistics_interval = 1000
default_user = {user}
default_pass = {password}
default_user_tags.administrator = true
log.console = true
log.file = false
"""


def folder() -> Path | None:
    """The folder of RabbitMQ's programs; None: the package is not installed."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    return found[-1] if found and shutil.which("epmd") else None


class Rabbit:
    """A running node."""

    def __init__(self, ports: dict[str, int], control: Callable[..., None]) -> None:
        self._control = control
        self.url = f"http://127.0.0.1:{ports['management']}"
        self.metrics_url = f"http://127.0.0.1:{ports['prometheus']}"
        self._amqp = ports["amqp"]
        self._http = httpx.Client(
            base_url=f"{self.url}/api", auth=(ADMIN, PASSWORD), timeout=30, trust_env=False
        )

    @property
    def is_up(self) -> bool:
        try:
            return self._http.get("/overview").status_code == 200
        except httpx.TransportError:
            return False

    def put(self, path: str, **body: Any) -> None:
        self._http.put(path, json=body).raise_for_status()

    def post(self, path: str, **body: Any) -> None:
        self._http.post(path, json=body).raise_for_status()

    def delete(self, path: str) -> None:
        self._http.delete(path).raise_for_status()

    def queue(self, name: str, vhost: str = "/", **arguments: Any) -> None:
        """Declare a durable queue; `_` in the names of arguments is `-`."""
        table = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        path = f"/queues/{quote(vhost, safe='')}/{quote(name, safe='')}"
        self.put(path, durable=True, arguments=table)

    def connect(self, vhost: str = "/") -> pika.BlockingConnection:
        credentials = pika.PlainCredentials(ADMIN, PASSWORD)
        return pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", self._amqp, vhost, credentials)
        )

    @contextmanager
    def short_of_memory(self) -> Iterator[None]:
        """Let the node have less memory than it uses."""
        self._control("set_vm_memory_high_watermark", "0.00001")
        try:
            yield
        finally:
            self._control("set_vm_memory_high_watermark", "0.4")

    def close(self) -> None:
        self._http.close()


@contextmanager
def rabbit(home: Path) -> Iterator[Rabbit]:
    """Start a node and its port mapper; end both with the context."""
    sbin = folder()
    assert sbin is not None
    ports = {name: free_port() for name in ("amqp", "management", "prometheus", "dist", "epmd")}
    (home / "rabbitmq.conf").write_text(CONFIG.format(user=ADMIN, password=PASSWORD, **ports))
    (home / "plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].")
    env = {
        "HOME": str(home),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_NODENAME": f"lab{ports['amqp']}@localhost",
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_DIST_PORT": str(ports["dist"]),
        "ERL_EPMD_PORT": str(ports["epmd"]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"
        " +S 2:2 +sbwt none",
    }

    def control(*words: str) -> None:
        command = [str(sbin / "rabbitmqctl"), *words]
        environ = {**os.environ, **env}
        subprocess.run(command, env=environ, timeout=60, capture_output=True, check=True)

    mapper = ["epmd", "-address", "127.0.0.1", "-port", str(ports["epmd"])]
    server = [str(sbin / "rabbitmq-server")]  # the wrapper on PATH changes the user
    with running(mapper), ExitStack() as stack:
        # A node that finds no port mapper starts one of its own, which nobody would end.
        wait_until(lambda: _listens(ports["epmd"]), seconds=START_SECONDS, what="epmd")
        stack.enter_context(running(server, env=env, log=home / "out.log", cwd=home))
        node = Rabbit(ports, control)
        wait_until(lambda: node.is_up, seconds=START_SECONDS, what="RabbitMQ")
        try:
            yield node
        finally:
            node.close()
            control("stop", str(home / "pid"))


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
