"""Start the server and the agents, print what to try, and stop them all."""

import argparse
import http.client
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from telemetron.demo.broker import (
    EXPIRY_SECONDS,
    BrokerError,
    DemoBroker,
    EmbeddedBroker,
    ExistingBroker,
)
from telemetron.demo.models import DemoProxy, NoProxyError
from telemetron.demo.process import free_port
from telemetron.demo.process import stop as stop_processes

AGENTS = ("planner", "researcher-1", "researcher-2", "writer")
PORT = 8080
READY_TIMEOUT = 20.0
"""Seconds the server may take to be ready."""

CONFIG = """\
id: demo
server: {{host: 127.0.0.1, port: {port}}}
log: {{level: warning}}
sources:
  heartbeats: {{stall_after_seconds: 10}}
"""
KAFKA = """\
  kafka:
    bootstrap_servers: ["{broker.address}"]
    queues:
      - topic: "{broker.prefix}sections"
        groups: ["{broker.prefix}researcher"]
        on_no_commit: earliest
        content_chars: 200
        fields: {{prompt: /body, args: /title, invoked_by: invoked-by}}
      - topic: "{broker.prefix}findings"
        groups: ["{broker.prefix}writer"]
        on_no_commit: earliest
        content_chars: 200
        fields: {{prompt: /summary/0, args: /title, invoked_by: invoked-by}}
"""
LITELLM = """\
  litellm: {{url: "{proxy.url}", key_file: "{proxy.key_file}", interval_seconds: 2}}
"""

WELCOME = """\
Telemetron watches four agent processes: {agents}.

  {url}/
  {url}/system/state
  {url}/swagger/

Worth trying in another terminal:

  curl -s {url}/system/state | jq '.agents[] | {{name, status, activity}}'
{queues}{models}  {telemetron} state --url {url}
  touch {run}/hang-researcher-2   # or crash-writer: any agent can hang or crash

Ctrl-C stops it.
"""
EXPIRED = "{member} left its consumer group: the demo removed it, as Kafka does after 10 s"
QUEUES = "  curl -s {url}/system/state | jq '.queues[] | {{name, depth, tasks}}'\n"
MODELS = "  curl -s {url}/system/state | jq '.litellm[] | {{id, status, rpm, spend, cooldowns}}'\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo's own command line; return the exit code."""
    parser = argparse.ArgumentParser("telemetron demo", description="Watch a multi-agent program.")
    parser.add_argument(
        "--port", type=int, metavar="N", help=f"default: {PORT} if it is free, else any free port"
    )
    parser.add_argument(
        "--hang", action="append", choices=AGENTS, help="agent that hangs in a task"
    )
    parser.add_argument(
        "--crash", action="append", choices=AGENTS, help="agent that dies in a task"
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="default: until Ctrl-C")
    parser.add_argument("--litellm", metavar="PROGRAM", help="run this LiteLLM proxy too")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="use this Kafka broker")
    options = vars(parser.parse_args(argv))
    return run(**{name: value for name, value in options.items() if value is not None})


def run(
    port: int | None = None,
    hang: Sequence[str] = (),
    crash: Sequence[str] = (),
    seconds: float | None = None,
    litellm: str | None = None,
    kafka: str | None = None,
) -> int:
    """Run the demo until SIGINT, SIGTERM or the end of `seconds`; return the exit code.

    If `litellm` names the program of a LiteLLM proxy, the researchers call a model through it. If
    `kafka` is the address of a broker, the demo creates its topics there and deletes them at the
    end; otherwise it starts the broker of telemetron[demo].

    Call it from the main thread: it handles signals.
    """
    try:
        port = _choose_port(port)
    except (OSError, OverflowError) as error:
        return _complain(f"port {port} of 127.0.0.1: {error}")
    stop = Stop()
    with _signals(stop), _folder() as folder:
        for fault, names in (("hang", hang), ("crash", crash)):
            for name in names:
                (folder / f"{fault}-{name}").touch()
        try:
            return Program(folder, port, litellm, kafka).run(stop, seconds)
        except BrokerError as error:
            return _complain(f"Kafka at {kafka}: {error}")


class Stop:
    """Whether a signal asked the demo to stop.

    This is not a threading.Event: a signal handler may interrupt `wait`, and `set` would then
    deadlock on the lock that both share.
    """

    def __init__(self) -> None:
        self.asked = False

    def wait(self, seconds: float) -> None:
        """Sleep for a short time; a signal does not end the sleep."""
        if not self.asked:
            time.sleep(seconds)


class Program:
    """The server and the agents of one run."""

    def __init__(
        self, folder: Path, port: int, litellm: str | None = None, kafka: str | None = None
    ) -> None:
        self._folder = folder
        self._litellm = litellm
        self._kafka = kafka
        self._proxy: DemoProxy | None = None
        self._port = port
        self._url = f"http://127.0.0.1:{port}"
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._broker: DemoBroker | None = None

    def run(self, stop: Stop, seconds: float | None) -> int:
        """Start everything, watch until `stop` or the end of `seconds`, and stop everything.

        Raise BrokerError if the user's broker cannot be used.
        """
        try:
            self._start_broker()
            self._start_proxy()
            return self._run(stop, seconds)
        finally:
            if self._proxy:
                stop_processes([self._proxy.process])
            if self._broker and (left := self._broker.stop()):
                _complain(left)

    def _run(self, stop: Stop, seconds: float | None) -> int:
        server = self._start_server()
        try:
            if not self._is_ready(server, stop):
                return 0 if stop.asked else _complain(f"Telemetron did not start on {self._url}")
            for name in AGENTS:
                self._agents[name] = self._start(
                    "telemetron.demo.agent", name, str(self._folder), *self._queues
                )
            self._welcome()
            return self._watch(server, stop, seconds)
        finally:
            stop_processes(list(self._agents.values()))
            stop_processes([server])

    def _welcome(self) -> None:
        installed = shutil.which("telemetron")
        text = WELCOME.format(
            agents=", ".join(AGENTS),
            url=self._url,
            telemetron="telemetron" if installed else f"{sys.executable} -m telemetron",
            run=self._folder,
            queues=QUEUES.format(url=self._url) if self._broker else "",
            models=MODELS.format(url=self._url) if self._proxy else "",
        )
        print(text, flush=True)

    @property
    def _models(self) -> dict[str, str]:
        return self._proxy.environment if self._proxy else {}

    @property
    def _queues(self) -> list[str]:
        return [self._broker.address, self._broker.prefix] if self._broker else []

    def _start_broker(self) -> None:
        if self._kafka:
            self._broker = ExistingBroker(self._kafka)
            self._broker.start()
            return
        try:
            self._broker = EmbeddedBroker(self._folder / "broker")
            self._broker.start()
        except BrokerError as error:
            if self._broker:
                self._broker.stop()
            self._broker = None
            print(f"The agents hand over work in folders, `queues` is empty: {error}.\n")

    def _start_proxy(self) -> None:
        """Start the proxy without waiting for it: it takes ten seconds to answer."""
        try:
            if self._litellm:
                self._proxy = DemoProxy(self._litellm, self._folder)
        except NoProxyError as error:
            print(f"The agents call no models, `litellm` is empty: {error}.\n")

    def _start_server(self) -> subprocess.Popen[bytes]:
        config = self._folder / "telemetron.yaml"
        kafka = KAFKA.format(broker=self._broker) if self._broker else ""
        litellm = LITELLM.format(proxy=self._proxy) if self._proxy else ""
        config.write_text(CONFIG.format(port=self._port) + kafka + litellm)
        return self._start("telemetron", "serve", "--config", str(config))

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        # In a new session, so that Ctrl-C reaches only this process, which stops the others.
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=_environment() | {"TELEMETRON_URL": self._url} | self._models,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _is_ready(self, server: subprocess.Popen[bytes], stop: Stop) -> bool:
        until = time.monotonic() + READY_TIMEOUT
        while time.monotonic() < until and server.poll() is None and not stop.asked:
            if _get_status(self._port, "/readyz") == 200:
                return True
            stop.wait(0.05)
        return False

    def _watch(self, server: subprocess.Popen[bytes], stop: Stop, seconds: float | None) -> int:
        """Report each agent that dies, until the run is over."""
        until = time.monotonic() + (math.inf if seconds is None else seconds)
        ended: dict[str, float] = {}
        next_expiry = time.monotonic()
        while not stop.asked and (now := time.monotonic()) < until:
            if server.poll() is not None:
                return _complain(f"Telemetron ended with exit code {server.returncode}")
            for name, process in self._agents.items():
                if name not in ended and process.poll() is not None:
                    ended[name] = now
                    print(f"{name} died ({_cause(process)}); the others go on", flush=True)
            if self._broker and now >= next_expiry:
                for member in self._broker.expire(ended):
                    print(EXPIRED.format(member=member), flush=True)
                next_expiry = now + EXPIRY_SECONDS
            stop.wait(min(0.2, max(0.0, until - time.monotonic())))
        return 0


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """Ask to stop on SIGINT, on SIGTERM and when the terminal closes."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def ask(*_: object) -> None:
        stop.asked = True

    before = [signal.signal(number, ask) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = tempfile.mkdtemp(prefix="telemetron-demo-")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    """Return the environment without variables meant for another Telemetron or agent."""
    foreign = ("TELEMETRON_", "SERVER_", "POD_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept.pop("LOG_LEVEL", None)
    return kept


def _choose_port(wanted: int | None) -> int:
    """Return the wanted port; without one, the usual port or any; raise OSError if none is free."""
    if wanted is not None:
        return free_port(wanted)
    try:
        return free_port(PORT)
    except OSError:
        return free_port()


def _get_status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _cause(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _complain(message: str) -> int:
    print(message, file=sys.stderr)
    return 1
