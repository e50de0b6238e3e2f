"""The SDK against Telemetron itself: all that it sends is taken."""

import asyncio
import sys
from typing import Any

import pytest

from telemetron_agent import Agent

if sys.version_info < (3, 11):  # the SDK's tests run on 3.9 too
    pytest.skip("Telemetron needs Python 3.11", allow_module_level=True)


async def wait_for_agents(live, wanted) -> list[dict[str, Any]]:
    async with asyncio.timeout(30):
        while True:
            agents = (await live.client.get("/system/state")).json()["agents"]
            if wanted(agents):
                return agents
            await asyncio.sleep(0.02)


async def test_from_the_first_beat_to_the_goodbye(live, caplog) -> None:
    agent = Agent("re/searcher ü", url=live.url, namespace="n s", models=["m"], max_parallel=2)
    with agent.task("t-1", parent_id="p", queue="q", partition=0, offset=7) as task:
        task.progress("reading")
        with task.wait("llm", "m"):
            (seen,) = await wait_for_agents(
                live, lambda agents: agents and agents[0]["activity"]["active_task_ids"]
            )
    assert (seen["name"], seen["namespace"], seen["status"]) == ("re/searcher ü", "n s", "active")
    assert (seen["models"], seen["max_parallel_invocations"]) == (["m"], 2)
    (shown,) = seen["activity"]["active_task_ids"]
    assert (shown["id"], shown["step"], shown["status"]) == ("t-1", "reading", "waiting")
    assert (shown["parent_id"], shown["queue"], shown["offset"]) == ("p", "q", 7)
    assert [(wait["kind"], wait["name"]) for wait in shown["waits"]] == [("llm", "m")]
    (idle,) = await wait_for_agents(live, lambda agents: agents[0]["status"] == "idle")
    assert idle["instances"][0]["outcomes"]["completed"] == 1
    (end,) = idle["activity"]["ended"]
    assert (end["id"], end["status"], end["parent_id"]) == ("t-1", "completed", "p")
    assert (end["queue"], end["offset"], end["instance"]) == ("q", 7, agent.instance)
    await asyncio.to_thread(agent.close)
    await wait_for_agents(live, lambda agents: agents == [])
    assert "telemetron_agent" not in [record.name for record in caplog.records]


@pytest.mark.parametrize("odd", ["", "\n", "ü" * 1000, "a\u200db\u00a0c", "\ud800", "%2F/?#"])
async def test_unusual_values_are_accepted(live, caplog, odd: str) -> None:
    agent = Agent(
        odd,
        url=live.url,
        namespace=odd,
        instance=odd,
        pod_id=odd,
        version=odd,
        description=odd,
        deployment_name=odd,
        models=[odd] * 100,
        queues=[odd],
        max_parallel=-1,
    )
    task = agent.task(odd, parent_id=odd, model=odd, queue=odd, partition=-1, offset=2**70)
    task.progress(odd)
    for _ in range(20):
        task.wait(odd, odd)
    with pytest.raises(KeyError), agent.task():
        raise KeyError
    await wait_for_agents(live, lambda agents: agents and agents[0]["activity"]["active_task_ids"])
    task.end(odd, odd)
    await wait_for_agents(live, lambda agents: agents[0]["status"] == "idle")
    await asyncio.to_thread(agent.close)
    assert "telemetron_agent" not in [record.name for record in caplog.records]


async def test_the_largest_beat_is_accepted(live, caplog) -> None:
    agent = Agent("x", url=live.url, description="ü" * 500)
    tasks = [agent.task(f"{n:04}" + "ü" * 252, queue="q" * 256) for n in range(1100)]
    (seen,) = await wait_for_agents(
        live, lambda agents: agents and agents[0]["activity"]["task_count"] == len(tasks)
    )
    assert seen["activity"]["active_task_ids"][0]["id"] == tasks[0].id
    await asyncio.to_thread(agent.close)
    assert "telemetron_agent" not in [record.name for record in caplog.records]


async def test_a_task_that_never_progressed_is_judged_by_its_start(live) -> None:
    agent = Agent("x", url=live.url)
    with agent.task("t"):
        (seen,) = await wait_for_agents(
            live, lambda agents: agents and agents[0]["activity"]["active_task_ids"]
        )
        await asyncio.to_thread(agent.close)
    (shown,) = seen["activity"]["active_task_ids"]
    assert shown["stalled"] is False  # not null: it will be true, if the task hangs
    assert shown["progressed_at"] == shown["started_on"]


async def test_more_waits_than_are_listed_are_counted(live) -> None:
    agent = Agent("x", url=live.url)
    with agent.task("t") as task, task.wait("agent", "writer", task="t-2"):
        for number in range(20):
            task.wait("tool", number).__enter__()
        (seen,) = await wait_for_agents(
            live, lambda agents: agents and agents[0]["activity"]["active_task_ids"]
        )
        await asyncio.to_thread(agent.close)
    (shown,) = seen["activity"]["active_task_ids"]
    assert shown["waits"][0]["task"] == "t-2"
    assert (len(shown["waits"]), shown["wait_count"]) == (16, 21)
