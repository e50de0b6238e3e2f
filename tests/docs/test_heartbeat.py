"""The page on the heartbeat: its examples run, and its tables agree with the code."""

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import fields

from telemetron.document import MAX_ENDED as SHOWN_ENDED
from telemetron.document import MAX_WAITS as SHOWN_WAITS
from telemetron_collectors.heartbeats import register, states
from telemetron_collectors.heartbeats.batch import MAX_BATCH, MAX_BEATS, MAX_COMMAS, MAX_PENDING
from telemetron_collectors.heartbeats.beat import (
    MAX_ENDED,
    MAX_TASKS,
    MAX_WAITS,
    Beat,
    BeatEnd,
    BeatTask,
    BeatWait,
)

PAGE = (Path(__file__).parents[2] / "docs" / "heartbeat.md").read_text("utf-8")
EXAMPLES = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


def rows(title: str) -> dict[str, tuple[str, str]]:
    """Return the value and the meaning of each field, from the table with this title."""
    table = PAGE.partition(f"| {title} |")[2].partition("\n\n")[0]
    found = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \|", table, re.MULTILINE)
    return {
        name: (value, re.sub(r"\[(.*?)\]\(.*?\)", r"\1", meaning)) for name, value, meaning in found
    }


@pytest.mark.parametrize(
    ("title", "type"),
    [
        ("Field", Beat),
        ("Field of a task", BeatTask),
        ("Field of an end", BeatEnd),
        ("Field of a wait", BeatWait),
    ],
)
def test_the_tables_have_each_field_as_the_schema_describes_it(title: str, type: Any) -> None:
    table = rows(title)
    assert {name: meaning for name, (_, meaning) in table.items()} == {
        name: schema["description"]
        for name, schema in msgspec.json.schema_components([type])[1][type.__name__][
            "properties"
        ].items()
    }
    required = [field.name for field in fields(type) if field.required]
    assert [name for name, (value, _) in table.items() if "required" in value] == (
        [*required, "last_failure"] if type is Beat else required
    )


def test_the_bounds() -> None:
    assert rows("Field")["tasks"][0] == f"at most {MAX_TASKS:,}"
    assert rows("Field")["ended"][0] == f"at most {MAX_ENDED}"
    assert f"shows the {SHOWN_ENDED} ends" in PAGE
    assert rows("Field of a task")["waits"][0] == f"at most {MAX_WAITS:,}"
    for bound in (
        f"{register.LIMITS.agents:,} agents",
        f"{register.LIMITS.instances:,} instances",
        f"{register.LIMITS.instances_per_agent:,} of this agent",
    ):
        assert bound in PAGE


def test_the_states() -> None:
    table = PAGE.partition("| `status` | shown as |")[2].partition("\n\n")[0]
    assert f"the {SHOWN_WAITS} oldest are shown" in PAGE
    for state in {*states.STATES, *states.OUTCOMES} - {"running", "waiting"}:
        assert f"`{state}`" in table


async def shell(source: str, url: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "TELEMETRON_URL": url, "no_proxy": "*"}
    return await asyncio.create_subprocess_exec("sh", "-ec", source, env=environment)


async def seen(live: Any, name: str) -> dict[str, Any]:
    """The agent, once it is there."""
    changed = asyncio.Event()
    live.app.service.store.watchers.append(lambda _: changed.set())
    async with asyncio.timeout(30):
        while True:
            changed.clear()
            for agent in (await live.client.get("/system/state")).json()["agents"]:
                if agent["name"] == name:
                    return dict(agent)
            await changed.wait()


@needs_curl
async def test_the_first_example(live: Any) -> None:
    process = await shell(EXAMPLES[0], live.url)
    assert await process.wait() == 0
    agent = await seen(live, "planner")
    assert agent["key"] == "prod/planner"
    (task,) = agent["activity"]["active_task_ids"]
    assert (task["id"], task["step"], task["waits"][0]["kind"]) == ("t-17", "ranking", "llm")
    (end,) = agent["activity"]["ended"]
    assert (end["id"], end["status"], end["error"]) == ("t-16", "failed", "TimeoutError")
    assert agent["activity"]["ended_count"] == 13
    assert live.app.service.store.sources["heartbeats"].events == {}


@needs_curl
async def test_the_agent_in_shell(live: Any) -> None:
    process = await shell(EXAMPLES[1], live.url)
    agent = await seen(live, "janitor")
    assert agent["status"] == "active"
    process.terminate()
    await process.wait()
    live.app.service.store.flush()
    assert (await live.client.get("/system/state")).json()["agents"] == []
    assert live.app.service.store.sources["heartbeats"].events == {}


@needs_curl
async def test_the_batch(live: Any) -> None:
    process = await shell(EXAMPLES[2], live.url)
    assert await process.wait() == 0
    names = {(await seen(live, name))["name"] for name in ("planner", "team/writer")}
    assert names == {"planner", "team/writer"}
    for bound in (f"{MAX_BEATS:,} beats", f"{MAX_COMMAS:,}\ncommas", f"{MAX_BATCH >> 20} MiB"):
        assert bound in PAGE
    assert f"at most {MAX_PENDING >> 20} MiB of batches" in PAGE
