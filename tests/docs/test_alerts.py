"""The page on alerts: its configuration pages, its receiver verifies, its lists are complete."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import yaml
from msgspec import structs

from telemetron.notifications import event as events
from telemetron.notifications.pace import DEFAULTS
from telemetron.notifications.settings import WebhookSettings
from tests.conftest import Serving
from tests.ports import free_port
from tests.telemetron.notifications.receiver import SECRET

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text("utf-8")
SECONDS = 40


def block(language: str) -> str:
    """Return the first example in this language, without the indentation of a list."""
    text = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[0]
    return re.sub(r"^   ", "", text, flags=re.MULTILINE) if text.startswith("   ") else text


@asynccontextmanager
async def receiver(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """The receiver of the page as a process; yields what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        block("python"),
        env={"PORT": str(port), "WEBHOOK_SECRET": SECRET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout
    try:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            while await status(client, port) != 401:  # noqa: ASYNC110  (a process has no event)
                await asyncio.sleep(0.05)
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def status(client: httpx.AsyncClient, port: int) -> int | None:
    try:
        return (await client.post(f"http://127.0.0.1:{port}", content=b"{}")).status_code
    except httpx.TransportError:
        return None


async def test_the_first_page_comes_as_described(serving: Serving, tmp_path: Path) -> None:
    port = free_port()
    config: Any = yaml.safe_load(block("yaml"))
    config["webhooks"][0] |= {"url": f"http://127.0.0.1:{port}/"}
    config["webhooks"][0]["secret_file"] = str(tmp_path / "secret")
    config["history"] = {"url": f"sqlite:///{tmp_path}/history.db"}
    config["alertmanager"]["urls"] = ["http://127.0.0.1:1"]
    config["findings"] = {"rules": {"SourceFailing": {"hold_seconds": 0}}}
    (tmp_path / "secret").write_text(SECRET)
    async with (
        asyncio.timeout(SECONDS),
        receiver(port) as said,
        serving(yaml.safe_dump(config)),
    ):
        line = (await said.readline()).decode()
    assert line.startswith("finding.fired warning Source rehearsal does not run")
    assert "https://telemetron.example.org/system/state/findings/SourceFailing%2F" in line


def test_each_key_of_a_webhook_is_described() -> None:
    for field in structs.fields(WebhookSettings):
        assert f"`{field.name}" in PAGE


def test_each_type_of_event_is_described() -> None:
    for type in (events.CHANGE, events.GAP, events.TEST):
        assert f"| `{type}` |" in PAGE
    for kind in ("fired", "resolved"):
        assert f"| `{events.PREFIX}.finding.{kind}` |" in PAGE


def test_the_example_of_an_event_has_its_fields() -> None:
    shown = msgspec.json.decode(block("json"))
    made = events.make("prod", "t", "s", datetime.now(UTC), {}, 1)
    assert list(shown) == list(msgspec.json.decode(made.body()))


def test_the_waits_are_those_of_the_code() -> None:
    assert DEFAULTS.retries == (5, 30, 300, 1_800, 7_200, 28_800)
    assert "after 5 s, 30 s, 5 min, 30 min, 2 h, then every 8 h" in PAGE
    assert f"{DEFAULTS.queue:,} events" in PAGE
    assert f"within {DEFAULTS.timeout:g} s" in PAGE


def test_the_rules_of_the_page_are_yaml() -> None:
    found = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert [next(iter(yaml.safe_load(one))) for one in found] == ["groups", "alertmanager", "route"]
