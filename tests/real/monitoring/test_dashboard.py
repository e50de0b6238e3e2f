"""Every query of the dashboard, asked of a real Prometheus that scrapes a live demo."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from telemetron.document import Cooldowns, Live, ModelDeployment, Workload
from telemetron.store.store import Store
from tests.ports import free_port
from tests.real.monitoring.prometheus import COMPONENTS, Prometheus, prometheus, require
from tests.real.process import running

DASHBOARD = json.loads((COMPONENTS / "monitoring/dashboard.json").read_text("utf-8"))
VALUES = {"__rate_interval": "10s", "__all": ".*"}


def queries() -> dict[str, str]:
    """Return the expressions by their panels, and those of the variables, with all values."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
    }
    for variable in DASHBOARD["templating"]["list"]:
        if match := re.match(r"label_values\((.*), (\w+)\)", variable.get("definition", "")):
            found[f"${variable['name']}"] = f"count by ({match[2]}) ({match[1]})"
    return {name: re.sub(r"\$(\w+)", _value, expr) for name, expr in found.items()}


def _value(match: "re.Match[str]") -> str:
    return VALUES.get(match[1], VALUES["__all"])


def fill(store: Store) -> None:
    """Put what the demo lacks: a workload, and a model that was used for more than a minute."""
    source = store.add("put", "put")
    source.start(600)
    source.confirm()
    live = Live(rollout="complete")
    workload = Workload(deployment_name="w", namespace="prod", kind="Deployment", live=live)
    store.put(source, "workload", "w", "w", workload)
    model = ModelDeployment(
        id="d",
        model="gpt",
        status="cooling_down",
        cooldown_until=datetime.now(UTC) + timedelta(minutes=1),
        cooldowns=Cooldowns(count=2),
        tpm=100.0,
        tpm_max=1000,
        rpm=5.0,
        rpm_max=60,
    )
    store.put(source, "litellm", "d", "d", model)


@asynccontextmanager
async def scraped(serving: Callable[..., Any], folder: Path) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes the demo, and a server with models and workloads."""
    port = free_port()
    demo = [sys.executable, "-m", "telemetron.demo", "--port", str(port), "--hang", "researcher-2"]
    with running(demo, log=folder / "demo.log"):
        async with serving() as live:
            fill(live.app.service.store)
            addresses = [f"127.0.0.1:{port}", live.url.removeprefix("http://")]
            targets = {"/metrics": addresses[:1], "/metrics/state": addresses}
            with prometheus(folder, targets) as url:
                server = Prometheus(url)
                yield server
                await server.close()


async def test_no_query_of_the_dashboard_is_empty(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    require("prometheus")
    waiting = queries()
    assert len(waiting) > 25
    async with scraped(serving, tmp_path) as server:
        try:
            async with asyncio.timeout(120):
                await server.started()
                while waiting := {  # noqa: ASYNC110 (Prometheus tells nobody)
                    name: one for name, one in waiting.items() if not await server.query(one)
                }:
                    await asyncio.sleep(0.5)
        except TimeoutError:
            pytest.fail(f"empty: {waiting}; {await server.targets()}")
        # The labels stay as they were, and all scrapes succeed.
        assert await server.query('{exported_namespace=~".+"}') == []
        assert {row["health"] for row in await server.targets()} == {"up"}
