"""What the SDK does to its host: exit code, output, time and memory, whatever the server does."""

import json
import re
import socket
import time
from typing import Any

import pytest

from tests.sdk.stand_in import StandIn

pytestmark = pytest.mark.alone

HIGHEST = """
def highest():  # KiB; ru_maxrss would count what this process was before its exec
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
"""

WORK = """
import json, sys, time
from telemetron_agent import Agent, current
agent = Agent("x", interval=1)
spent = []
def call(function, *arguments):
    before = time.perf_counter()
    result = function(*arguments)
    spent.append(time.perf_counter() - before)
    return result
def work(tasks):
    for number in range(tasks):
        task = call(agent.task, f"t-{number}").__enter__()
        wait = call(task.wait, "llm", "m")
        call(wait.end)
        call(task.progress, "on")
        call(task.__exit__, None, None, None)
        if number % 100 == 0:
            time.sleep(0.001)
work(20_000)
peak = highest()
p999 = []
for _ in range(4):  # of which the machine's other work may spoil some
    del spent[:]
    work(int(sys.argv[1]) // 4)
    spent.sort()
    p999.append(spent[int(len(spent) * 0.999)])
grown = highest() - peak - len(spent) * 40 // 1024
with agent.task("last") as task:
    print(json.dumps({"p999": min(p999), "grown": grown, "end": time.time()}))
sys.exit(7)
"""


@pytest.fixture
def dead() -> Any:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


def check(process: Any) -> tuple[dict[str, float], list[str]]:
    """Its exit code is its own, its end is not delayed, it said one line at most."""
    output, errors = process.communicate(timeout=120)
    ended = time.time()
    assert process.returncode == 7, errors
    said = errors.splitlines()
    assert len(said) <= 1, errors
    told: dict[str, float] = json.loads(output)
    assert ended - told["end"] < 2, "one second for the goodbye, the rest for Python's own end"
    assert told["p999"] < 0.001, told
    assert told["grown"] < 4096, told  # KiB
    return told, said


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("ok", None),
        ("hang", None),
        ("slow", None),
        ("drip", None),
        ("close", "RemoteDisconnected|ConnectionResetError"),
        ("garbage", "BadStatusLine"),
        ("401", "HTTP 401"),
        ("413", "HTTP 413: say less"),
        ("500", "HTTP 500: say less"),
    ],
)
def test_a_server_that_does_ill_does_the_host_none(
    run, stand_in: StandIn, mode: str, said: str | None
) -> None:
    stand_in.mode, stand_in.body = mode, b'{"detail": "say less"}'
    _, errors = check(run(HIGHEST + WORK, "20000", url=stand_in.url))
    assert stand_in.beats
    assert len(errors) == (1 if said else 0), errors
    assert re.search(said or "", "".join(errors))


def test_no_server_at_all(run, dead: str) -> None:
    _, errors = check(run(HIGHEST + WORK, "20000", url=dead))
    assert len(errors) == 1
    assert "ConnectionRefusedError" in errors[0]


def test_no_url(run) -> None:
    assert check(run(HIGHEST + WORK, "20000"))[1] == []


def test_100_000_tasks_cost_no_memory(run, telemetron) -> None:
    check(run(HIGHEST + WORK, "100000", url=telemetron.url))


LEFT_OPEN = """
from telemetron_agent import Agent
agent = Agent("x", interval=1)
for number in range(100_000):
    agent.task(f"t-{number}")  # forgotten at once
kept = [agent.task(f"kept-{number}") for number in range(5_000)]
print(agent.flush(10), highest(), flush=True)
input()
"""


def test_tasks_that_nobody_ends_are_bounded_and_counted(run, telemetron) -> None:
    process = run(HIGHEST + LEFT_OPEN, url=telemetron.url)
    told, rss = process.stdout.readline().split()
    assert told == "True"
    assert int(rss) < 64 * 1024  # KiB
    (agent,) = telemetron.wait_for(
        lambda agents: agents and agents[0]["activity"]["task_count"] == 5_000
    )
    assert agent["activity"]["active_task_ids"][0]["id"] == "kept-0"
    assert agent["instances"][0]["outcomes"]["canceled"] == 100_000
    process.communicate("\n", timeout=30)


CLOCK = """
import sys, time
real, jump = time.time, 0
time.time = lambda: real() + jump
from telemetron_agent import Agent
agent = Agent("x", interval=1)
task = agent.task("t")
for line in sys.stdin:
    jump += float(line)
    task.progress(line.strip())
    print(agent.flush(10), flush=True)
"""

WEEK = 7 * 24 * 3600


def test_a_clock_that_jumps_by_a_week(run, telemetron) -> None:
    process = run(CLOCK, url=telemetron.url)
    for jump, offset in (("0", 0), (f"{WEEK}", WEEK), (f"{-2 * WEEK}", -WEEK), (f"{WEEK}", 0)):
        process.stdin.write(f"{jump}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "True\n"
        (agent,) = telemetron.wait_for(
            lambda agents, step=jump: (
                [t["step"] for a in agents for t in a["activity"]["active_task_ids"]] == [step]
            )
        )
        (instance,) = agent["instances"]
        assert instance["status"] == "active"
        assert abs((instance["clock_offset_seconds"] or 0) - offset) < 2
    # It went on beating at its interval, which no clock changes.
    time.sleep(3.5)
    (agent,) = telemetron.agents()
    assert agent["status"] == "active"
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
