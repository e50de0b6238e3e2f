"""The whole demo: a real server, four real agent processes."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from tests.ports import free_port
from tests.real.kafka import broker as kafka

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `telemetron demo` with options; communicate() returns its output."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "telemetron.demo", *options],
            env={**os.environ, "SERVER_PORT": "1", "TELEMETRON_URL": "http://127.0.0.1:9"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture
def no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the demo hand its work over folders, which is quicker."""
    (tmp_path / "noida_db").mkdir()  # imported instead of the wheel; it has no program
    (tmp_path / "noida_db" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)


@pytest.fixture
def port() -> int:
    return free_port()


def get_state(port: int) -> dict[str, Any] | None:
    """Return the state, or None while there is no server."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/system/state", timeout=5) as answer:
            state: dict[str, Any] = json.load(answer)
            return state
    except OSError:
        return None


def wait_for_state(port: int, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    until = time.monotonic() + 45
    while time.monotonic() < until:
        state = get_state(port)
        if state and wanted(state):
            return state
        time.sleep(0.1)
    raise AssertionError(json.dumps(state, indent=1))


def tasks(state: dict[str, Any], instance: str) -> list[dict[str, Any]]:
    listed = [task for agent in state["agents"] for task in agent["activity"]["active_task_ids"]]
    return [task for task in listed if task["instance"] == instance]


def instances(state: dict[str, Any]) -> dict[str, str]:
    return {each["id"]: each["status"] for agent in state["agents"] for each in agent["instances"]}


def finish(process: subprocess.Popen[str], number: int) -> tuple[str, str]:
    """Stop the demo with a signal and return its stdout and stderr."""
    before = time.monotonic()
    process.send_signal(number)
    said = process.communicate(timeout=20)
    assert time.monotonic() - before < 3
    assert process.returncode == 0, said
    return said


def run_folder(output: str) -> Path:
    found = re.search(r"touch (\S+)/hang-researcher-2", output)
    assert found, output
    return Path(found[1])


def read_welcome(process: subprocess.Popen[str]) -> str:
    lines = iter(process.stdout.readline, "Ctrl-C stops it.\n")  # type: ignore[union-attr]
    return "".join(lines)


def child(process: subprocess.Popen[str], word: str) -> int:
    """Return the id of the child process with the word in its command line."""
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if word in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
            return int(pid)
    raise AssertionError(word)


def test_busy_hung_and_crashed_agents_are_distinguished(start: Start, port: int) -> None:
    process = start("--port", str(port), "--hang", "researcher-2", "--crash", "writer")

    def told_apart(state: dict[str, Any]) -> bool:
        return (
            any(task["stalled"] is False for task in tasks(state, "researcher-1"))
            and any(task["stalled"] for task in tasks(state, "researcher-2"))
            and instances(state).get("writer") == "silent"
        )

    state = wait_for_state(port, told_apart)

    (hung,) = tasks(state, "researcher-2")
    assert [(wait["kind"], wait["name"]) for wait in hung["waits"]] == [("tool", "summarise")]
    assert (hung["status"], hung["last_known"]) == ("waiting", False)
    assert hung["parent_id"].startswith("plan-")
    (crashed,) = tasks(state, "writer")
    assert crashed["last_known"] is True
    status = {agent["name"]: agent["status"] for agent in state["agents"]}
    assert (status["researcher"], status["writer"]) == ("active", "silent")
    assert instances(state)["researcher-2"] == "active"

    output, errors = finish(process, signal.SIGINT)
    assert errors == ""
    assert output.count("writer died (SIGKILL)") == 1
    assert output.count(" died ") == 1
    assert get_state(port) is None
    assert not run_folder(output).exists()


@pytest.mark.usefixtures("no_broker")
def test_a_hung_agent_continues_when_its_file_is_removed(start: Start, port: int) -> None:
    process = start("--port", str(port), "--hang", "planner")
    folder = run_folder(read_welcome(process))
    hung = wait_for_state(port, lambda state: any(t["waits"] for t in tasks(state, "planner")))
    assert set(instances(hung)) == {"planner", "researcher-1", "researcher-2", "writer"}
    (folder / "hang-planner").unlink()
    wait_for_state(port, lambda state: bool(tasks(state, "researcher-1")))
    output, errors = finish(process, signal.SIGTERM)
    assert errors == ""
    assert " died " not in output


def children(process: subprocess.Popen[str]) -> list[int]:
    file = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in file.read_text().split()]


def test_many_signals_end_every_process(start: Start, port: int) -> None:
    process = start("--port", str(port))
    read_welcome(process)
    started = children(process)
    assert len(started) >= 5
    for pause in range(20):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
            time.sleep(pause * 0.00001)  # so that a signal interrupts the handler of another
    _, errors = finish(process, signal.SIGTERM)
    assert errors == ""
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.usefixtures("no_broker")
def test_without_a_proxy_the_researchers_do_not_wait(start: Start, port: int) -> None:
    """The program `true` ends at once."""
    process = start("--port", str(port), "--litellm", "true")
    assert ".litellm[]" in "".join(read_welcome(process))

    def is_said(state: dict[str, Any]) -> bool:
        problems = {
            problem["reason"] for source in state["sources"] for problem in source["problems"]
        }
        models = {model for agent in state["agents"] for model in agent["models"]}
        return "Unreachable" in problems and models == {"summariser"}

    wait_for_state(port, is_said)
    wait_for_state(port, lambda state: bool(tasks(state, "writer")))
    output, _ = finish(process, signal.SIGTERM)
    assert " died " not in output


def test_a_program_that_is_no_proxy(start: Start, port: int) -> None:
    options = ("--port", str(port), "--litellm", "/nonexistent", "--seconds", "1")
    output, _ = start(*options).communicate(timeout=40)
    assert "`litellm` is empty: /nonexistent does not run here: No such file" in output


def test_the_welcome_lists_commands_to_try(start: Start, port: int) -> None:
    output, errors = start("--port", str(port), "--seconds", "1").communicate(timeout=40)
    assert errors == ""
    url = f"http://127.0.0.1:{port}"
    urls = [line.strip() for line in output.splitlines() if line.startswith("  http")]
    assert urls == [f"{url}/", f"{url}/system/state", f"{url}/swagger/"]
    commands = [line.strip() for line in output.partition("terminal:")[2].splitlines()][2:6]
    assert commands[0].startswith(f"curl -s {url}/system/state | jq '.agents")
    assert commands[1].startswith(f"curl -s {url}/system/state | jq '.queues")
    assert commands[2].endswith(f"telemetron state --url {url}")
    assert commands[3].startswith("touch ")
    assert not run_folder(output).exists()


def test_another_port_if_the_usual_one_is_in_use(start: Start) -> None:
    with socket.socket() as usual:
        with contextlib.suppress(OSError):  # another program may use it
            usual.bind(("127.0.0.1", 8080))
            usual.listen()
        process = start("--seconds", "0.1")
        output, errors = process.communicate(timeout=40)
    assert (process.returncode, errors) == (0, "")
    assert re.search(r"http://127.0.0.1:(\d+)/", output)[1] != "8080"  # type: ignore[index]


def test_a_server_that_dies(start: Start, port: int) -> None:
    process = start("--port", str(port))
    folder = run_folder(read_welcome(process))
    os.kill(child(process, "serve"), signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Telemetron ended" in errors
    assert "Traceback" not in errors
    assert not folder.exists()


def test_agents_end_when_the_demo_is_killed(start: Start, port: int) -> None:
    process = start("--port", str(port))
    folder = run_folder(read_welcome(process))
    wait_for_state(port, lambda state: len(instances(state)) == 4)
    left = [child(process, "serve"), child(process, "kafka")]
    try:
        process.kill()
        wait_for_state(port, lambda state: instances(state) == {})
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder)


def queue_of(state: dict[str, Any], topic: str) -> dict[str, Any]:
    (queue,) = [queue for queue in state["queues"] if queue["name"].endswith(topic)]
    return queue


def check_crashed_consumer_leaves(port: int) -> None:
    """A crashed writer stays a member of its group for the session timeout of 10 s."""
    wait_for_state(port, lambda state: instances(state).get("writer") == "silent")
    findings = queue_of(wait_for_state(port, lambda state: bool(state["queues"])), "findings")
    assert (findings["consumers"], findings["group_state"]) == (1, "Stable")
    left = wait_for_state(port, lambda state: queue_of(state, "findings")["consumers"] == 0)
    findings = queue_of(left, "findings")
    assert (findings["group_state"], findings["members"]) == ("Empty", [])
    assert findings["depth"] > 0
    assert queue_of(left, "sections")["consumers"] == 2


def test_a_crashed_consumer_leaves_its_group(start: Start, port: int) -> None:
    process = start("--port", str(port), "--crash", "writer")
    read_welcome(process)
    check_crashed_consumer_leaves(port)
    output, errors = finish(process, signal.SIGINT)
    assert errors == ""
    assert re.search(r"^writer-\S+ left its consumer group", output, re.MULTILINE)


def test_the_other_researcher_takes_over(start: Start, port: int) -> None:
    """It does so even if its commit fails in the rebalance and it rejoins as a new member."""
    process = start("--port", str(port), "--crash", "researcher-1")
    read_welcome(process)
    wait_for_state(port, lambda state: instances(state).get("researcher-1") == "silent")
    wait_for_state(port, lambda state: queue_of(state, "sections")["consumers"] == 1)

    def owns_both(state: dict[str, Any]) -> bool:
        members = queue_of(state, "sections")["members"]
        return [member["partitions"] for member in members] == [[0, 1]]

    state = wait_for_state(port, owns_both)
    (member,) = queue_of(state, "sections")["members"]
    assert member["client_id"] == "researcher-2"


def topics(address: str) -> set[str]:
    async def ask() -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        try:
            await admin.start()
            return await admin.list_topics()
        finally:
            await admin.close()

    return {name for name in asyncio.run(ask()) if not name.startswith("__")}


@pytest.mark.timeout(180)
def test_a_kafka_that_the_user_runs(start: Start, port: int, tmp_path: Path) -> None:
    with kafka.cluster(tmp_path) as cluster:
        (address,) = cluster.servers()
        process = start("--port", str(port), "--kafka", address, "--crash", "writer")
        read_welcome(process)
        made = topics(address)
        assert {re.sub("[0-9a-f]{6}", "X", name) for name in made} == {
            "telemetron-demo-X-sections",
            "telemetron-demo-X-findings",
        }
        check_crashed_consumer_leaves(port)
        state = wait_for_state(port, lambda state: bool(tasks(state, "researcher-1")))
        assert {queue["name"] for queue in state["queues"]} == made
        (task, *_) = tasks(state, "researcher-1")
        assert task["queue"] in made
        _, errors = finish(process, signal.SIGTERM)
        assert errors == ""
        assert topics(address) == set()

        (secured,) = cluster.servers("SECURE")
        refused = start("--port", str(port), "--kafka", secured)
        output, errors = refused.communicate(timeout=40)
    assert (refused.returncode, output) == (1, "")
    assert errors.startswith(f"Kafka at {secured}: it cannot be reached, or does not accept")
    assert len(errors.splitlines()) == 1


def test_a_task_goes_from_its_queue_to_its_agent(start: Start, port: int) -> None:
    process = start("--port", str(port))
    seen: dict[str, dict[str, Any]] = {}

    def runs_one_that_waited(state: dict[str, Any]) -> bool:
        for queue in state["queues"]:
            seen.update({task["id"]: {**task, "queue": queue["name"]} for task in queue["tasks"]})
        researchers = [*tasks(state, "researcher-1"), *tasks(state, "researcher-2")]
        return any(task["id"] in seen for task in researchers)

    state = wait_for_state(port, runs_one_that_waited)
    researchers = [*tasks(state, "researcher-1"), *tasks(state, "researcher-2")]
    running = next(task for task in researchers if task["id"] in seen)
    waited = seen[running["id"]]
    place = ("queue", "partition", "offset")
    assert [running[name] for name in place] == [waited[name] for name in place]
    assert (waited["invoked_by"], running["queue"]) == ("planner", "sections")
    assert waited["prompt"]
    assert {queue["key"] for queue in state["queues"]} == {
        "kafka/sections/researcher",
        "kafka/findings/writer",
    }
    _, errors = finish(process, signal.SIGINT)
    assert errors == ""


@pytest.mark.usefixtures("no_broker")
def test_without_a_broker_the_agents_use_folders(start: Start, port: int) -> None:
    process = start("--port", str(port))
    state = wait_for_state(port, lambda state: bool(tasks(state, "researcher-1")))
    assert state["queues"] == []
    assert {row["key"]: row["status"] for row in state["sources"]}["kafka"] == "off"
    output, errors = finish(process, signal.SIGINT)
    assert errors == ""
    assert "`queues` is empty: the broker of telemetron[demo] does not run here" in output
