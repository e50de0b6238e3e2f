from __future__ import annotations

import json
import weakref
from typing import Any

import pytest

from telemetron_agent import Task
from telemetron_agent.activity import Activity, nothing
from telemetron_agent.beat import MAX_BYTES, MAX_TASKS, encode, encode_ends


@pytest.fixture
def activity() -> Activity:
    return Activity(nothing)


def sent(activity: Activity, **head: object) -> dict[str, Any]:
    body = encode({"instance": "i", **head}, activity.snapshot(MAX_TASKS)[0])
    assert len(body) < MAX_BYTES
    beat: dict[str, Any] = json.loads(body)
    return beat


def test_no_task(activity: Activity) -> None:
    assert sent(activity, instance="Köln") == {"instance": "Köln", "tasks": []}


def test_a_task_in_full(activity: Activity) -> None:
    task = Task(activity, "t", parent_id="p", model="m", queue="q", partition=1, offset=2)
    (running,) = sent(activity)["tasks"]
    started = running.pop("started_on")
    assert started.endswith("Z")
    assert running.pop("progressed_at") == started
    assert running == {
        "id": "t",
        "parent_id": "p",
        "status": "running",
        "queue": "q",
        "partition": 1,
        "offset": 2,
        "model": "m",
    }
    task.progress("ranked")
    wait = task.wait("llm", "m")
    (waiting,) = sent(activity)["tasks"]
    assert waiting["status"] == "waiting"
    assert waiting["step"] == "ranked"
    assert waiting["progressed_at"] >= started
    assert waiting["waits"] == [{"kind": "llm", "name": "m", "since": waiting["waits"][0]["since"]}]
    wait.end()
    assert sent(activity)["tasks"][0]["status"] == "running"


def test_the_oldest_waits_are_listed_and_all_are_counted(activity: Activity) -> None:
    task = Task(activity, "t")
    for number in range(16):
        task.wait("tool", number).__enter__()
    (told,) = sent(activity)["tasks"]
    assert (len(told["waits"]), "wait_count" in told) == (16, False)
    task.wait("agent", "last", task="t-2").__enter__()
    (told,) = sent(activity)["tasks"]
    assert [wait["name"] for wait in told["waits"]] == [str(number) for number in range(16)]
    assert told["wait_count"] == 17


def test_a_wait_for_a_task_names_it(activity: Activity) -> None:
    task = Task(activity, "t")
    with task.wait("agent", "writer", task="t-2"):
        (told,) = sent(activity)["tasks"]
    assert told["waits"][0]["task"] == "t-2"


def test_a_task_without_facts(activity: Activity) -> None:
    task = Task(activity, "t")
    assert list(sent(activity)["tasks"][0]) == ["id", "status", "started_on", "progressed_at"]
    task.end()


def test_the_oldest_tasks_go_first(activity: Activity) -> None:
    tasks = [Task(activity, number) for number in range(MAX_TASKS + 200)]
    assert [each["id"] for each in sent(activity)["tasks"]] == [t.id for t in tasks[:MAX_TASKS]]


def test_the_newest_tasks_are_left_out_of_a_large_body(activity: Activity) -> None:
    tasks = [Task(activity, f"{number:03}" + "ü" * 253, queue="x" * 256) for number in range(500)]
    told = [each["id"] for each in sent(activity, description="x" * 500)["tasks"]]
    assert told == [task.id for task in tasks[: len(told)]]
    assert 100 < len(told) < 500


def test_an_id_that_is_active_twice_is_listed_once(activity: Activity) -> None:
    first, second = Task(activity, "t"), Task(activity, "t")
    first.progress("first")
    second.progress("second")
    assert [each["step"] for each in sent(activity)["tasks"]] == ["first"]
    first.end()
    assert [each["step"] for each in sent(activity)["tasks"]] == ["second"]


def test_a_task_that_was_dropped_meanwhile(activity: Activity) -> None:
    ref = weakref.ref(Task(activity, "gone"))
    assert json.loads(encode({"instance": "i"}, [ref])) == {"instance": "i", "tasks": []}


def test_an_end_in_full(activity: Activity) -> None:
    Task(activity, "t", parent_id="p", queue="q", partition=1, offset=2).end_with(KeyError("a"))
    Task(activity, "u").end()
    ended, listed = encode_ends(activity.ends())
    first, second = json.loads(encode({"instance": "i"}, [], ended=ended))["ended"]
    assert first.pop("started_on") <= first.pop("ended_at")
    assert first == {
        "id": "t",
        "parent_id": "p",
        "status": "failed",
        "error": "KeyError",
        "queue": "q",
        "partition": 1,
        "offset": 2,
    }
    assert second.keys() == {"id", "status", "started_on", "ended_at"}
    assert listed == activity.ends()


def test_a_beat_without_ends_has_no_such_field() -> None:
    assert encode_ends([]) == (b"", [])
    assert encode({"instance": "i"}, []) == b'{"instance":"i","tasks":[]}'


def test_ends_take_a_quarter_of_a_beat_the_oldest_first(activity: Activity) -> None:
    tasks = [Task(activity, f"{n:04}" + "ü" * 252, queue="ü" * 256) for n in range(300)]
    for task in tasks[:64]:
        task.end("failed", "ü" * 500)
    ended, listed = encode_ends(activity.ends(), 64 * 1024)
    assert len(ended) <= 16 * 1024
    assert listed == activity.ends()[: len(listed)]
    assert len(listed) >= 4
    refs = [weakref.ref(task) for task in tasks[64:]]
    body = encode({"instance": "i"}, refs, 64 * 1024, ended)
    assert 48 * 1024 < len(body) < 64 * 1024
    assert len(encode_ends(activity.ends(), 8)[1]) == 1  # or it would never be listed
