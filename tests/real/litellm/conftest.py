"""One proxy, its provider and a Telemetron that watches it, for all tests of this folder."""

import json
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.real.litellm.proxy import MASTER_KEY, LiteLLM, litellm
from tests.real.litellm.upstream import Mood, Upstream, upstream
from tests.real.process import running, wait_until

INTERVAL = 1.0
COOLDOWN = 6
NAMES = ("counted", "paid", "slow", "limited", "broken")
PRICES = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}


class System:
    """The proxy `litellm` behind the provider `upstream`, and what Telemetron says of it."""

    def __init__(self, upstream: Upstream, litellm: LiteLLM, plain: LiteLLM, url: str) -> None:
        self.upstream = upstream
        self.litellm = litellm
        self.plain = plain
        """Another proxy, without metrics and budgets; `wait` for it."""
        self.url = url
        self.started = time.monotonic()

    def state(self) -> Any:
        with urllib.request.urlopen(f"{self.url}/system/state", timeout=10) as answer:
            return json.load(answer)

    def model(self, id: str) -> Any:
        return next(one for one in self.state()["litellm"] if one["id"] == id)

    def source(self) -> Any:
        return next(one for one in self.state()["sources"] if one["key"] == "litellm")

    def until(self, true: Callable[[], bool], seconds: float, what: str) -> float:
        """How long it took."""
        began = time.monotonic()
        wait_until(true, seconds=seconds, what=what)
        return time.monotonic() - began


def config(upstream: Upstream) -> dict[str, Any]:
    """A deployment for each of the names, and one of a provider that is not there."""
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": "openai/gpt-4o",
                "api_key": "none",
                "api_base": upstream.base(name),
                "max_retries": 0,
                "rpm": 1000,
                "tpm": 100000,
                **PRICES,
            },
            "model_info": {"id": f"{name}-1", "payment_type": "postpaid"},
        }
        for name in NAMES
    ]
    dead = {"model": "ollama/llama3", "api_base": "http://127.0.0.1:9", "max_retries": 0}
    return {
        "model_list": [
            *models,
            {"model_name": "dead", "litellm_params": dead, "model_info": {"id": "dead-1"}},
        ],
        "router_settings": {
            "num_retries": 0,
            "allowed_fails": 0,
            "cooldown_time": COOLDOWN,
            "provider_budget_config": {"openai": {"budget_limit": 10, "time_period": "1d"}},
        },
        "litellm_settings": {"callbacks": ["prometheus"]},
        "general_settings": {"master_key": MASTER_KEY},
    }


def plain_config(upstream: Upstream) -> dict[str, Any]:
    """No callback, no budgets."""
    params = {"model": "openai/gpt-4o", "api_key": "none", "api_base": upstream.base("plain")}
    return {
        "model_list": [
            {"model_name": "m", "litellm_params": params, "model_info": {"id": "plain-1"}}
        ],
        "general_settings": {"master_key": MASTER_KEY},
    }


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("litellm")
    with upstream() as provider:
        provider.moods = {
            "limited": Mood(429),
            "broken": Mood(500),
            "slow": Mood(delay=0.5),
        }
        (folder / "plain").mkdir()
        plain = LiteLLM(folder / "plain", plain_config(provider))
        try:
            plain.start()
            with litellm(folder, config(provider)) as proxy:
                yield from _watched(folder, provider, proxy, plain)
        finally:
            plain.close()


def _watched(folder: Path, provider: Upstream, proxy: LiteLLM, plain: LiteLLM) -> Iterator[System]:
    (folder / "key").write_text(MASTER_KEY + "\n")
    options = {
        "url": proxy.url,
        "key_file": str(folder / "key"),
        "interval_seconds": INTERVAL,
    }
    file = folder / "telemetron.yaml"
    file.write_text(json.dumps({"sources": {"litellm": options}}))
    port = free_port()
    command = [sys.executable, "-m", "telemetron", "serve", "--config", str(file)]
    log = folder / "telemetron.log"
    with running(command, env={"SERVER_PORT": str(port)}, log=log):
        system = System(provider, proxy, plain, f"http://127.0.0.1:{port}")
        wait_until(lambda: _is_ok(system), seconds=30, what="the source litellm")
        system.started = time.monotonic()
        yield system


def _is_ok(system: System) -> bool:
    try:
        return bool(system.source()["status"] == "ok")
    except OSError:
        return False
