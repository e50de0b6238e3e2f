"""Real processes: how they end, and how they fork."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

WORK = """
from telemetron_agent import Agent
agent = Agent("x", interval=60)
with agent.task("t") as task:
    task.progress("on")
    print("working", flush=True)
    input()
"""


@pytest.fixture
def dead_url() -> Iterator[str]:
    """Of a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


SOON = 25.0
"""Seconds; tests/real/sdk measures that an exit is delayed by one second at most."""


def finish(process) -> tuple[float, int, str]:
    """Let WORK go on to its end: (seconds that took, exit code, what it said on stderr)."""
    assert process.stdout.readline() == "working\n"
    before = time.monotonic()
    _, errors = process.communicate("\n", timeout=30)
    return time.monotonic() - before, process.returncode, errors


def test_goodbye_at_exit(stand_in, python: Callable) -> None:
    process = python(WORK, stand_in.url)
    stand_in.wait_for_beat(lambda beat: beat["task_count"] == 1)
    _, code, errors = finish(process)
    assert (code, errors) == (0, "")
    assert stand_in.requests[-1].method == "DELETE"
    assert len(stand_in.goodbyes) == 1


UVICORN = """
import contextlib, os, signal, uvicorn
from telemetron_agent import Agent

agent = Agent("x", interval=60)

async def app(scope, receive, send):
    async with lifespan() if scope["type"] == "lifespan" else contextlib.nullcontext():
        await receive()
        await send({"type": "lifespan.startup.complete"})
        os.kill(os.getpid(), signal.SIGTERM)
        await receive()
    await send({"type": "lifespan.shutdown.complete"})

@contextlib.asynccontextmanager
async def lifespan():
    with agent:
        yield

agent.flush(5)
uvicorn.run(app, port=0, log_level="error")
print("not reached")
"""


def test_uvicorn_which_ends_by_the_signal(stand_in, python: Callable) -> None:
    process = python(UVICORN, stand_in.url)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == -signal.SIGTERM
    assert len(stand_in.goodbyes) == 1


LATE = """
import sys
from telemetron_agent import Agent

class Late:
    def __del__(self):
        with agent.task() as task:
            with task.wait("llm", "model"):
                task.progress("on")
        failed = agent.task("t")
        failed.end("failed", ValueError())
        print(failed.id, agent.task(lambda: "called")(), agent.flush(0))
        agent.close()

agent = Agent("x", interval=60)
late = Late()
late.itself = late  # for the garbage collector, which comes last
sys.modules["late"] = Late()
sys.modules["late"].agent = agent
"""


@pytest.mark.parametrize("reports", [True, False])
def test_tasks_while_the_interpreter_shuts_down(stand_in, python: Callable, reports: bool) -> None:
    said, errors = python(LATE, stand_in.url if reports else "").communicate(timeout=30)
    assert errors == ""
    assert said.splitlines() == ["t called False"] * 2


def test_goodbye_after_an_exception(stand_in, python) -> None:
    process = python(WORK + "raise SystemExit(3)", stand_in.url)
    stand_in.wait_for_count(1)
    assert finish(process)[1:] == (3, "")
    assert len(stand_in.goodbyes) == 1


def test_an_interrupted_process_says_goodbye(stand_in, python) -> None:
    process = python(WORK, stand_in.url)
    stand_in.wait_for_count(1)
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)  # before its input is closed, which would end it too
    _, errors = process.communicate(timeout=30)
    assert errors.endswith("KeyboardInterrupt\n")
    assert "telemetron" not in errors.lower()
    assert len(stand_in.goodbyes) == 1


@pytest.mark.parametrize("mode", ["hang", "500"])  # tests/real/sdk has all of them
def test_a_bad_server_does_not_keep_the_process(stand_in, python, mode: str) -> None:
    stand_in.mode = mode
    process = python(WORK, stand_in.url)
    stand_in.wait_for_count(1)
    seconds, code, errors = finish(process)
    assert code == 0
    assert "Traceback" not in errors
    assert len(errors.splitlines()) <= 1
    assert seconds < SOON


def test_a_dead_server_delays_nothing(dead_url: str, python) -> None:
    seconds, code, errors = finish(python(WORK, dead_url))
    assert code == 0
    assert len(errors.splitlines()) <= 1
    assert seconds < SOON


def test_all_goodbyes_of_a_process_share_a_second(stand_in, python) -> None:
    stand_in.mode = "hang"
    process = python(WORK + "others = [Agent(f'a{n}') for n in range(40)]", stand_in.url)
    assert finish(process)[0] < SOON


def test_an_exit_during_the_first_beat(stand_in, python) -> None:
    source = "from telemetron_agent import Agent; Agent('x')"
    _, errors = python(source, stand_in.url).communicate(timeout=30)
    assert errors == ""


def test_nothing_is_loaded_without_a_url(python) -> None:
    source = """
import sys, threading
from telemetron_agent import Agent
with Agent("x").task() as task: task.progress("on")
print(threading.active_count(), "http.client" in sys.modules, "ssl" in sys.modules)
"""
    assert python(source).communicate(timeout=30) == ("1 False False\n", "")


FORK = """
import os, sys
from telemetron_agent import Agent
agent = Agent("x", instance=os.environ.get("INSTANCE"), interval=60)
with agent.task("of the parent") as task:
    input()
    child = os.fork()
    if not child:
        task.progress("in the child")  # the parent's: seen by nobody
        CHILD
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    task.progress(f"child {child} ended with {code}")
    input()
"""


def fork(stand_in, python, child: str, **environment: str):
    process = python(FORK.replace("CHILD", child), stand_in.url, **environment)
    stand_in.wait_for_beat(lambda beat: beat["task_count"] == 1)
    process.stdin.write("\n")
    process.stdin.flush()
    told = stand_in.wait_for_beat(
        lambda beat: beat["tasks"] and "ended with" in (beat["tasks"][0]["step"] or "")
    )
    _, errors = process.communicate("\n", timeout=30)
    assert (process.returncode, errors) == (0, "")
    return process.pid, told["tasks"][0]["step"].split()


@pytest.mark.parametrize("instance", ["", "mine"])
def test_a_forked_process_starts_afresh(stand_in, python, instance: str) -> None:
    child = 'with agent.task("of the child"): os.read(0, 1)'
    process = python(FORK.replace("CHILD", child), stand_in.url, INSTANCE=instance)
    parents = stand_in.wait_for_beat(lambda beat: beat["task_count"] == 1)
    process.stdin.write("\n")
    process.stdin.flush()
    childs = stand_in.wait_for_beat(
        lambda beat: [each["id"] for each in beat["tasks"]] == ["of the child"]
    )
    process.stdin.write("\n\n")
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")

    assert childs["boot_id"] != parents["boot_id"]
    assert childs["sequence"] == 1
    host = instance or socket.gethostname()
    assert parents["instance"] == (instance or f"{host}-{process.pid}")
    assert childs["instance"].startswith(f"{host}-")
    assert childs["instance"] not in (parents["instance"], f"{host}-{process.pid}")
    assert {path.rpartition("/")[2] for path in stand_in.goodbyes} == {
        parents["instance"],
        childs["instance"],
    }
    told = [b["tasks"] for b in stand_in.beats if b["instance"] == childs["instance"]]
    assert {task["id"] for tasks in told for task in tasks} == {"of the child"}
    assert childs["tasks"][0]["parent_id"] == "of the parent"  # forked within it


def test_a_forked_process_without_tasks_is_silent(stand_in, python) -> None:
    _, step = fork(stand_in, python, "pass")
    assert step[-1] == "0"
    assert len({beat["boot_id"] for beat in stand_in.beats}) == 1
    assert len(stand_in.goodbyes) == 1


def test_a_fork_while_the_thread_works(stand_in, python) -> None:
    """Locks that the thread holds at that moment must not stop the child."""
    source = """
import os, sys
from telemetron_agent import Agent
agent = Agent("x")
for number in range(50):
    tasks = [agent.task() for _ in range(20)]
    child = os.fork()
    if not child:
        for task in tasks: task.end()
        with agent.task(): pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""
    output, errors = python(source, stand_in.url).communicate(timeout=60)
    assert (output, errors) == ("done\n", "")


def test_a_fork_without_a_url(python) -> None:
    source = """
import os
from telemetron_agent import Agent
with Agent("x").task() as task:
    child = os.fork()
    task.progress("both")
    if not child: os._exit(0)
    os.waitpid(child, 0)
"""
    assert python(source).communicate(timeout=30) == ("", "")


PRELOAD = """
import os, sys
from telemetron_agent import Agent
agent = Agent("x", instance="master", interval=1)
agent.flush(5)
children = []
for number in range(2):
    child = os.fork()
    if not child:
        with agent.task(f"t-{number}"): sys.stdin.readline()
        sys.exit()
    children.append(child)
print("forked", flush=True)
sys.stdin.readline()
with agent.task("after all"): agent.flush(5)
for child in children: os.waitpid(child, 0)
"""


def test_a_parent_that_never_worked_says_goodbye(stand_in, python) -> None:
    process = python(PRELOAD, stand_in.url)
    assert process.stdout.readline() == "forked\n"
    first = stand_in.wait_for(lambda each: each.method == "DELETE")
    assert first.path == "/agents/x/instances/master"
    for number in range(2):
        beat = stand_in.wait_for_beat(
            lambda beat, id=f"t-{number}": [each["id"] for each in beat["tasks"]] == [id]
        )
        assert beat["instance"].startswith("master-")
    _, errors = process.communicate("\n\n\n", timeout=30)
    assert (process.returncode, errors) == (0, "")
    masters = [beat for beat in stand_in.beats if beat["instance"] == "master"]
    lives = list(dict.fromkeys(beat["boot_id"] for beat in masters))
    assert len(lives) == 2  # it rested while it only forked, and came back with a task of its own
    working = [beat for beat in masters if beat["boot_id"] == lives[1]]
    assert [task["id"] for task in working[0]["tasks"]] == ["after all"]
    assert len(stand_in.goodbyes) == 4


SIGNALS = """
import os, signal, sys, threading, time
from telemetron_agent import Agent
agent = Agent("x", interval=60)

def stop(*_):
    CALL
    sys.exit(7)

signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
sys.stdin.readline()

def repeat():
    for number in range(40):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(number * 0.00001)

threading.Thread(target=repeat).start()
time.sleep(30)
"""


@pytest.mark.parametrize("call", ["agent.close()", "agent.flush(0.5)"])
def test_signals_that_interrupt_each_other_end_the_process(stand_in, python, call: str) -> None:
    stand_in.mode = "hang"
    process = python(SIGNALS.replace("CALL", call), stand_in.url)
    assert process.stdout.readline() == "ready\n"
    stand_in.wait_for_count(1)
    _, errors = process.communicate("\n", timeout=30)
    assert process.returncode == 7, errors


WAITS = """
import signal
from telemetron_agent.once import Once

def again(*_):
    if len(handlers) < 3:
        handlers.append(signal.setitimer(signal.ITIMER_REAL, 0.00002))
    once.wait(0.001)

signal.signal(signal.SIGALRM, again)
for moment in range(500):
    once, handlers = Once(), []
    signal.setitimer(signal.ITIMER_REAL, 0.00001 + moment * 0.0000002)
    once.wait(0.002)
    signal.setitimer(signal.ITIMER_REAL, 0)
    once.set()
    assert once.wait(30)
print("done")
"""


def test_a_wait_is_interrupted_by_another_one_at_any_moment(python) -> None:
    assert python(WAITS).communicate(timeout=30) == ("done\n", "")


C_FORK = """
import ctypes, os, sys
from telemetron_agent import Agent
agent = Agent("x", instance="parent", interval=1)
agent.flush(10)
libc = ctypes.PyDLL(None)  # keeps the GIL, and runs none of Python's fork hooks
child = libc.fork()
if not child:
    with agent.task("of the child"):
        agent.flush(10)
    agent.close()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
sys.stdin.readline()
with agent.task("of the parent"):
    agent.flush(10)
"""


def test_a_fork_outside_of_python_begins_another_life(stand_in, python) -> None:
    process = python(C_FORK, stand_in.url)
    assert process.stdout.readline() == "0\n"
    # The parent only forked: goodbye until it works itself.
    stand_in.wait_for(lambda each: each.path == "/agents/x/instances/parent")
    _, errors = process.communicate("\n", timeout=30)
    assert (process.returncode, errors) == (0, "")
    lives: dict[str, set[str]] = {}
    tasks: dict[str, set[str]] = {}
    for beat in stand_in.beats:
        lives.setdefault(beat["instance"], set()).add(beat["boot_id"])
        tasks.setdefault(beat["instance"], set()).update(each["id"] for each in beat["tasks"])
    assert tasks.pop("parent") == {"of the parent"}
    ((child, told),) = tasks.items()
    assert child.startswith("parent-")
    assert told == {"of the child"}
    assert (len(lives["parent"]), len(lives[child])) == (2, 1)
    told_goodbye = sorted(path.rpartition("/")[2] for path in stand_in.goodbyes)
    assert told_goodbye == ["parent", "parent", child]


def test_a_forked_process_reports_only_its_own_ends(stand_in, python) -> None:
    source = """
import os
from telemetron_agent import Agent
agent = Agent("bot", instance="parent", interval=60)
agent.flush(10)
with agent.task("of the parent"):
    pass
child = os.fork()
if not child:
    with agent.task("of the child"):
        pass
    agent.flush(10)
    agent.close()
    os._exit(0)
os.waitpid(child, 0)
"""
    _, errors = python(source, stand_in.url).communicate(timeout=30)
    assert errors == ""
    ends = {
        (beat["instance"] == "parent", end["id"])
        for beat in stand_in.beats
        for end in beat["ended"]
    }
    assert ends == {(True, "of the parent"), (False, "of the child")}


def test_a_process_that_ends_at_once_reports_its_task(stand_in, python) -> None:
    source = "from telemetron_agent import Agent\nwith Agent('bot').task('only'): pass"
    assert python(source, stand_in.url).communicate(timeout=30) == ("", "")
    stand_in.wait_for_beat(lambda beat: [end["id"] for end in beat["ended"]] == ["only"])
    assert len(stand_in.goodbyes) == 1
