"""The page on writing a rule: its example is installed and finds what it is to find."""

import asyncio
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from telemetron.diagnosis import collector, rule
from telemetron.document import Queue

PAGE = (Path(__file__).parents[2] / "docs" / "writing-a-rule.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture
def _installed(site: Path) -> Iterator[None]:
    """The example, as a package manager would install it."""
    info = site / "old_tasks-1.0.0.dist-info"
    info.mkdir()
    (site / "old_tasks.py").write_text(block("python"))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: old-tasks\nVersion: 1.0.0\n")
    lines = []
    for group, points in tomllib.loads(block("toml"))["project"]["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("old_tasks", None)


@pytest.mark.usefixtures("_installed")
async def test_the_example_finds_an_old_task_and_no_other(serving: Any) -> None:
    config = "findings: {rules: {OldTask: {hold_seconds: 0, severity: info}}}"
    async with serving(config) as live:
        store = live.app.service.store
        source = store.add("inbox", "folder")
        source.start(60)
        now = datetime.now(UTC)
        for name, age in (("new", timedelta(minutes=59)), ("old", timedelta(minutes=61))):
            queue = Queue(name=name, depth=3, oldest_submitted_at=now - age)
            store.put(source, "queues", name, name, queue)
        source.confirm()
        (finding,) = await findings(live)
        assert finding["key"] == "OldTask/queues/inbox~1old~1-"
        assert finding["summary"] == "The oldest of 3 tasks in queue old is over an hour old"
        assert finding["severity"] == "info"
        assert [one["path"] for one in finding["evidence"]] == ["depth", "oldest_submitted_at"]


async def findings(live: Any) -> list[dict[str, Any]]:
    """The findings, once there are some."""
    changed = asyncio.Event()
    live.app.service.store.watchers.append(lambda _: changed.set())
    async with asyncio.timeout(30):
        while True:
            changed.clear()
            state = (await live.client.get("/system/state/findings")).json()
            if state["findings"]:
                found: list[dict[str, Any]] = state["findings"]
                return found
            await changed.wait()


@pytest.mark.usefixtures("_installed")
def test_the_example_stands_beside_the_built_in_rules() -> None:
    rules = collector.installed()
    assert {"OldTask", "NoConsumers"} <= set(rules)
    assert (rules["OldTask"].section, rules["OldTask"].hold_seconds) == ("queues", 60)


def test_each_node_of_the_table_is_known_to_the_rules() -> None:
    folder = Path(rule.__file__).parent / "rules"
    source = "".join(file.read_text("utf-8") for file in folder.rglob("*.py"))
    told = set(re.findall(r'\| `\("(\w+)"|, `\("(\w+)"', PAGE))
    kinds = {one or other for one, other in told}
    assert kinds
    for kind in kinds:
        assert f'("{kind}", ' in source, kind
