"""Starts the server and the agents, says what to try, and stops them all."""

import argparse
import http.client
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from telemetron.demo.broker import Broker, NoBrokerError
from telemetron.demo.models import NoProxyError, Proxy

AGENTS = ("planner", "researcher-1", "researcher-2", "writer")
PORT = 8080
READY_TIMEOUT = 20.0
"""Seconds the server may take to be ready."""
STOP_TIMEOUT = 1.2
"""Seconds that the agents, and then the server, may take to stop before they are killed."""

CONFIG = """\
id: demo
server: {{host: 127.0.0.1, port: {port}}}
log: {{level: warning}}
sources:
  heartbeats: {{stall_after_seconds: 10}}
"""
KAFKA = """\
  kafka:
    bootstrap_servers: ["{address}"]
    queues:
      - topic: sections
        groups: [researcher]
        on_no_commit: earliest
        content_chars: 200
        fields: {{prompt: /body, args: /title, invoked_by: invoked-by}}
      - topic: findings
        groups: [writer]
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
QUEUES = "  curl -s {url}/system/state | jq '.queues[] | {{name, depth, tasks}}'\n"
MODELS = "  curl -s {url}/system/state | jq '.litellm[] | {{id, status, rpm, spend, cooldowns}}'\n"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of the demo; returns the exit code."""
    parser = argparse.ArgumentParser("telemetron demo", description="Watch a multi-agent program.")
    parser.add_argument(
        "--port", type=int, metavar="N", help=f"default: {PORT} where free, else any"
    )
    parser.add_argument("--hang", action="append", choices=AGENTS, help="who hangs in a task")
    parser.add_argument("--crash", action="append", choices=AGENTS, help="who dies in a task")
    parser.add_argument("--seconds", type=float, metavar="N", help="default: until Ctrl-C")
    parser.add_argument("--litellm", metavar="PROGRAM", help="run this LiteLLM proxy too")
    options = parser.parse_args(argv)
    return run(
        options.port, options.hang or (), options.crash or (), options.seconds, options.litellm
    )


def run(
    port: int | None = None,
    hang: Sequence[str] = (),
    crash: Sequence[str] = (),
    seconds: float | None = None,
    litellm: str | None = None,
) -> int:
    """Run the demo until SIGINT, SIGTERM or the end of `seconds`; returns the exit code.

    With the program of a LiteLLM proxy, the researchers call a model through it.

    Must be called from the main thread.
    """
    try:
        port = _free_port(port)
    except (OSError, OverflowError) as error:
        return _complain(f"port {port} of 127.0.0.1: {error}")
    stop = Stop()
    with _signals(stop), _folder() as folder:
        for fault, names in (("hang", hang), ("crash", crash)):
            for name in names:
                (folder / f"{fault}-{name}").touch()
        return Program(folder, port, litellm).run(stop, seconds)


class Stop:
    """Whether a signal asked the demo to stop.

    Not a threading.Event: its `wait` and its `set` share a lock that is not reentrant, and a signal
    handler runs in the midst of the former.
    """

    def __init__(self) -> None:
        self.asked = False

    def wait(self, seconds: float) -> None:
        """Sleep, even if a signal comes: so give few seconds."""
        if not self.asked:
            time.sleep(seconds)


class Program:
    """The server and the agents of one run."""

    def __init__(self, folder: Path, port: int, litellm: str | None = None) -> None:
        self._folder = folder
        self._litellm = litellm
        self._proxy: Proxy | None = None
        self._port = port
        self._url = f"http://127.0.0.1:{port}"
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._broker: Broker | None = None

    def run(self, stop: Stop, seconds: float | None) -> int:
        """Start all, watch until `stop` or the end of `seconds`, stop all."""
        try:
            self._start_broker()
            self._start_proxy()
            return self._run(stop, seconds)
        finally:
            _stop([one.process for one in (self._broker, self._proxy) if one])

    def _run(self, stop: Stop, seconds: float | None) -> int:
        server = self._start_server()
        try:
            if not self._is_ready(server, stop):
                return 0 if stop.asked else _complain(f"Telemetron did not start on {self._url}")
            for name in AGENTS:
                self._agents[name] = self._start(
                    "telemetron.demo.agent", name, str(self._folder), *self._address
                )
            self._welcome()
            return self._watch(server, stop, seconds)
        finally:
            _stop(list(self._agents.values()))
            _stop([server])

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
    def _address(self) -> list[str]:
        return [self._broker.address] if self._broker else []

    def _start_broker(self) -> None:
        try:
            self._broker = Broker(self._folder / "broker")
            self._broker.wait()
        except NoBrokerError as error:
            if self._broker:
                _stop([self._broker.process])
            self._broker = None
            print(f"The agents hand over work in folders, `queues` is empty: {error}.\n")

    def _start_proxy(self) -> None:
        """Which takes ten seconds, and is not waited for: Telemetron says what is not there yet."""
        try:
            if self._litellm:
                self._proxy = Proxy(self._litellm, self._folder)
        except NoProxyError as error:
            print(f"The agents call no models, `litellm` is empty: {error}.\n")

    def _start_server(self) -> subprocess.Popen[bytes]:
        config = self._folder / "telemetron.yaml"
        kafka = KAFKA.format(address=self._broker.address) if self._broker else ""
        litellm = LITELLM.format(proxy=self._proxy) if self._proxy else ""
        config.write_text(CONFIG.format(port=self._port) + kafka + litellm)
        return self._start("telemetron", "serve", "--config", str(config))

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        # In a session of its own: Ctrl-C reaches this process alone, which stops the others.
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
        """Until it is over: say who died."""
        until = time.monotonic() + (math.inf if seconds is None else seconds)
        running = dict(self._agents)
        while not stop.asked and time.monotonic() < until:
            if server.poll() is not None:
                return _complain(f"Telemetron ended with exit code {server.returncode}")
            for name, process in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    print(f"{name} died ({_cause(process)}); the others go on", flush=True)
            stop.wait(min(0.2, max(0.0, until - time.monotonic())))
        return 0


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """SIGINT, SIGTERM and the end of the terminal ask to stop."""
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
    """Without what configures another Telemetron or another agent."""
    foreign = ("TELEMETRON_", "SERVER_", "POD_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept.pop("LOG_LEVEL", None)
    return kept


def _free_port(wanted: int | None) -> int:
    """The wanted port; else the usual one, or any where that is taken. OSError: none is free."""
    if wanted is not None:
        return _probe(wanted)
    try:
        return _probe(PORT)
    except OSError:
        return _probe(0)


def _probe(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        free: int = probe.getsockname()[1]
        return free


def _get_status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End them, by force those that take too long, and reap them."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + STOP_TIMEOUT
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cause(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _complain(message: str) -> int:
    print(message, file=sys.stderr)
    return 1
