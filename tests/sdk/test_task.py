"""Tasks and their outcomes, as an activity sees them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import uuid
from collections.abc import Iterator

import pytest

from telemetron_agent import Task
from telemetron_agent.activity import Activity
from telemetron_agent.task import MAX_WAITS


class Changes:
    """Counts what an activity tells."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def activity(changes: Changes) -> Activity:
    return Activity(changes)


def active(activity: Activity) -> list[str]:
    return [task.id for ref in activity.snapshot()[0] if (task := ref())]


def outcomes(activity: Activity) -> tuple[int, int, int]:
    told = activity.snapshot()[1]
    return told["completed"], told["failed"], told["canceled"]


def test_a_task_from_start_to_end(activity: Activity, changes: Changes) -> None:
    with Task(activity, "t-1", parent_id="p", model="m", queue="q", partition="3", offset=4) as t:
        assert active(activity) == ["t-1"]
        assert (t.parent_id, t.model, t.queue, t.partition, t.offset) == ("p", "m", "q", 3, 4)
        assert (t.step, t.progressed_at) == (None, None)
        t.progress("read")
        t.progress()
        assert t.step == "read"
        assert t.progressed_at is not None
        assert t.progressed_at >= t.started_on
    assert active(activity) == []
    assert outcomes(activity) == (1, 0, 0)
    assert changes.count == 4


def test_without_an_id_it_is_a_uuid(activity: Activity) -> None:
    tasks = [Task(activity), Task(activity, "")]
    assert len({uuid.UUID(task.id) for task in tasks}) == 2


def test_callback_style(activity: Activity) -> None:
    Task(activity, "a").end()
    Task(activity, "b").end("failed", error="Timeout")
    Task(activity, "c").end("canceled")
    assert outcomes(activity) == (1, 1, 1)
    failure = activity.snapshot()[2]
    assert failure is not None
    assert (failure["task_id"], failure["error"]) == ("b", "Timeout")


@pytest.mark.parametrize(
    ("error", "told"),
    [(None, "unknown"), (ValueError("a secret"), "ValueError"), ("x" * 600, "x" * 500)],
)
def test_how_an_error_is_told(activity: Activity, error: object, told: str) -> None:
    Task(activity).end("failed", error)
    failure = activity.snapshot()[2]
    assert failure is not None
    assert failure["error"] == told


def test_an_unknown_outcome_is_a_failure(activity: Activity) -> None:
    Task(activity).end("exploded")
    assert outcomes(activity) == (0, 1, 0)


def test_only_the_first_end_counts(activity: Activity, changes: Changes) -> None:
    with Task(activity) as task:
        task.end("failed", "Timeout")
        told = changes.count
        task.end()
    assert outcomes(activity) == (0, 1, 0)
    assert changes.count == told


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("a secret"), (0, 1, 0)),
        (SystemExit(1), (0, 1, 0)),
        (KeyboardInterrupt(), (0, 0, 1)),
        (GeneratorExit(), (0, 0, 1)),
        (asyncio.CancelledError(), (0, 0, 1)),
        (concurrent.futures.CancelledError(), (0, 0, 1)),
    ],
)
def test_an_exception_goes_on(
    activity: Activity, error: BaseException, expected: tuple[int, int, int]
) -> None:
    with pytest.raises(type(error)) as raised, Task(activity, "t"):
        raise error
    assert raised.value is error
    assert outcomes(activity) == expected
    failure = activity.snapshot()[2]
    assert (failure and failure["error"]) == (type(error).__name__ if expected[1] else None)


def test_a_closed_generator_cancels_its_task(activity: Activity) -> None:
    def pages() -> Iterator[int]:
        with Task(activity):
            yield 1

    generator = pages()
    next(generator)
    generator.close()
    assert outcomes(activity) == (0, 0, 1)


def test_a_task_that_nobody_holds_is_canceled(activity: Activity) -> None:
    for _ in range(1000):
        Task(activity)
    gc.collect()
    kept = Task(activity, "kept")
    assert active(activity) == ["kept"]
    kept.end()
    assert outcomes(activity) == (1, 0, 1000)


def test_tasks_with_the_same_id_are_each_counted(activity: Activity) -> None:
    with Task(activity, "t"), Task(activity, "t"):
        assert active(activity) == ["t", "t"]
    assert outcomes(activity) == (2, 0, 0)


def test_waits_open_and_close(activity: Activity, changes: Changes) -> None:
    task = Task(activity)
    with task.wait("llm", "gpt") as outer, task.wait("tool") as inner:
        assert task.waits == (outer, inner)
        assert [(wait.kind, wait.name) for wait in task.waits] == [("llm", "gpt"), ("tool", None)]
        outer.end()
        assert task.waits == (inner,)
    assert task.waits == ()
    assert changes.count == 6


def test_a_wait_ends_with_an_exception_too(activity: Activity) -> None:
    task = Task(activity)
    with pytest.raises(KeyError), task.wait("human"):
        raise KeyError
    assert task.waits == ()


def test_an_unknown_kind_of_wait_is_other(activity: Activity) -> None:
    assert Task(activity).wait("moon", "full").kind == "other"
    assert Task(activity).wait(["llm"], "full").kind == "other"  # type: ignore[arg-type]


def test_waits_are_bounded(activity: Activity) -> None:
    task = Task(activity)
    opened = [task.wait("tool", number) for number in range(MAX_WAITS + 5)]
    assert task.waits == tuple(opened[:MAX_WAITS])
    for wait in opened:
        wait.end()
    assert task.waits == ()


def test_many_threads_lose_no_outcome(activity: Activity) -> None:
    def work() -> None:
        for number in range(200):
            with Task(activity, number) as task, task.wait("tool"):
                task.progress("on")

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes(activity) == (3200, 0, 0)
    assert active(activity) == []


def test_a_detached_activity_tells_nothing(activity: Activity, changes: Changes) -> None:
    with Task(activity) as task:
        told = changes.count
        activity.detach()
        task.progress("in the child")
    assert changes.count == told
