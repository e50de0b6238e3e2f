"""The contract with collectors, kept for a collector that somebody else wrote and installed."""

import asyncio
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from telemetron.agents import CONFIGURATION_RANK
from telemetron.collector import Collector
from telemetron_collectors.heartbeats import collector as heartbeats
from telemetron_collectors.kubernetes import collector as kubernetes

MODULE = """
import asyncio
from telemetron.agents import AgentPart
from telemetron.collector import Collector, Config, Output
from telemetron.document import Instance

class AcmeConfig(Config, frozen=True):
    pass

async def run(config, output):
    for name in ("planner", "writer"):
        part = AgentPart(
            description=f"{{output.source}}'s {{name}}", models=["acme-1"], deployment_name="acme",
            instance=Instance(id="acme-instance", status="idle"), {more}
        )
        output.put("agents", name, name, part)
    output.confirm()
    await asyncio.Event().wait()

collector = Collector(
    name="acme", description="Agents of ACME.", config=AcmeConfig, sections=("agents",),
    max_age_seconds=lambda config: 30, run=run, {rank}
)
"""
CONFIG = """
sources: {acme: {}}
agents: [{name: planner, description: configured, max_parallel_invocations: 3}]
"""
Install = Callable[..., None]


@pytest.fixture
def install(site: Path) -> Iterator[Install]:
    """Installs the distribution `acme`, as a package manager does."""

    def install(rank: str = "", more: str = "") -> None:
        (site / "acme_telemetron.py").write_text(MODULE.format(rank=rank, more=more))
        info = site / "acme-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
        point = "[telemetron.collectors]\nacme = acme_telemetron:collector\n"
        (info / "entry_points.txt").write_text(point)
        importlib.invalidate_caches()

    yield install
    sys.modules.pop("acme_telemetron", None)


async def agents(live: Any, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The agents by name, once they are as wanted."""
    changed = asyncio.Event()
    live.app.service.store.watchers.append(lambda _: changed.set())
    async with asyncio.timeout(30):
        while True:
            changed.clear()
            listed = (await live.client.get("/system/state")).json()["agents"]
            found = {agent["name"]: agent for agent in listed}
            if wanted(found):
                return found
            await changed.wait()


async def test_its_agents_are_shown_and_merged_with_those_of_others(
    serving: Any, install: Install
) -> None:
    install()
    async with serving(CONFIG) as live:
        beat = {"instance": "i", "description": "beating", "models": ["gpt"]}
        answer = await live.client.post("/agents/writer/heartbeat", json=beat)
        assert answer.status_code == 204
        found = await agents(
            live, lambda found: "writer" in found and len(found["writer"]["sources"]) == 2
        )
        rows = (await live.client.get("/system/state/sources")).json()["sources"]
    writer, planner = found["writer"], found["planner"]
    assert writer["sources"] == ["acme", "heartbeats"]
    assert (writer["description"], writer["deployment_name"]) == ("beating", "acme")
    assert writer["models"] == ["acme-1", "gpt"]
    assert [one["id"] for one in writer["instances"]] == ["acme-instance", "i"]
    assert planner["sources"] == ["acme", "configuration"]
    assert planner["description"] == "configured", "by default it is believed last"
    (row,) = [row for row in rows if row["key"] == "acme"]
    assert (row["status"], row["entities"], row["problems"]) == ("ok", 2, [])


async def test_a_higher_rank_is_believed_first(serving: Any, install: Install) -> None:
    install(rank="agent_rank=150")
    async with serving(CONFIG) as live:
        found = await agents(live, lambda found: "writer" in found)
    assert found["planner"]["description"] == "acme's planner"


async def test_an_origin_of_its_own_is_accepted_and_ignored(serving: Any, install: Install) -> None:
    install(more='origin="heartbeat"')
    async with serving(CONFIG) as live:
        found = await agents(live, lambda found: "writer" in found)
    assert found["planner"]["description"] == "configured"


def test_the_built_in_collectors_are_believed_before_others() -> None:
    (default,) = [field.default for field in fields(Collector) if field.name == "agent_rank"]
    assert heartbeats.agent_rank > kubernetes.agent_rank > CONFIGURATION_RANK > default
