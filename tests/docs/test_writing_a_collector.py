"""The page on writing a collector: its example is installed and run, and so is its test."""

import asyncio
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from telemetron.collector import Collector, Output

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "writing-a-collector.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def installed(site: Path) -> Iterator[Path]:
    """Return the folder with the example, installed as by a package manager."""
    info = site / "telemetron_folder-1.0.0.dist-info"
    info.mkdir()
    module, test = blocks("python")
    (site / "folder.py").write_text(module)
    (site / "test_folder.py").write_text(test)
    (project,) = map(tomllib.loads, blocks("toml"))
    name, version = project["project"]["name"], project["project"]["version"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, points in project["project"]["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    importlib.invalidate_caches()
    yield site
    sys.modules.pop("folder", None)


@pytest.mark.usefixtures("installed")
async def test_the_example_runs(serving: Any, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(3):
        (inbox / str(number)).touch()
    (config,) = blocks("yaml")
    config = config.replace("path: /var/spool/inbox", f"path: {inbox}, interval_seconds: 0.1")
    async with serving(config) as live:
        (queue,) = await queues(live, lambda queues: queues)
        assert f"`{queue['key']}`" in PAGE
        assert (queue["depth"], queue["depth_exact"], queue["source"]) == (3, True, "inbox")
        (inbox / "0").unlink()
        await queues(live, lambda queues: queues[0]["depth"] == 2)
        (row,) = [row for row in await sources(live) if row["key"] == "inbox"]
        assert (row["status"], row["entities"]) == ("ok", 1)


async def queues(live: Any, wanted: Any) -> list[dict[str, Any]]:
    """The queues, once they are as wanted."""
    changed = asyncio.Event()
    live.app.service.store.watchers.append(lambda _: changed.set())
    async with asyncio.timeout(30):
        while True:
            changed.clear()
            found: list[dict[str, Any]] = (await live.client.get("/system/state")).json()["queues"]
            if wanted(found):
                return found
            await changed.wait()


async def sources(live: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await live.client.get("/system/state")).json()["sources"]
    return found


def test_the_test_of_the_example_passes(installed: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_folder.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # it needs none
    done = subprocess.run(
        command, cwd=installed, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_whole_contract_is_told() -> None:
    methods = [name for name in vars(Output) if not name.startswith("_")]
    assert "put" in methods
    for name in [*methods, *Output.__annotations__]:
        assert re.search(rf"\| .*`(await )?{name}[`(].* \|", PAGE), name
    for field in fields(Collector):
        assert f"`{field.name}`" in PAGE
