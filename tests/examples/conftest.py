"""A busy system, and programs that run beside the server."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from telemetron.document import Live, ModelDeployment, Pod, Queue, Workload

EXAMPLES = Path(__file__).parents[2] / "examples"


class Done(NamedTuple):
    """The exit code and the output of a program."""

    code: int | None
    out: str
    err: str


Run = Callable[..., Awaitable[Done]]


@pytest.fixture
def run() -> Run:
    """Run an example with the server's URL: `await run(live, "health.sh")`."""

    async def run(live: Any, *command: str, stdin: bytes = b"", **environ: str) -> Done:
        process = await start(live, *command, **environ)
        async with asyncio.timeout(30):
            out, err = await process.communicate(stdin)
        return Done(process.returncode, out.decode(), err.decode())

    return run


async def start(live: Any, *command: str, **environ: str) -> asyncio.subprocess.Process:
    """The program, with its output in pipes."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=EXAMPLES,
        env={**os.environ, "TELEMETRON_URL": live.url, **environ},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )


@pytest.fixture
async def started() -> AsyncIterator[Callable[..., Awaitable[asyncio.subprocess.Process]]]:
    """`await started(live, "changes.sh")`: as `run`, but it goes on; it ends with the test."""
    processes = []

    async def begin(live: Any, *command: str, **environ: str) -> asyncio.subprocess.Process:
        processes.append(await start(live, *command, **environ))
        return processes[-1]

    yield begin
    for process in processes:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def make_busy(live: Any) -> None:
    """One of everything, and much of it in trouble."""
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    wait = {"kind": "llm", "name": "claude-sonnet", "since": long_ago.isoformat()}
    task = {"id": "t-1", "step": "ranking", "progressed_at": long_ago.isoformat()}
    beat = {
        "instance": "planner-0",
        "namespace": "prod",
        "pod_id": "planner-7d9f",
        "tasks": [{**task, "model": "claude-sonnet", "waits": [wait]}, {"id": "t-2"}],
    }
    answer = await live.client.post("/agents/planner/heartbeat", json=beat)
    assert answer.status_code == 204
    store = live.app.service.store
    source = store.add("seen", "test")
    source.start(60)
    model = ModelDeployment(id="1", model="claude-sonnet", status="cooling_down", tpm=120.0)
    queue = Queue(name="tasks", consumer_group="workers", depth=7, consumers=0)
    pods = [Pod(pod_id="planner-7d9f", status="Running", reason="CrashLoopBackOff")]
    live_ = Live(desired=2, ready=1, rollout="stuck")
    workload = Workload(
        namespace="prod", kind="Deployment", deployment_name="planner", live=live_, pods=pods
    )
    store.put(source, "litellm", "1", "1", model)
    store.put(source, "queues", "tasks", "tasks", queue)
    store.put(source, "workload", "planner", "planner", workload)
    source.confirm()
    lost = store.add("lost", "test")
    lost.start(60)
    lost.fail("Crashed", "it crashed")
    store.flush()
    await until_stalled(live)


async def until_stalled(live: Any) -> None:
    """The configuration's `stall_after_seconds` is short."""
    changed = asyncio.Event()
    live.app.service.store.watchers.append(lambda _: changed.set())
    async with asyncio.timeout(30):
        while True:
            changed.clear()
            (agent,) = (await live.client.get("/system/state")).json()["agents"]
            if agent["activity"]["active_task_ids"][0]["stalled"]:
                return
            await changed.wait()


@pytest.fixture
def busy() -> Callable[[Any], Awaitable[None]]:
    """`await busy(live)`"""
    return make_busy
