"""One session of a debugging agent: a system of 60 agents, of which one hangs and one is dead.

Each question is one request, and all answers together must be small. The test leaves them in
`session.json` (`pytest --basetemp=FOLDER`), to be counted by a tokenizer of a model.
"""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

from telemetron.document import PendingTask, Queue
from telemetron.testing import FakeClock
from tests.telemetron.web.client import beat

AGENTS, ROUNDS, SECONDS = 60, 24, 20
HUNG, DEAD = "agent-07", "agent-23"
DIES_IN = 16
"""The round in which the dead agent sends its last heartbeat."""

SESSION = {
    "how do I ask, and what do the fields mean": "/llms.txt",
    "what is wrong and since when": "/system/brief",
    "where is a task that hangs": "/system/tasks/hung-1",
    "where is a task that waits": "/system/tasks/waiting-1",
    "where is a task that ended": f"/system/tasks/agent-40-{ROUNDS - 4}-0",
    "what changed in two minutes": "/system/changes?since=2m&kinds=status,problems",
}
MAX_TOKENS, MAX_CALLS = 8_000, 6


def tasks(clock: FakeClock, name: str, number: int) -> dict[str, Any]:
    """Return the tasks of an agent in a round: two new ones, and the outcomes of all before."""
    now = clock.now().isoformat()
    if name == HUNG:
        hung = {"id": "hung-1", "step": "search", "progressed_at": "2030-01-01T00:00:00Z"}
        wait = {"kind": "tool", "name": "web", "since": "2030-01-01T00:00:00Z"}
        return {"tasks": [hung | {"waits": [wait]}]}
    running = [
        {"id": f"{name}-{number}-{one}", "step": "draft", "progressed_at": now} for one in range(2)
    ]
    ended = [
        {"id": f"{name}-{number - 1}-{one}", "status": "completed", "ended_at": now}
        for one in range(2 if number else 0)
    ]
    done = {"completed": 2 * number, "failed": 0, "canceled": 0}
    return {"max_parallel_invocations": 2, "tasks": running, "ended": ended, "outcomes": done}


def draining(clock: FakeClock) -> Queue:
    """Return a queue whose consumers have just committed; one task waits."""
    task = PendingTask(id="waiting-1", partition=0, offset=41)
    names = {"name": "drafts", "consumer_group": "agents"}
    return Queue(**names, consumers=2, depth=1, consumed_at=clock.now(), tasks=[task])


async def live_system(live: Any, clock: FakeClock) -> None:
    """Let eight minutes pass."""
    store = live.app.service.store
    pending = store.add("pending", "pending")
    pending.start(60)
    for number in range(ROUNDS):
        store.put(pending, "queues", "drafts", "drafts", draining(clock))
        for agent in range(AGENTS):
            name = f"agent-{agent:02}"
            if name != DEAD or number <= DIES_IN:
                more = tasks(clock, name, number)
                await beat(live, name, interval_seconds=SECONDS, **more)
        for _ in range(SECONDS):
            clock.advance(1)
            await asyncio.sleep(0)
        pending.confirm()
    await live.client.get("/system/changes")  # until the history has recorded all


async def replayed(serving: Any) -> dict[str, bytes]:
    """Return the answer to each question."""
    clock = FakeClock()
    async with serving("", {"clock": clock}) as live:
        await live_system(live, clock)
        answers = {}
        for question, request in SESSION.items():
            answer = await live.client.get(request)
            assert answer.status_code == 200, answer.text
            answers[question] = answer.content
        return answers


async def test_a_session_of_questions_is_small_and_right(serving: Any, tmp_path: Path) -> None:
    answers = await replayed(serving)
    text = {question: body.decode() for question, body in answers.items()}
    (tmp_path / "session.json").write_text(json.dumps(text))
    assert len(answers) <= MAX_CALLS
    tokens = {question: math.ceil(len(body) / 1.8) for question, body in answers.items()}
    assert sum(tokens.values()) <= MAX_TOKENS, tokens

    brief = json.loads(answers["what is wrong and since when"])
    found = [
        dict(zip(brief["findings"]["columns"], row, strict=False))
        for row in brief["findings"]["rows"]
    ]
    assert {(one["rule"], one["root"]) for one in found} == {
        ("TaskStalled", f"agents/{HUNG}"),
        ("AgentGone", f"agents/{DEAD}"),
    }
    assert all(one["since"] for one in found)
    whereabouts = [
        json.loads(body)["where"] for question, body in answers.items() if "task" in question
    ]
    assert whereabouts == ["active", "waiting", "ended"]
    changed = json.loads(answers["what changed in two minutes"])["changes"]
    assert {one["key"] for one in changed if one["section"] == "agents"} == {f"prod/{DEAD}"}
