"""Real agent processes against the real server; and how a run begins and ends."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from telemetron.document import Agent, State
from telemetron.http import HttpProblem
from telemetron.service.outputs import BoundOutput, Mounts
from telemetron.store.store import Store
from telemetron.testing import FakeClock
from telemetron_collectors.heartbeats import HeartbeatsConfig, collector
from telemetron_collectors.heartbeats.app import HeartbeatApp

# Does what it is told, a line at a time, and says when its beats were answered.
AGENT = """
import sys, time
from telemetron_agent import Agent
from telemetron_agent.endpoint import Endpoint

def send(self, method, *arguments, send=Endpoint.send):
    answer = send(self, method, *arguments)
    print(time.monotonic(), method, answer.status, flush=True)
    return answer

Endpoint.send = send
agent = Agent("worker", namespace="n", **eval(sys.argv[1]))
for line in sys.stdin:
    exec(line)
"""

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts agents."""
    started: list[Process] = []

    async def start(live: Any, **options: Any) -> Process:
        environment = {n: v for n, v in os.environ.items() if not n.startswith("TELEMETRON_")}
        command = (
            sys.executable,
            "-c",
            AGENT,
            repr({"url": live.url, "instance": "i", "interval": 1, **options}),
        )
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, env=environment
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def tell(process: Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")


async def until(live: Any, wanted: Callable[[list[dict[str, Any]]], object]) -> dict[str, Any]:
    """The first agent, once the agents are as wanted; a long poll tells of each change."""
    async with asyncio.timeout(30):
        query: dict[str, str] = {}
        while True:
            answer = await live.client.get("/system/state/agents", params=query, timeout=40)
            agents = answer.json()["agents"]
            if wanted(agents):
                return agents[0] if agents else {}
            query = {"since": answer.headers["etag"], "wait": "30s"}


def tasks(agents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {task["id"]: task for agent in agents for task in agent["activity"]["active_task_ids"]}


def statuses(agents: list[dict[str, Any]]) -> list[str]:
    return [instance["status"] for agent in agents for instance in agent["instances"]]


async def test_a_beat_is_visible_within_50_ms(live: Any, start: Start) -> None:
    """Here within 250 ms, as the machine may be busy; the time itself is printed."""
    process = await start(live, interval=60)  # so that only a change beats
    assert process.stdout is not None
    assert (await process.stdout.readline()).endswith(b" POST 204\n")
    delays = []
    for step in range(5):
        tell(process, f"if {step} == 0: task = agent.task('t')")
        tell(process, f"task.progress('step {step}')")
        while True:
            agents = (await live.client.get("/system/state")).json()["agents"]
            seen_at = time.monotonic()
            if tasks(agents).get("t", {}).get("step") == f"step {step}":
                break
        answered_at, *answer = (await process.stdout.readline()).split()
        assert answer == [b"POST", b"204"]
        delays.append(seen_at - float(answered_at))
    print(f"visible after {max(delays) * 1000:.1f} ms at most")
    assert max(delays) < 0.25


async def test_a_killed_agent_falls_silent_and_a_stopped_one_comes_back(
    live: Any, start: Start
) -> None:
    killed = await start(live, instance="killed")
    stopped = await start(live, instance="stopped")
    for process in (killed, stopped):
        tell(process, "task = agent.task(agent.instance); wait = task.wait('llm', 'model')")
    await until(live, lambda agents: len(tasks(agents)) == 2)
    killed.kill()
    stopped.send_signal(signal.SIGSTOP)
    agent = await until(live, lambda agents: statuses(agents) == ["silent", "silent"])
    assert agent["status"] == "silent"
    for task in tasks([agent]).values():
        assert task["last_known"]
        assert task["waits"][0]["name"] == "model"
    for instance in agent["instances"]:
        assert instance["silent_since"] < agent["updated_at"]

    stopped.send_signal(signal.SIGCONT)
    agent = await until(live, lambda agents: "active" in statuses(agents))
    assert statuses([agent]) == ["silent", "active"]
    assert {id: task["last_known"] for id, task in tasks([agent]).items()} == {
        "killed": True,
        "stopped": False,
    }


async def test_a_task_that_makes_no_progress_is_stalled(serving: Any, start: Start) -> None:
    async with serving("sources: {heartbeats: {stall_after_seconds: 1}}") as live:
        process = await start(live)
        tell(process, "task = agent.task('t'); task.progress('on')")
        agent = await until(live, lambda agents: tasks(agents).get("t", {}).get("stalled"))
        assert agent["status"] == "active"
        tell(process, "while True: task.progress('on'); time.sleep(0.1)")
        await until(live, lambda agents: tasks(agents)["t"]["stalled"] is False)


async def test_an_agent_that_ends_says_goodbye(live: Any, start: Start) -> None:
    process = await start(live)
    await until(live, lambda agents: statuses(agents) == ["idle"])
    assert process.stdin is not None
    process.stdin.close()
    await until(live, lambda agents: not agents)
    assert await process.wait() == 0


async def test_a_restart_is_a_new_life(live: Any, start: Start) -> None:
    process = await start(live)
    tell(process, "task = agent.task('old'); agent.task('failed').end('failed', 'Oops')")
    agent = await until(
        live, lambda agents: tasks(agents) and agents[0]["activity"]["last_failure"]
    )
    assert agent["instances"][0]["outcomes"]["failed"] == 1
    process.kill()
    await start(live)
    agent = await until(live, lambda agents: not tasks(agents))
    assert statuses([agent]) == ["idle"]
    assert agent["activity"]["last_failure"]["task_id"] == "failed"  # it outlives the restart
    (instance,) = agent["instances"]
    assert (instance["lives"], instance["tasks_lost"]) == (2, 1)
    assert instance["outcomes"]["failed"] == 0
    assert agent["instances"][0]["outcomes"]["failed"] == 0


# a run by itself


class Run:
    """A run that writes to a real store, by a clock that is moved by hand."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = Store("test", self.clock)
        self.source = self.store.add("heartbeats", "heartbeats")
        self.mounts = Mounts()
        self.begin()

    def begin(self) -> None:
        config = HeartbeatsConfig()
        self.source.start(collector.max_age_seconds(config))
        self.output = BoundOutput(self.store, self.source, collector, self.mounts)
        self.task = asyncio.create_task(collector.run(config, self.output))  # type: ignore[arg-type]

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        self.output.close()

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 5)):
            self.clock.advance(5)
            await settle()

    async def request(self, method: str, path: str, body: bytes = b"") -> int:
        """The status."""
        started: list[dict[str, Any]] = []
        scope = {
            "method": method,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, Any]) -> None:
            started.append(message)

        app = self.mounts.apps["/agents/"]
        assert isinstance(app, HeartbeatApp)
        try:
            await app(scope, receive, send)
        except HttpProblem as problem:
            return problem.status
        return int(started[0]["status"])

    async def beat(self, name: str, **fields: Any) -> None:
        body = msgspec.json.encode({"instance": "i", **fields})
        assert await self.request("POST", f"/agents/{name}/heartbeat", body) == 204

    def agents(self) -> list[Agent]:
        self.store.flush()
        document = b"".join(self.store.snapshot.chunks(("agents",)))
        return msgspec.json.decode(document, type=State).agents or []


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    run = Run()
    await settle()
    yield run
    await run.end()


async def test_the_source_is_starting_for_two_intervals(run: Run) -> None:
    await run.beat("a")
    assert run.source.status == "starting"
    run.clock.advance(9.9)
    await settle()
    assert run.source.status == "starting"
    await run.pass_time(5)
    assert run.source.status == "ok"
    await run.pass_time(1000)
    assert run.source.status == "ok"
    assert [agent.status for agent in run.agents()] == ["silent"]


async def test_a_run_that_ends_leaves_no_timer_that_writes(run: Run) -> None:
    await run.beat("a")
    await run.end()
    run.clock.advance(1000)
    assert [agent.status for agent in run.agents()] == ["idle"]
    assert run.mounts.apps == {}


async def test_the_next_run_keeps_what_beats_and_forgets_the_rest(run: Run) -> None:
    await run.beat("there")
    await run.beat("gone")
    await run.end()
    run.begin()
    await settle()
    await run.beat("there")
    assert len(run.agents()) == 2
    await run.pass_time(10)
    assert [agent.name for agent in run.agents()] == ["there"]
    assert run.source.status == "ok"


async def test_beats_and_goodbyes_during_the_first_confirmation_hold(run: Run) -> None:
    """It is sliced: this many are not looked at in one go."""
    count = 1000
    for number in range(count):
        await run.beat(f"a{number}", description="what is \u202e cleaned is put anew")
    run.clock.advance(10)
    await asyncio.sleep(0)
    for number in range(count // 2):
        assert await run.request("DELETE", f"/agents/a{number}/instances/i") == 204
    for number in range(count // 2, count):
        await run.beat(f"a{number}", description="new")
    await run.pass_time(5)
    assert {agent.description for agent in run.agents()} == {"new"}
    assert len(run.agents()) == count // 2
