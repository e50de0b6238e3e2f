"""What the document shows of an instance and its tasks."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.store.section import SECTIONS
from telemetron.store.validation import validated
from telemetron_collectors.heartbeats.beat import parse_beat
from tests.collectors.heartbeats.bench import START, Bench, at, tasks


@pytest.mark.parametrize(
    ("told", "status", "waits"),
    [
        ("submitted", "waiting", []),
        ("working", "running", []),
        ("input-required", "waiting", ["human"]),
        ("auth-required", "waiting", ["auth"]),
        ("unknown", None, []),
        ("something new", None, []),
        (None, None, []),
        ("running", "running", []),
        ("waiting", "waiting", []),
        ("TASK_STATE_SUBMITTED", "waiting", []),
        ("TASK_STATE_WORKING", "running", []),
        ("TASK_STATE_INPUT_REQUIRED", "waiting", ["human"]),
        ("TASK_STATE_AUTH_REQUIRED", "waiting", ["auth"]),
        ("TASK_STATE_UNSPECIFIED", None, []),
        ("Working", "running", []),
        ("input_required", "waiting", ["human"]),
        ("inputRequired", "waiting", ["human"]),
        ("Auth required", "waiting", ["auth"]),
        ("TaskState.input_required", "waiting", ["human"]),
        ("TaskState.TASK_STATE_WORKING", "running", []),
        ("TaskState.unknown", None, []),
        ("working hard", None, []),
    ],
)
def test_states_of_a2a(bench: Bench, told: str, status: str, waits: list[str]) -> None:
    bench.beat(tasks=tasks("t", status=told))
    (task,) = bench.part.tasks
    assert (task.status, [wait.kind for wait in task.waits]) == (status, waits)
    assert bench.status == "active"


def test_a_reported_wait_is_not_implied_again(bench: Bench) -> None:
    told = [{"kind": "human", "name": "Ann"}]
    bench.beat(tasks=tasks("t", status="input-required", waits=told))
    assert [(wait.kind, wait.name) for wait in bench.part.tasks[0].waits] == [("human", "Ann")]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "running"),
        ({"waits": [{"kind": "llm"}]}, "waiting"),
        ({"wait_count": 1}, "waiting"),
        ({"waits": [{"kind": "llm"}], "status": "running"}, "running"),
        ({"waits": [{"kind": "llm"}], "status": None}, None),
    ],
)
def test_a_task_with_open_waits_and_no_status_waits(
    bench: Bench, fields: dict[str, Any], status: str | None
) -> None:
    bench.beat(tasks=tasks("t", **fields))
    assert bench.part.tasks[0].status == status


ENDED = ["completed", "canceled", "cancelled", "failed", "rejected"]


def test_a_task_is_never_its_own_parent(bench: Bench) -> None:
    bench.beat(tasks=[*tasks("t", parent_id="t"), *tasks("u", parent_id="t")])
    assert [task.parent_id for task in bench.part.tasks] == [None, "t"]


SPELLED = [f"TASK_STATE_{one.upper()}" for one in ENDED] + [f"TaskState.{one}" for one in ENDED]


@pytest.mark.parametrize("status", [*ENDED, *SPELLED])
def test_tasks_that_are_over_leave(bench: Bench, status: str) -> None:
    bench.beat(tasks=tasks("t", status=status))
    assert (bench.part.tasks, bench.part.task_count, bench.status) == ([], 0, "idle")


def test_a_task_that_failed_is_the_last_failure(bench: Bench) -> None:
    for status in ("failed", "rejected", "TASK_STATE_FAILED", "TASK_STATE_REJECTED"):
        bench.beat(tasks=tasks(status, status=status))
        assert bench.part.last_failure is not None
        assert bench.part.last_failure.task_id == status
    told = {"task_id": "told", "error": "Timeout", "at": at(1)}
    bench.beat(last_failure=told, tasks=tasks("t", status="failed"))
    bench.beat()  # nothing new: the last failure stays
    assert bench.part.last_failure is not None
    assert msgspec.to_builtins(bench.part.last_failure) == told | {"at": "2030-01-01T00:00:01Z"}


def test_waits_are_sorted_oldest_first_unknown_ages_last(bench: Bench) -> None:
    waits = [
        {"kind": "tool", "name": "unknown"},
        {"kind": "llm", "name": "young", "since": at(9)},
        {"kind": "llm", "name": "old", "since": "2030-01-01T02:00:01+02:00"},
    ]
    bench.beat(tasks=tasks("t", waits=waits))
    assert [wait.name for wait in bench.part.tasks[0].waits] == ["old", "young", "unknown"]


def test_more_waits_than_are_listed_count(bench: Bench) -> None:
    waits = [{"kind": "tool", "name": str(n), "since": at(-n)} for n in range(40)]
    bench.beat(tasks=tasks("t", waits=waits))
    (task,) = bench.part.tasks
    assert [wait.name for wait in task.waits] == [str(n) for n in range(39, 23, -1)]
    assert task.wait_count == 40
    bench.beat(tasks=tasks("t", waits=waits[:2], wait_count=100))
    assert bench.part.tasks[0].wait_count == 100


def test_tasks_that_are_not_listed_count(bench: Bench) -> None:
    bench.beat(task_count=7)
    assert (bench.part.task_count, bench.status) == (7, "active")
    bench.beat(tasks=tasks("a", "b"), task_count=1)
    assert bench.part.task_count == 2


def test_every_field_of_a_beat_is_shown(bench: Bench) -> None:
    task = {
        "id": "t",
        "parent_id": "p",
        "started_on": at(-9),
        "progressed_at": at(-1),
        "step": "step",
        "waits": [{"kind": "agent", "name": "m", "since": at(-2), "task": "u"}],
        "wait_count": 1,
        "queue": "q",
        "partition": 3,
        "offset": 2**62,
        "model": "m",
    }
    bench.beat(
        namespace="n",
        pod_id="pod",
        version="1.2",
        started_at=at(-99),
        interval_seconds=2.5,
        description="plans",
        max_parallel_invocations=4,
        deployment_name="d",
        models=["m"],
        queues=["q"],
        outcomes={"completed": 3, "failed": 2, "canceled": 1},
        tasks=[task],
    )
    part = msgspec.to_builtins(bench.part, builtin_types=(datetime,))
    instance = part.pop("instance")
    assert part.pop("tasks") == [
        {**task, "status": "waiting", "stalled": False, "instance": "i", "last_known": False}
    ]
    assert part == {
        "origin": "",
        "namespace": "n",
        "description": "plans",
        "deployment_name": "d",
        "max_parallel_invocations": None,
        "models": ["m"],
        "queues": ["q"],
        "since": START,
        "task_count": 1,
        "last_failure": None,
        "problems": [],
        "workload": None,
        "pods": [],
        "has_all_pods": True,
        "ended": [],
        "ended_count": 6,
    }
    assert instance == {
        "id": "i",
        "status": "active",
        "pod_id": "pod",
        "workload": None,
        "version": "1.2",
        "started_at": at(-99),
        "interval_seconds": 2.5,
        "silent_since": None,
        "clock_offset_seconds": None,
        "max_parallel_invocations": 4,
        "outcomes": {"completed": 3, "failed": 2, "canceled": 1},
        "lives": 1,
        "tasks_lost": 0,
        "source": "test",
    }


# the agent's clock


def offset_of(bench: Bench, ahead: float | None) -> float | None:
    now = bench.clock.now()
    bench.beat(sent_at=None if ahead is None else now + timedelta(seconds=ahead))
    assert bench.part.instance
    return bench.part.instance.clock_offset_seconds


@pytest.mark.parametrize(
    ("ahead", "seen"),
    [(None, None), (0, None), (1.99, None), (-1.99, None), (2, 2.0), (-2, -2.0), (61.27, 61.3)],
)
def test_an_offset_is_shown_from_two_seconds_on(
    bench: Bench, ahead: float | None, seen: float | None
) -> None:
    assert offset_of(bench, ahead) == seen


def test_jitter_of_the_offset_changes_nothing(bench: Bench) -> None:
    offset_of(bench, 2.5)
    puts = bench.puts
    for ahead in (2.0, 3.4, 1.6, 2.5):
        assert offset_of(bench, ahead) == 2.5
    assert bench.puts == puts
    assert offset_of(bench, 3.6) == 3.6
    assert offset_of(bench, 0.1) is None
    assert offset_of(bench, 5) == 5.0
    assert offset_of(bench, None) is None


# every text is clean, whatever the agents send

TEXTS = st.text(min_size=1, max_size=20) | st.sampled_from(["plain", "t-1", "12:30:00+02:00"])
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.builds(lambda second, zone: at(second).astimezone(zone), st.integers(0, 9), ZONES)
TASK_STATES = st.sampled_from(["working", "failed", "completed", "TASK_STATE_\x07WORKING"])
TASKS = st.fixed_dictionaries(
    {"id": TEXTS},
    optional={
        "parent_id": TEXTS,
        "status": TASK_STATES | st.none(),
        "started_on": TIMES,
        "progressed_at": TIMES,
        "step": TEXTS,
        "waits": st.lists(
            st.fixed_dictionaries(
                {"kind": TEXTS}, optional={"name": TEXTS, "since": TIMES, "task": TEXTS}
            ),
            max_size=2,
        ),
        "queue": TEXTS,
        "model": TEXTS,
    },
)
ENDS = st.fixed_dictionaries(
    {"id": TEXTS},
    optional={"status": TEXTS | TASK_STATES, "error": TEXTS, "ended_at": TIMES, "queue": TEXTS},
)
BEATS = st.fixed_dictionaries(
    {
        "instance": st.sampled_from(["i", "j\x9d", "k"]),
        "boot_id": st.sampled_from(["b", "c\ufeff"]),
    },
    optional={
        "namespace": st.sampled_from(["n", "m\x00"]),
        "pod_id": TEXTS,
        "version": TEXTS,
        "started_at": TIMES,
        "description": TEXTS,
        "deployment_name": TEXTS,
        "models": st.lists(TEXTS, max_size=2),
        "queues": st.lists(TEXTS, max_size=2),
        "tasks": st.lists(TASKS, max_size=2),
        "ended": st.lists(ENDS, max_size=3),
        "outcomes": st.fixed_dictionaries({"failed": st.integers(0, 9)}),
        "last_failure": st.fixed_dictionaries({"task_id": TEXTS}, optional={"at": TIMES}),
    },
)
ENCODERS: list[Callable[[Any], bytes]] = [
    msgspec.json.encode,
    lambda beat: json.dumps(beat, default=datetime.isoformat).encode(),
    lambda beat: json.dumps(beat, default=datetime.isoformat, ensure_ascii=False).encode(),
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(BEATS, st.sampled_from(ENCODERS), st.integers(0, 70)), max_size=8))
def test_the_door_would_change_nothing_in_any_part(beats: list[tuple[Any, Any, int]]) -> None:
    """The register's parts are not checked again, so they must be as a check would make them."""
    bench = Bench()
    decoder = SECTIONS["agents"].decoder
    for beat, encode, seconds in beats:
        body = encode(beat)
        bench.register.beat("planner", parse_beat(body)[0], body)
        bench.clock.advance(seconds)
    parts = [call[4] for call in bench.output.calls if call[0] == "put"]
    assert [validated(part, decoder) for part in parts] == parts
    assert msgspec.json.encode([validated(part, decoder) for part in parts]) == msgspec.json.encode(
        parts
    )
