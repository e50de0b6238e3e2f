"""The page on reading: every jq program in it runs, on an empty system and on a busy one."""

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PROGRAMS = re.findall(r"```jq\n(.*?)```", (DOCS / "reading.md").read_text("utf-8"), re.DOTALL)
# What each finds of the busy system, in the order of the page.
EXPECTED = [
    ["lost"],
    ["ModelDown"],
    ["lost"],
    ["seen/tasks/workers"],
    [],
    [],
    ["cooling_down", "prod/planner", "t-1", "t-2"],
    ["CrashLoopBackOff", "planner-0"],
]
CONFIG = """
sources: {heartbeats: {stall_after_seconds: 0.1}}
findings:
  rules: {SourceFailing: &now {hold_seconds: 0}, ModelDown: *now, TaskStalled: *now}
"""

pytestmark = pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")


def test_each_program_is_expected_to_find_something() -> None:
    assert len(PROGRAMS) == len(EXPECTED)


async def test_each_program_runs_on_an_empty_system(live: Any, run: Any) -> None:
    state = (await live.client.get("/system/state")).content
    for program in PROGRAMS:
        done = await run(live, "jq", "-c", program, stdin=state)
        assert (done.code, done.err) == (0, ""), program


async def diagnosed(live: Any) -> bytes:
    """Return the state, once the planner's stalled task is the effect of a finding."""
    changed = asyncio.Event()
    live.app.service.store.watchers.append(lambda _: changed.set())
    async with asyncio.timeout(30):
        while True:
            changed.clear()
            state: bytes = (await live.client.get("/system/state")).content
            effects = [one["effects"] for one in json.loads(state)["findings"]]
            if "prod/planner" in {effect["key"] for some in effects for effect in some}:
                return state
            await changed.wait()


async def test_each_program_finds_what_is_there(serving: Any, run: Any, busy: Any) -> None:
    async with serving(CONFIG) as live:
        await busy(live)
        live.app.service.store.sources["heartbeats"].confirm()  # by itself after 10 s
        state = await diagnosed(live)
        for program, expected in zip(PROGRAMS, EXPECTED, strict=True):
            done = await run(live, "jq", "-c", program, stdin=state)
            assert (done.code, done.err) == (0, ""), program
            found = [json.loads(line) for line in done.out.splitlines()]
            assert bool(found) is bool(expected), program
            for word in expected:
                assert f'"{word}"' in done.out, program
