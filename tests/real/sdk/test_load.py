"""Much at once, and a server that comes and goes: what it knows at the end is what was done."""

import json
import threading
import time
from typing import Any

import pytest

pytestmark = pytest.mark.alone

THREADS = """
import json, sys, threading
from telemetron_agent import Agent, current
agent = Agent("x", interval=1)
wrong = []
def work(thread):
    for number in range(1_000):
        try:
            with agent.task(f"{thread}-{number}") as task, task.wait("tool", "t"):
                if current() is not task:
                    wrong.append("current")
                task.progress("on")
                if number % 10 == 1:
                    raise KeyError
        except KeyError:
            pass
threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([wrong, agent.flush(10)]), flush=True)
input()
"""

TASKS = """
import asyncio, json
from telemetron_agent import Agent, current
agent = Agent("x", interval=1)
wrong = []
async def work(number, all_run, go):
    with agent.task(f"t-{number}") as task:
        all_run.release()
        await go.wait()
        with task.wait("llm", "m"):
            await asyncio.sleep(0)
            if current() is not task or task.parent_id != "all":
                wrong.append(number)
        task.progress("on")
        if number % 4 == 1:
            raise KeyError
        if number % 4 == 2:
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
async def main():
    go = asyncio.Event()
    all_run = asyncio.Semaphore(0)
    with agent.task("all"):
        jobs = [asyncio.create_task(work(n, all_run, go)) for n in range(1_000)]
        for _ in jobs: await all_run.acquire()
        print(json.dumps(await asyncio.to_thread(agent.flush, 10)), flush=True)
        await asyncio.to_thread(input)
        go.set()
        await asyncio.gather(*jobs, return_exceptions=True)
asyncio.run(main())
print(json.dumps([wrong, agent.flush(10)]), flush=True)
input()
"""

LIFE = """
import json, random, sys, threading, time
from telemetron_agent import Agent
agent = Agent("x", interval=3)
done = dict(completed=0, failed=0, canceled=0)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
kept = []
while not stop.wait(random.uniform(0.001, 0.02)):
    task = agent.task(f"t-{sum(done.values()) + len(kept)}")
    task.progress("on")
    if len(kept) < 5:
        kept.append(task)
    else:
        how = random.choice(list(done))
        task.end(how)
        done[how] += 1
print(json.dumps([done, [task.id for task in kept]]), flush=True)
sys.stdin.readline()
"""


def ask(process: Any) -> Any:
    return json.loads(process.stdout.readline())


def tell(process: Any) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


def outcomes(agents: list[dict[str, Any]]) -> Any:
    return agents[0]["instances"][0]["outcomes"]


def test_64_threads_with_1000_tasks_each(run, telemetron) -> None:
    process = run(THREADS, url=telemetron.url)
    assert ask(process) == [[], True]
    agents = telemetron.wait_for(lambda agents: agents and agents[0]["status"] == "idle")
    assert outcomes(agents) == {"completed": 57_600, "failed": 6_400, "canceled": 0}
    _, errors = process.communicate("\n", timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_1000_asyncio_tasks_at_once(run, telemetron) -> None:
    process = run(TASKS, url=telemetron.url)
    assert ask(process) is True
    (agent,) = telemetron.wait_for(
        lambda agents: agents and agents[0]["activity"]["task_count"] == 1_001
    )
    listed = [task["id"] for task in agent["activity"]["active_task_ids"]]
    # Of the oldest 1,000, which a beat lists, the document shows as many as it has room for.
    assert len(listed) > 200
    assert set(listed) <= {"all", *(f"t-{number}" for number in range(999))}
    tell(process)
    assert ask(process) == [[], True]
    agents = telemetron.wait_for(lambda agents: agents and agents[0]["status"] == "idle")
    assert outcomes(agents) == {"completed": 501, "failed": 250, "canceled": 250}
    _, errors = process.communicate("\n", timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_20_restarts_of_the_server(run, telemetron) -> None:
    process = run(LIFE, url=telemetron.url)
    said: list[str] = []
    listener = threading.Thread(target=lambda: said.extend(process.stderr))
    listener.start()
    for _ in range(20):
        telemetron.wait_for(lambda agents: agents, seconds=15)  # heard of since it came back
        telemetron.kill()
        telemetron.start()
    tell(process)
    done, kept = ask(process)
    before = time.monotonic()
    (agent,) = telemetron.wait_for(lambda agents: agents and outcomes(agents) == done, seconds=15)
    took = time.monotonic() - before
    assert {task["id"] for task in agent["activity"]["active_task_ids"]} == set(kept)
    assert agent["activity"]["task_count"] == 5
    assert took < 3.3 + 0.5, took  # an interval and its jitter; the rest is the machine's
    tell(process)
    process.wait(30)  # not communicate: it would take lines from the listener
    listener.join()
    troubles = [line for line in said if "cannot report" in line]
    assert len(troubles) == len([line for line in said if " again" in line]) <= 20
