"""A Telemetron in a process of its own, for what a test's event loop would hinder."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from tests.ports import free_port
from tests.real.process import running, wait_until

_open = build_opener(ProxyHandler({})).open


@contextmanager
def telemetron(folder: Path, sources: Mapping[str, Any]) -> Iterator[str]:
    """Its URL, once it answers."""
    config = folder / "telemetron.json"
    config.write_text(json.dumps({"sources": {"heartbeats": {}, **sources}}))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "telemetron", "serve", f"--config={config}"]
    with running([*command, f"--port={port}"], log=folder / "telemetron.log"):
        wait_until(lambda: _answers(url), seconds=60, what="telemetron")
        yield url


def state(url: str) -> Any:
    """The document."""
    with _open(f"{url}/system/state", timeout=10) as answer:
        return json.load(answer)


def addresses(url: str) -> dict[str, str]:
    """The address of each pod."""
    return {
        pod["pod_id"]: pod["ip"] for workload in state(url)["workload"] for pod in workload["pods"]
    }


def _answers(url: str) -> bool:
    try:
        with _open(f"{url}/livez", timeout=1):
            return True
    except URLError:
        return False
