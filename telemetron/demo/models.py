"""The full demo's model: a LiteLLM proxy with two deployments, and the agents' call."""

import http.client
import json
import os
import secrets
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from telemetron.demo.process import free_port
from telemetron.demo.provider import Provider

MODEL = "summariser"
URL, KEY = "DEMO_LITELLM_URL", "DEMO_LITELLM_KEY"
CALL_SECONDS = 10.0
# The proxy downloads nothing at its start.
OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "true",
}


class NoProxyError(Exception):
    """The proxy cannot be started; the text says why."""


class DemoProxy:
    """A LiteLLM proxy in a process of its own, on loopback."""

    def __init__(self, program: str, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.key = f"sk-{secrets.token_hex(16)}"
        self.key_file = folder / "litellm-key"
        self.key_file.write_text(self.key)
        config = folder / "litellm.yaml"
        provider = Provider()
        config.write_text(json.dumps(_config(provider, self.key)))  # JSON is YAML too
        try:
            self.process = _start(program, config, port)
        except NoProxyError:
            provider.shutdown()
            provider.server_close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make an agent call its models here."""
        return {URL: self.url, KEY: self.key}


def ask(text: str) -> str | None:
    """Return the model's answer to a text, or None if there is no proxy or no answer."""
    if URL not in os.environ:
        return None
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    headers = {
        "authorization": f"Bearer {os.environ[KEY]}",
        "content-type": "application/json",
    }
    request = urllib.request.Request(  # noqa: S310 (the address is the demo's own)
        f"{os.environ[URL]}/v1/chat/completions", json.dumps(body).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:  # noqa: S310
            content: str = json.load(answer)["choices"][0]["message"]["content"]
            return content
    except (OSError, http.client.HTTPException):
        return None


def _start(program: str, config: Path, port: int) -> "subprocess.Popen[bytes]":
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    try:
        return subprocess.Popen(
            command,
            env=os.environ | OFFLINE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise NoProxyError(f"{program} does not run here: {error.strerror}") from None


def _config(provider: Provider, key: str) -> dict[str, Any]:
    deployments = [
        {
            "model_name": MODEL,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": provider.base(name),
                "api_key": "none",
                "rpm": 60,
                "max_retries": 0,
                "input_cost_per_token": 1e-6,
                "output_cost_per_token": 4e-6,
            },
            "model_info": {"id": name, "mode": "chat", "max_input_tokens": 4096},
        }
        for name in ("steady", "flaky")
    ]
    budget = {"openai": {"budget_limit": 1, "time_period": "1d"}}
    return {
        "model_list": deployments,
        "router_settings": {
            "num_retries": 1,
            "allowed_fails": 0,
            "cooldown_time": 15,
            "provider_budget_config": budget,
        },
        "litellm_settings": {"callbacks": ["prometheus"]},
        "general_settings": {"master_key": key},
    }
