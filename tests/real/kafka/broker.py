"""Apache Kafka (KRaft) from Maven Central, one node or several, on free ports of loopback.

A node listens to PLAIN (PLAINTEXT), TLS (SSL), SASL (SASL_PLAINTEXT), SECURE (SASL_SSL) and
PROXIED (PLAINTEXT; it tells its clients the port of a fault proxy). The first is the controller.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.real.process import CACHE, wait_until
from tests.real.toxiproxy import Proxy, Toxiproxy

VERSION = "4.3.1"
HERE = Path(__file__).parent
JARS = CACHE / f"kafka-{VERSION}"
FETCH_SECONDS = 500
START_SECONDS = 150
TOOL_SECONDS = 60
CLUSTER_ID = "dGVsZW1ldHJvbi10ZXN0cw"
KEYSTORE_PASSWORD = "not-a-secret"
USERS = {"admin": "admin-secret", "observer": "observer-secret", "worker": "worker-secret"}
LISTENERS = {
    "PLAIN": "PLAINTEXT",
    "TLS": "SSL",
    "SASL": "SASL_PLAINTEXT",
    "SECURE": "SASL_SSL",
    "PROXIED": "PLAINTEXT",
    "CONTROLLER": "PLAINTEXT",
}
JAAS = "org.apache.kafka.common.security"


def build() -> Path:
    """The folder of Kafka's jars; fetched where it is not there yet."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "kafka.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not JARS.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                _fetch(Path(folder, "jars"))
                Path(folder, "jars").rename(JARS)
    return JARS


def _fetch(folder: Path) -> None:
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime"]
    where = [f"-Dkafka.version={VERSION}", f"-DoutputDirectory={folder}"]
    command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), *where, *goal]
    subprocess.run(command, check=True, timeout=FETCH_SECONDS, stdin=subprocess.DEVNULL)


class Broker:
    """One node; its data is kept between `kill` or `stop` and `start`."""

    def __init__(self, node: int, folder: Path, proxy: Proxy | None, heap: str) -> None:
        self.node = node
        self.folder = folder
        self.proxy = proxy
        self.ports = {name: free_port() for name in LISTENERS}
        if proxy:
            self.ports["PROXIED"] = proxy.upstream_port
        self.log = folder / "kafka.log"
        self._heap = heap
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process
        return self._process.pid

    def configure(self, controller: int, nodes: int, extra: str) -> None:
        """Write the properties; `controller` is the port of the first node's."""
        own = [name for name in LISTENERS if name != "CONTROLLER" or self.node == 1]
        tells = {**self.ports, **({"PROXIED": self.proxy.port} if self.proxy else {})}
        copies = min(nodes, 2)
        lines = [
            (HERE / "server.properties").read_text(),
            f"process.roles={'broker,controller' if self.node == 1 else 'broker'}",
            f"node.id={self.node}",
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}",
            "controller.listener.names=CONTROLLER",
            "listeners=" + _addresses({name: self.ports[name] for name in own}),
            "advertised.listeners="
            + _addresses({name: tells[name] for name in own if name != "CONTROLLER"}),
            "inter.broker.listener.name=PLAIN",
            "listener.security.protocol.map="
            + ",".join(f"{name}:{protocol}" for name, protocol in LISTENERS.items()),
            f"log.dirs={self.folder / 'data'}",
            f"default.replication.factor={copies}",
            f"offsets.topic.replication.factor={copies}",
            f"transaction.state.log.replication.factor={copies}",
            f"share.coordinator.state.topic.replication.factor={copies}",
            *_security(self.folder.parent / "tls" / "broker.p12"),
            extra,
        ]
        (self.folder / "server.properties").write_text("\n".join(lines) + "\n")

    def format(self) -> None:
        """Make an empty log folder with the users in it."""
        users = [
            part
            for name, password in USERS.items()
            for hashed in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for part in ("--add-scram", f"{hashed}=[name={name},password={password}]")
        ]
        role = ["--standalone", *users] if self.node == 1 else []
        properties = str(self.folder / "server.properties")
        main = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", properties]
        subprocess.run(
            [*_java("128m"), *main, *role],
            check=True,
            timeout=START_SECONDS,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )

    def begin(self) -> None:
        """Start it; `await_started` waits until it serves."""
        self.log.unlink(missing_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*_java(self._heap), "kafka.Kafka", str(self.folder / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )

    def await_started(self) -> None:
        """Until it says that it serves; RuntimeError if it ended instead."""
        wait_until(self._started, seconds=START_SECONDS, what=f"Kafka node {self.node}")

    def start(self) -> None:
        """Start, and wait until it serves."""
        self.begin()
        self.await_started()

    def kill(self) -> None:
        """SIGKILL, and wait for its end; what is not running stays so."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def mend(self) -> None:
        """Start it again if it does not run: what one test broke is not the next one's."""
        assert self._process
        if self._process.poll() is not None:
            self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def _started(self) -> bool:
        assert self._process
        if self._process.poll() is not None:
            raise RuntimeError(f"Kafka node {self.node} ended: {self.log.read_text()[-2000:]}")
        return b"Kafka Server started" in self.log.read_bytes()


class Cluster:
    """Its nodes, and where clients find them."""

    def __init__(self, brokers: list[Broker], folder: Path) -> None:
        self.brokers = brokers
        self.ca = folder / "tls" / "ca.pem"

    def servers(self, listener: str = "PLAIN") -> list[str]:
        """Bootstrap addresses; those of PROXIED are the proxies'."""
        return [
            f"127.0.0.1:{broker.proxy.port}"
            if listener == "PROXIED" and broker.proxy
            else f"127.0.0.1:{broker.ports[listener]}"
            for broker in self.brokers
        ]

    def broker(self, node: int) -> Broker:
        """By its id."""
        return self.brokers[node - 1]

    def tool(self, name: str, *args: str) -> str:
        """What a command line tool of Kafka's prints, as `consumer.group.ShareGroupCommand`."""
        main = f"org.apache.kafka.tools.{name}"
        where = ["--bootstrap-server", self.servers()[0]]
        done = subprocess.run(
            [*_java("128m", quiet=True), main, *where, *args],
            check=True,
            timeout=TOOL_SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    def program(self, source: str) -> list[str]:
        """The command that runs a Java program of this folder, with the bootstrap address."""
        return [*_java("128m", quiet=True), str(HERE / source), self.servers()[0]]


@contextmanager
def cluster(
    folder: Path,
    nodes: int = 1,
    *,
    toxiproxy: Toxiproxy | None = None,
    extra: str = "",
    heap: str = "384m",
) -> Iterator[Cluster]:
    """A new cluster in an empty folder; `extra` are further properties. Killed with the context."""
    build()
    _make_certificate(folder / "tls")
    brokers = []
    for node in range(1, nodes + 1):
        home = folder / f"node{node}"
        home.mkdir()
        proxy = toxiproxy.proxy(f"127.0.0.1:{free_port()}") if toxiproxy else None
        brokers.append(Broker(node, home, proxy, heap))
    try:
        for broker in brokers:
            broker.configure(brokers[0].ports["CONTROLLER"], nodes, extra)
            broker.format()
            broker.begin()
        for broker in brokers:
            broker.await_started()
        yield Cluster(brokers, folder)
    finally:
        for broker in brokers:
            broker.kill()


def _addresses(ports: dict[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def _security(keystore: Path) -> Iterator[str]:
    mechanisms = {
        "plain": f"{JAAS}.plain.PlainLoginModule required "
        + " ".join(f'user_{name}="{password}"' for name, password in USERS.items()),
        "scram-sha-256": f"{JAAS}.scram.ScramLoginModule required",
        "scram-sha-512": f"{JAAS}.scram.ScramLoginModule required",
        "oauthbearer": f"{JAAS}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker"',
    }
    yield f"sasl.enabled.mechanisms={','.join(mechanisms).upper()}"
    for listener in ("sasl", "secure"):
        for mechanism, module in mechanisms.items():
            yield f"listener.name.{listener}.{mechanism}.sasl.jaas.config={module};"
    for listener in ("tls", "secure"):
        yield f"listener.name.{listener}.ssl.keystore.type=PKCS12"
        yield f"listener.name.{listener}.ssl.keystore.location={keystore}"
        yield f"listener.name.{listener}.ssl.keystore.password={KEYSTORE_PASSWORD}"
        yield f"listener.name.{listener}.ssl.key.password={KEYSTORE_PASSWORD}"


def _make_certificate(folder: Path) -> None:
    """`broker.p12` for the nodes, and `ca.pem` for clients: it is its own authority."""
    folder.mkdir()
    store = ["-alias", "broker", "-keystore", str(folder / "broker.p12")]
    store += ["-storepass", KEYSTORE_PASSWORD]
    names = ["-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1,dns:localhost", "-ext", "bc:c"]
    key = ["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30", "-storetype", "PKCS12"]
    _keytool("-genkeypair", *store, *key, *names)
    _keytool("-exportcert", "-rfc", *store, "-file", str(folder / "ca.pem"))


def _keytool(*args: str) -> None:
    subprocess.run(["keytool", *args], check=True, timeout=30, stderr=subprocess.DEVNULL)


def _java(heap: str, *, quiet: bool = False) -> list[str]:
    level = "error" if quiet else "info"
    flags = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    logs = f"-Dorg.slf4j.simpleLogger.defaultLogLevel={level}"
    return ["java", f"-Xmx{heap}", *flags, logs, "-cp", f"{JARS}/*"]


def _die_with_parent() -> None:
    """PR_SET_PDEATHSIG: also where the tests are killed and can end nothing."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
