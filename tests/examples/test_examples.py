"""Each example works on an empty system, on a busy one, and without a server."""

import asyncio
import re
import shutil
import sys
from types import SimpleNamespace
from typing import Any

import pytest

STALL = "sources: {heartbeats: {stall_after_seconds: 0.1}}"
AT_ONCE = "findings: {rules: {SourceFailing: {hold_seconds: 0}}}"
TOKEN = "read-token-0123456789"
TOKENS = f"server: {{auth: {{read: {TOKEN}, write: write-token-0123456789}}}}"
NOWHERE = SimpleNamespace(url="http://127.0.0.1:1")

needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("curl", "jq"))), reason="curl or jq is not installed"
)


@needs_tools
async def test_an_empty_system_is_well(live: Any, run: Any) -> None:
    assert await run(live, "./health.sh") == (0, "", "")


@needs_tools
async def test_the_health_check_prints_each_problem(serving: Any, run: Any, busy: Any) -> None:
    async with serving(f"{STALL}\n{AT_ONCE}") as live:
        await busy(live)
        await until_found(live)
        done = await run(live, "./health.sh")
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines() == [
        "warning SourceFailing: Source lost does not run: it crashed",
        "source lost is failing: Crashed",
        "agent prod/planner hangs in task t-1, waits for llm claude-sonnet",
        "model seen/1 is cooling_down",
        "queue seen/tasks/workers: 7 tasks, and no consumer",
        "workload seen/prod/Deployment/planner: the rollout is stuck",
        "pod planner-7d9f of seen/prod/Deployment/planner: CrashLoopBackOff",
    ]


async def until_found(live: Any) -> None:
    """Wait until there is a finding."""
    async with asyncio.timeout(30):
        state = (await live.client.get("/system/state/findings")).json()
        while not state["findings"]:
            place = f"{state['epoch']}.{state['revision']}"
            asked = f"/system/state/findings?since={place}&wait=20s"
            state = (await live.client.get(asked)).json()


@needs_tools
async def test_the_health_check_distinguishes_unknown_from_well(serving: Any, run: Any) -> None:
    assert (await run(NOWHERE, "./health.sh")).code == 2
    async with serving(TOKENS) as live:
        assert (await run(live, "./health.sh")).code == 2
        assert (await run(live, "./health.sh", TELEMETRON_TOKEN=TOKEN)).code == 0


@needs_tools
async def test_changes_are_printed_as_they_happen(live: Any, started: Any) -> None:
    live.app.service.store.sources["heartbeats"].confirm()  # else it is a change when that starts
    live.app.service.store.flush()
    process = await started(live, "./changes.sh", "2")
    path = "/agents/planner/heartbeat"
    beat = {"instance": "i", "namespace": "prod"}
    await waiting(live)
    assert (await live.client.post(path, json=beat)).status_code == 204
    assert await line(process) == "+ agents/prod/planner"
    await waiting(live)
    await live.client.post(path, json={**beat, "tasks": [{"id": "t"}]})
    assert await line(process) == "~ agents/prod/planner"
    assert await process.wait() == 0


async def waiting(live: Any) -> None:
    """Wait until a client polls; it has read the state before."""
    async with asyncio.timeout(30):
        while not len(live.app.waiters):  # noqa: ASYNC110  (no event reports it)
            await asyncio.sleep(0.02)


async def line(process: asyncio.subprocess.Process) -> str:
    """Return the next line of its output."""
    assert process.stdout
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().strip()


@needs_tools
async def test_an_overview_of_an_empty_system(live: Any, run: Any) -> None:
    state = (await live.client.get("/system/state")).content
    done = await run(live, "jq", "-rf", "overview.jq", stdin=state)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("telemetron at 20")
    assert {"agents 0", "models 0", "queues 0", "workloads 0", "  kafka  off"} <= set(lines)


@needs_tools
async def test_an_overview_of_a_busy_system(serving: Any, run: Any, busy: Any) -> None:
    async with serving(STALL) as live:
        await busy(live)
        state = (await live.client.get("/system/state")).content
        done = await run(live, "jq", "-rf", "overview.jq", stdin=state)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[lines.index("agents 1") :] == [
        "agents 1",
        "  prod/planner  active  2 of 1 tasks",
        "    t-1  waiting, ranking, STALLED, waits for llm claude-sonnet",
        "    t-2  running",
        "models 1",
        "  seen/1  cooling_down  120 of ? tokens a minute",
        "queues 1",
        "  seen/tasks/workers  7 waiting  0 consumers",
        "workloads 1",
        "  seen/prod/Deployment/planner  1 of 2 ready  stuck",
        "    planner-7d9f  CrashLoopBackOff",
    ]
    assert "  lost  failing Crashed" in lines


async def test_a_reader_of_an_empty_system(live: Any, run: Any) -> None:
    live.app.service.store.sources["heartbeats"].confirm()
    live.app.service.store.add("new", "test").start(1_000)
    live.app.service.store.flush()
    done = await run(live, sys.executable, "reader.py", "--once")
    assert (done.code, done.err) == (0, "")
    first, *doubts = done.out.splitlines()
    assert first.startswith("revision ")
    assert doubts == ["source new is starting; there may be more"]


async def test_the_reader_prints_where_a_task_hangs(serving: Any, run: Any, busy: Any) -> None:
    async with serving(STALL) as live:
        await busy(live)
        done = await run(live, sys.executable, "reader.py", "--once")
    assert (done.code, done.err) == (0, "")
    assert "source lost is failing; last success: never" in done.out
    (hanging,) = [line for line in done.out.splitlines() if "t-1" in line]
    said = hanging.split(", ")
    assert said[0] == "prod/planner t-1: stalled"
    age = re.fullmatch(r"no progress for (\d+) s", said[1])
    assert age
    assert 3_598 < int(age[1]) < 3_660
    assert said[2:] == [
        "waits for llm claude-sonnet",
        "model claude-sonnet is cooling_down",
        "pod planner-7d9f is CrashLoopBackOff",
    ]


async def test_the_reader_follows_changes(serving: Any, started: Any) -> None:
    async with serving(TOKENS) as live:
        process = await started(live, sys.executable, "reader.py", TELEMETRON_TOKEN=TOKEN)
        assert (await line(process)).startswith("revision ")
        source = live.app.service.store.add("lost", "test")
        source.start(60)
        source.fail("Crashed", "it crashed")
        while await line(process) != "source lost is failing; last success: never":
            assert process.returncode is None
    process.terminate()
    await process.wait()
