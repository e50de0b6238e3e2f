"""A real Alertmanager: one notification for each finding, however often Telemetron restarts."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import httpx
import pytest

from tests.ports import free_port
from tests.real.notifications.system import System
from tests.real.process import running
from tests.telemetron.notifications.receiver import Receiver, receiving

PROGRAM = "prometheus-alertmanager"
CONFIG = """
route: {{receiver: pager, group_by: [alertname, system], group_wait: 1s, group_interval: 1s}}
receivers:
  - name: pager
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""
PACE = {"repeat": 0.5, "least": 0.1, "valid": 60.0, "resolved": 60.0, "grace": 1.0, "tick": 0.1}
STORM = [f"storm-{number}" for number in range(100)]
SECONDS = 60

pytestmark = pytest.mark.skipif(not shutil.which(PROGRAM), reason=f"{PROGRAM} is not installed")


@asynccontextmanager
async def alertmanager(folder: Path, pager: Receiver) -> AsyncIterator[httpx.AsyncClient]:
    """An Alertmanager that notifies the pager; yields a client of its API."""
    config, port = folder / "alertmanager.yml", free_port()
    config.write_text(CONFIG.format(url=pager.url))
    command = [
        PROGRAM,
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(command, log=folder / "alertmanager.log"):
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
            await until(client, lambda _: True)
            yield client


async def until(client: httpx.AsyncClient, true: Callable[[Any], bool]) -> None:
    """Wait until the Alertmanager's alerts are so: it has no event for that."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                if true((await client.get("/api/v2/alerts")).json()):
                    return
            except httpx.TransportError:  # it is starting
                pass
            await asyncio.sleep(0.1)


def reported_since(at: datetime) -> Callable[[Any], bool]:
    """Return whether there is an alert, and Telemetron has reported it since then."""
    return lambda alerts: (
        bool(alerts) and all(datetime.fromisoformat(one["updatedAt"]) > at for one in alerts)
    )


def names(notification: Any) -> list[str]:
    """The queues of a notification; those that ended lately are listed in it, too."""
    alerts = [one for one in notification["alerts"] if one["status"] == notification["status"]]
    return sorted(one["labels"]["queue"] for one in alerts)


async def test_one_notification_for_each_finding_over_restarts(tmp_path: Path) -> None:
    async with receiving() as pager, alertmanager(tmp_path, pager) as client:
        pager.always = 200
        url = str(client.base_url)
        system = System(tmp_path, ["plans", *STORM], PACE, alertmanager={"urls": [url]})
        await system.start()
        try:
            system.set(0, "plans")
            await pager.took(1)
            for by in (SIGTERM, SIGKILL, SIGKILL):
                await system.end(by)
                restarted_at = datetime.now(UTC)
                await system.start()
                await until(client, reported_since(restarted_at))
            system.set(1, "plans")
            await pager.took(2)
            system.set(0, *STORM)  # whatever came in between would come before it
            taken = [one.body for one in await pager.took(3)]
        finally:
            await system.end()
    assert [(one["status"], names(one)) for one in taken] == [
        ("firing", ["plans"]),
        ("resolved", ["plans"]),
        ("firing", sorted(STORM)),
    ]
    assert taken[0]["alerts"][0]["labels"] == {
        "alertname": "NoConsumers",
        "severity": "critical",
        "system": "telemetron",
        "section": "queues",
        "queue": "plans",
        "group": "readers",
    }
