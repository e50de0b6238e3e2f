"""A scripted API server, and the collector that watches it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from telemetron.service.outputs import BoundOutput, Mounts
from telemetron.store.source import Source
from telemetron.store.store import Store
from telemetron_collectors.kubernetes import KubernetesConfig, collector
from telemetron_collectors.kubernetes.bounds import Bounds
from telemetron_collectors.kubernetes.observer import observe
from tests.collectors.kubernetes.apiserver import ApiServer, apiserver


def kubeconfig(url: str, **user: Any) -> str:
    """A kubeconfig for one server."""
    return yaml.safe_dump(
        {
            "current-context": "test",
            "contexts": [
                {"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "default"}}
            ],
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": user or {"token": "t"}}],
        }
    )


class Observed:
    """A running source, and its part of the document."""

    def __init__(self, store: Store, source: Source, run: "asyncio.Task[None]") -> None:
        self.store = store
        self.run = run
        self.source = source
        self._news = asyncio.Event()
        store.watchers.append(lambda publication: self._news.set())

    def section(self, name: str) -> dict[str, Any]:
        """Its entities by key, without the source's name."""
        rope = self.store.snapshot.sections[name].rope
        return {one.entity.key.removeprefix("kubernetes/"): one.entity for one in rope}

    @property
    def workloads(self) -> dict[str, Any]:
        return self.section("workload")

    @property
    def agents(self) -> dict[str, Any]:
        return self.section("agents")

    @property
    def status(self) -> str:
        return self.source.row().status

    @property
    def problems(self) -> dict[str, str]:
        """Reasons by scope, without missing usage figures."""
        return {
            one.scope: one.reason
            for one in self.source.row().problems
            if one.reason != "MetricsUnavailable"
        }

    def message(self, scope: str) -> str:
        return next(one.message for one in self.source.row().problems if one.scope == scope)

    @property
    def names(self) -> list[str]:
        """The names of its workloads."""
        return [key.rpartition("/")[2] for key in self.workloads]

    async def until_ok(self) -> None:
        """Wait until the source is ok, and has no problem."""
        await self.until(lambda: self.status == "ok" and self.problems == {})

    async def until(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        """Wait until the condition is true."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.source.row()} {self.run}") from None


Observing = Callable[..., AbstractAsyncContextManager[Observed]]


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with apiserver() as server:
        yield server


# Retries are ten times as quick.
QUICK = Bounds(
    first_retry_seconds=0.025, max_retry_seconds=1, probe_retry_seconds=1, resume_seconds=0.1
)


@pytest.fixture
def observing(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Observing:
    """`async with observing(namespaces=["*"]) as observed`: the collector, with quick retries.

    `bounds` are other limits and durations, by name.
    """
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)

    @asynccontextmanager
    async def run(
        promise: float | None = None, bounds: dict[str, Any] | None = None, **keys: Any
    ) -> AsyncIterator[Observed]:
        file = tmp_path / "kubeconfig"
        if not file.exists():
            file.write_text(kubeconfig(api.url))
        keys = {"namespaces": ["*"], **keys}
        config = KubernetesConfig(config="kubeconfig", kubeconfig=str(file), **keys)
        store = Store("test")
        source = store.add("kubernetes", "kubernetes")
        source.load(30)
        source.start(promise or collector.max_age_seconds(config))
        output = BoundOutput(store, source, collector, Mounts())
        task = asyncio.ensure_future(observe(config, output, replace(QUICK, **(bounds or {}))))
        observed = Observed(store, source, task)
        try:
            yield observed
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=30)
            output.close()
            source.stop()
            assert task.cancelled(), task

    return run
