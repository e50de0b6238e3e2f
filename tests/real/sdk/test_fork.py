"""Processes that make processes: gunicorn with preload, multiprocessing, signals."""

import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.real.process import wait_until
from tests.sdk.stand_in import StandIn

APP = """
from telemetron_agent import Agent, current
agent = Agent("web", instance="master", interval=1)

@agent.task
def work():
    current().progress("working")
    agent.flush(10)

def app(environ, start_response):
    work()
    start_response("200 OK", [])
    return [b"done"]
"""


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.read() == b"done")
    except OSError:
        return False


def test_gunicorn_with_preload(run, frameworks: Path, stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "web.py").write_text(APP)
    port = free_port()
    command = "import sys; from gunicorn.app.wsgiapp import run; sys.exit(run())"
    options = ["--preload", "--workers=2", f"--bind=127.0.0.1:{port}", "--chdir", str(tmp_path)]
    process = run(command, *options, "web:app", url=stand_in.url, python=frameworks)
    wait_until(lambda: answers(f"http://127.0.0.1:{port}"), seconds=30, what="gunicorn")
    while len(working(stand_in)) < 2:
        assert answers(f"http://127.0.0.1:{port}")
    assert "master" not in working(stand_in)
    # The master does no task: it was seen, if at all, until it forked.
    assert goodbyes(stand_in) <= {"master"}
    last = [beat["instance"] for beat in stand_in.beats].count("master")
    assert answers(f"http://127.0.0.1:{port}")
    assert [beat["instance"] for beat in stand_in.beats].count("master") == last
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert goodbyes(stand_in) - {"master"} == working(stand_in)


def working(stand_in: StandIn) -> set[str]:
    return {beat["instance"] for beat in stand_in.beats if beat["tasks"]}


def goodbyes(stand_in: StandIn) -> set[str]:
    return {path.rpartition("/")[2] for path in stand_in.goodbyes}


MULTIPROCESSING = """
import concurrent.futures, multiprocessing, sys
from telemetron_agent import Agent
agent = Agent("x", instance="parent" if __name__ == "__main__" else None, interval=1)

def work(number):
    with agent.task(f"t-{number}"):
        agent.flush(10)

def processes(context):
    children = [context.Process(target=work, args=(n,)) for n in range(3)]
    for child in children: child.start()
    for child in children: child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]

def pool(context):
    with context.Pool(2) as pool:
        pool.map(work, range(3), chunksize=1)
        pool.close()
        pool.join()

def executor(context):
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(work, range(3)))

if __name__ == "__main__":
    with agent.task("of the parent"):
        globals()[sys.argv[2]](multiprocessing.get_context(sys.argv[1]))
        agent.flush(10)
"""


@pytest.mark.parametrize("made", ["processes", "pool", "executor"])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_of_multiprocessing_say_goodbye(
    run, stand_in: StandIn, tmp_path: Path, method: str, made: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING)
    process = run(program, method, made, url=stand_in.url)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    tasks: dict[str, set[str]] = {}
    boots: dict[str, set[str]] = {}
    for beat in stand_in.beats:
        boots.setdefault(beat["instance"], set()).add(beat["boot_id"])
        for task in beat["tasks"]:
            tasks.setdefault(beat["instance"], set()).add(task["id"])
    assert tasks.pop("parent") == {"of the parent"}
    assert set.union(*tasks.values()) == {"t-0", "t-1", "t-2"}
    assert all(len(lives) == 1 for lives in boots.values())
    assert goodbyes(stand_in) == set(boots)


SIGNALS = """
import signal, sys, time
from telemetron_agent import Agent
agent = Agent("x", interval=1)
if sys.argv[1] == "handled":
    def stop(*_):
        with agent.task("in the handler"):
            sys.exit(5)
    signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
while True:
    with agent.task("t") as task:
        task.progress("on")
"""


@pytest.mark.parametrize(
    ("how", "number", "code"),
    [
        ("handled", signal.SIGTERM, 5),
        ("default", signal.SIGTERM, -signal.SIGTERM),
        ("default", signal.SIGINT, -signal.SIGINT),
        ("default", signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_signals(run, stand_in: StandIn, how: str, number: signal.Signals, code: int) -> None:
    process = run(SIGNALS, how, url=stand_in.url)
    assert process.stdout.readline() == "ready\n"
    stand_in.wait_for_beat(lambda beat: beat["outcomes"]["completed"] > 100)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors == "" or errors.endswith("\nKeyboardInterrupt\n")
    assert len(stand_in.goodbyes) == (1 if code in (5, -signal.SIGINT) else 0)


def test_an_exit_in_the_midst_of_a_beat(run, stand_in: StandIn) -> None:
    source = "from telemetron_agent import Agent\nagent = Agent('x')\nagent.task('t')\n"
    for delay in range(20):
        process: Any = run(f"{source}import time; time.sleep({delay} * 0.0004)", url=stand_in.url)
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, output, errors) == (0, "", "")


def test_os_exit_leaves_nothing_behind(run, stand_in: StandIn) -> None:
    process = run(
        "import os\nfrom telemetron_agent import Agent\nAgent('x').flush(5)\nos._exit(3)",
        url=stand_in.url,
    )
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 3
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
