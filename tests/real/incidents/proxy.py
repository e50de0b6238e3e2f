"""The LiteLLM proxy: what a real one answers, with counters that move each second."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.collectors.litellm.scripted import Reply, ScriptedProxy, model
from tests.real.incidents.cluster import DAY

STOP_SECONDS = 5.0
COOLDOWN_SECONDS = 60
HEALTHY, DOWN = 0.0, 2.0
"""States of a deployment in the proxy's metrics."""


@dataclass
class Deployment:
    """One deployment of a model; the rates are calls per second."""

    id: str
    model: str
    upstream: str
    ok: float = 0.5
    fail: float = 0.0
    error: tuple[str, str] = ("Openai.RateLimitError", "429")
    """Class and status of its failures."""
    is_cooling: bool = False
    """Whether the router takes it out again and again."""
    tokens: int = 1800
    latency: float = 1.4
    rpm: int | None = None
    tpm: int | None = None
    cost: tuple[float, float] = (3e-6, 1.5e-5)
    mode: str = "chat"

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its metrics."""
        provider, _, name = self.upstream.partition("/")
        group = {"model_id": self.id, "model_group": self.model, "requested_model": self.model}
        names = {"api_provider": provider, "litellm_model_name": name, "api_key_alias": "None"}
        return {**group, **names}

    def row(self) -> dict[str, Any]:
        """Return its row of /model/info."""
        known = {"rpm": self.rpm, "tpm": self.tpm}
        limits = {name: limit for name, limit in known.items() if limit is not None}
        costs = {"input_cost_per_token": self.cost[0], "output_cost_per_token": self.cost[1]}
        about = {"db_model": False, "litellm_provider": self.upstream.partition("/")[0]}
        about |= {"mode": self.mode, "max_input_tokens": 200_000, "max_output_tokens": 64_000}
        return model(self.id, self.model, self.upstream, params=limits, **costs, **about)


class Proxy:
    """Its deployments by id, and what it counts."""

    def __init__(self, deployments: list[Deployment]) -> None:
        self.deployments = {one.id: one for one in deployments}
        self.refused: dict[str, float] = {}
        """By model, the calls per second that the router refuses."""
        self.unknown: dict[str, float] = {}
        """By name, the calls per second for a model that no deployment serves."""
        self._server = ScriptedProxy()

    async def start(self) -> None:
        """Serve; it has worked since yesterday."""
        server = self._server
        server.models = [one.row() for one in self.deployments.values()]
        server.settings = {"cooldown_time": COOLDOWN_SECONDS, "provider_budget_config": None}
        server.process, server.date = time.time() - DAY, time.time()
        for one in self.deployments.values():
            self._succeed(one, int(one.ok * 40_000))
        await server.start()

    async def stop(self) -> None:
        """End the server; connections that hang may take a while."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._server.stop(), STOP_SECONDS)

    def source(self) -> dict[str, Any]:
        """Return the configuration of the source that observes it."""
        return {"url": self._server.url, "key": self._server.key, "interval_seconds": 1}

    def hang(self) -> None:
        """Take connections from now on, and answer nothing."""
        self._server.everything = Reply(frozen=True)

    def tick(self, number: int) -> None:
        """Let a second pass; counters count whole calls."""

        def calls(rate: float) -> int:
            return int(rate * (number + 1)) - int(rate * number)

        self._server.date = time.time()
        for one in self.deployments.values():
            if not one.is_cooling:
                self._succeed(one, calls(one.ok))
                self._fail(one, calls(one.fail))
            elif number % 15 == 0:  # the cooldown is over, the first call fails, it begins again
                self._fail(one, 2)
                self._cool(one)
        for group, rate in self.refused.items():
            self._refuse(calls(rate), group, "RouterRateLimitError", "None")
        for name, rate in self.unknown.items():
            self._refuse(calls(rate), "", "ProxyException", "400", name)

    def _succeed(self, one: Deployment, calls: int) -> None:
        if not calls:
            return
        count = self._server.count
        count("litellm_deployment_total_requests_total", calls, **one.labels)
        count("litellm_deployment_success_responses_total", calls, **one.labels)
        count("litellm_total_tokens_metric_total", calls * one.tokens, **one.labels)
        spent = calls * one.tokens * one.cost[0] * 2
        count("litellm_spend_metric_total", spent, **one.labels)
        latency = "litellm_llm_api_latency_metric"
        count(f"{latency}_sum", calls * one.latency, **one.labels)
        count(f"{latency}_count", calls, **one.labels)
        self._set_state(one, HEALTHY)

    def _fail(self, one: Deployment, calls: int) -> None:
        if not calls:
            return
        error = {"exception_class": one.error[0], "exception_status": one.error[1]}
        count = self._server.count
        count("litellm_deployment_total_requests_total", calls, **one.labels)
        count("litellm_deployment_failure_responses_total", calls, **one.labels, **error)
        self._set_state(one, DOWN)

    def _cool(self, one: Deployment) -> None:
        labels = {"model_id": one.id, "api_provider": one.labels["api_provider"]}
        labels |= {"litellm_model_name": one.model, "exception_status": one.error[1]}
        self._server.count("litellm_deployment_cooled_down_total", 1, **labels)

    def _refuse(
        self, calls: int, group: str, error: str, status: str, name: str | None = None
    ) -> None:
        """Count calls that no deployment got."""
        if calls:
            asked = {"model_id": "", "model_group": group, "requested_model": name or group}
            asked["api_key_alias"] = "None"
            failed = {"exception_class": error, "exception_status": status}
            metric = "litellm_deployment_failure_responses_total"
            self._server.count(metric, calls, **asked, **failed)

    def _set_state(self, one: Deployment, state: float) -> None:
        names = ("api_provider", "litellm_model_name", "model_id")
        text = ",".join(f'{name}="{one.labels[name]}"' for name in names)
        self._server.samples["litellm_deployment_state", text] = state
