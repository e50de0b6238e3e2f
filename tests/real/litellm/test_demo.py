"""The full demo: agents that call a model through a real proxy, and what the state says of both."""

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.real.litellm.proxy import build
from tests.real.process import running, wait_until


def test_agents_call_their_model_through_the_proxy(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "telemetron.demo", "--port", str(port)]
    command += ["--litellm", str(build()), "--seconds", "240"]

    def state() -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/system/state", timeout=5) as said:
                return json.load(said)
        except OSError:
            return None

    def is_called() -> bool:
        now = state()
        if not now:
            return False
        spent = sum(one["spend"] or 0 for one in now["litellm"])
        statuses = {one["status"] for one in now["litellm"]}
        return spent > 0 and "healthy" in statuses

    with running(command, log=tmp_path / "demo.log"):
        wait_until(is_called, seconds=150, what="a call of the model")
        now = state()
    assert {one["key"] for one in now["litellm"]} == {"litellm/steady", "litellm/flaky"}
    researcher = next(agent for agent in now["agents"] if agent["name"] == "researcher")
    assert (
        researcher["models"] == ["summariser"] == sorted({one["model"] for one in now["litellm"]})
    )
    assert next(one for one in now["sources"] if one["key"] == "litellm")["status"] == "ok"
