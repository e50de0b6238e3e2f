"""Telemetron and agents as processes of their own."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest

from tests.ports import free_port
from tests.real.process import running

START_SECONDS = 30


class Server:
    """A running `telemetron serve`."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def get(self, path: str, **query: Any) -> Any:
        """The answer; of a problem its document."""
        url = f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return json.loads(response.read())
        except HTTPError as error:
            with error:
                return json.loads(error.read())

    def place(self) -> str:
        """The newest."""
        state = self.get("/system/state")
        return f"{state['epoch']}.{state['revision']}"

    def beat(self, name: str, **fields: Any) -> None:
        """A heartbeat of an agent's only instance."""
        body = json.dumps({"instance": name, "namespace": "prod", **fields}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/agents/{name}/heartbeat", body, headers)
        urllib.request.urlopen(request, timeout=10).close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended: {self.log.read_text()}")
        try:
            urllib.request.urlopen(f"{self.url}/livez", timeout=5).close()
        except OSError:
            return False
        return True


Serving = Callable[..., Any]


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """`with serving({"history": …}) as server`: with this configuration."""

    @contextmanager
    def serve(config: dict[str, Any]) -> Iterator[Server]:
        file = tmp_path / "telemetron.yaml"
        file.write_text(json.dumps(config))
        port = free_port()
        log = tmp_path / "server.log"
        command = [sys.executable, "-m", "telemetron", "serve", f"--config={file}"]
        with running([*command, f"--port={port}"], log=log) as process:
            server = Server(process, port, log)
            end = time.monotonic() + START_SECONDS
            while not server.answers():
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.01)
            yield server

    return serve
