"""Prometheus and promtool of Debian's package `prometheus`."""

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port
from tests.real.deploy.kustomize import DEPLOY
from tests.real.process import running

COMPONENTS = DEPLOY / "components"
RULES = (
    "monitoring/prometheusrule.yaml",
    "monitoring/state-rules.yaml",
    "kminion/rules-compat.yaml",
)


def require(*programs: str) -> None:
    """Skip the test if a program is not installed."""
    if missing := [name for name in programs if not shutil.which(name)]:
        pytest.skip(f"not installed: {', '.join(missing)}")


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url, trust_env=False)

    async def started(self) -> None:
        """Wait until it answers."""
        while True:
            try:
                if (await self._client.get("/-/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)

    async def query(self, expression: str) -> list[Any]:
        """Return the samples; the test fails on an error in the expression."""
        answer = (await self._client.get("/api/v1/query", params={"query": expression})).json()
        assert answer["status"] == "success", (expression, answer)
        result: list[Any] = answer["data"]["result"]
        return result

    async def targets(self) -> list[Any]:
        answer = (await self._client.get("/api/v1/targets")).json()
        active: list[Any] = answer["data"]["activeTargets"]
        return active

    async def close(self) -> None:
        await self._client.aclose()


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, list[str]]) -> Iterator[str]:
    """Scrape these addresses by path each second; yields the URL of Prometheus."""
    require("prometheus")
    scrapes = [
        {
            "job_name": path,
            "metrics_path": path,
            "honor_labels": path == "/metrics/state",
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "static_configs": [{"targets": addresses}],
        }
        for path, addresses in targets.items()
    ]
    file = folder / "prometheus.yml"
    file.write_text(json.dumps({"scrape_configs": scrapes}))
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with running(command, log=folder / "prometheus.log"):
        yield f"http://127.0.0.1:{port}"
