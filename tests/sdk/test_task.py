"""Tasks and their outcomes, as an activity sees them."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import contextvars
import copy
import gc
import pickle
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from telemetron_agent import Task, current
from telemetron_agent.activity import Activity, nothing
from telemetron_agent.task import MAX_WAITS
from tests.sdk.activities import Changes, active, last_failure, outcomes


def test_a_task_from_start_to_end(activity: Activity, changes: Changes) -> None:
    with Task(activity, "t-1", parent_id="p", model="m", queue="q", partition="3", offset=4) as t:
        assert active(activity) == ["t-1"]
        assert (t.parent_id, t.model, t.queue, t.partition, t.offset) == ("p", "m", "q", 3, 4)
        assert (t.step, t.progressed_at) == (None, t.started_on)  # a start is progress
        t.progress("read")
        t.progress()
        assert t.step == "read"
        assert t.progressed_at > t.started_on
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
    failure = last_failure(activity)
    assert failure is not None
    assert (failure["task_id"], failure["error"]) == ("b", "Timeout")


@pytest.mark.parametrize(
    ("error", "told"),
    [(None, "unknown"), (ValueError("a secret"), "ValueError"), ("x" * 600, "x" * 500)],
)
def test_the_error_of_a_failed_task(activity: Activity, error: object, told: str) -> None:
    Task(activity).end("failed", error)
    failure = last_failure(activity)
    assert failure is not None
    assert failure["error"] == told


def test_an_unknown_outcome_is_a_failure(activity: Activity) -> None:
    Task(activity).end("exploded")
    assert outcomes(activity) == (0, 1, 0)


def exception(name: str, module: str, base: type[BaseException]) -> BaseException:
    """An instance of a library's class of exceptions, which need not be installed."""
    return type(name, (base,), {"__module__": module})()


CurioCancelled = type("CancelledError", (Exception,), {"__module__": "curio.errors"})


BaseExceptionGroup = vars(builtins).get("BaseExceptionGroup") or type(
    "BaseExceptionGroup", (BaseException,), {"exceptions": property(lambda self: self.args[1])}
)  # Python 3.11 has it


def group(*errors: BaseException) -> BaseException:
    several: BaseException = BaseExceptionGroup("several", errors)
    return several


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("a secret"), (0, 1, 0)),
        (SystemExit(1), (0, 1, 0)),
        (KeyboardInterrupt(), (0, 0, 1)),
        (GeneratorExit(), (0, 0, 1)),
        (asyncio.CancelledError(), (0, 0, 1)),
        (concurrent.futures.CancelledError(), (0, 0, 1)),
        (SystemExit(), (0, 0, 1)),
        (SystemExit(0), (0, 0, 1)),
        (SystemExit("no configuration"), (0, 1, 0)),
        (exception("Cancelled", "trio", BaseException), (0, 0, 1)),
        (exception("TaskCancelled", "curio", CurioCancelled), (0, 0, 1)),
        (exception("GreenletExit", "greenlet", BaseException), (0, 0, 1)),
        (exception("Cancelled", "the.program", Exception), (0, 1, 0)),
        (group(asyncio.CancelledError(), group(KeyboardInterrupt())), (0, 0, 1)),
        (group(asyncio.CancelledError(), ValueError()), (0, 1, 0)),
    ],
)
def test_an_exception_propagates(
    activity: Activity, error: BaseException, expected: tuple[int, int, int]
) -> None:
    with pytest.raises(type(error)) as raised, Task(activity, "t"):
        raise error
    assert raised.value is error
    assert outcomes(activity) == expected
    failure = last_failure(activity)
    assert (failure and failure["error"]) == (type(error).__name__ if expected[1] else None)


def test_a_closed_generator_cancels_its_task(activity: Activity) -> None:
    def pages() -> Iterator[int]:
        with Task(activity):
            yield 1

    generator = pages()
    next(generator)
    generator.close()
    assert outcomes(activity) == (0, 0, 1)


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


def test_more_waits_than_a_beat_lists_are_kept(activity: Activity) -> None:
    task = Task(activity)
    opened = [task.wait("tool", number).__enter__() for number in range(MAX_WAITS + 5)]
    assert task.waits == tuple(opened)
    for wait in opened:
        wait.end()
    assert task.waits == ()


def test_a_wait_follows_one_of_its_kind_that_was_never_closed(activity: Activity) -> None:
    task = Task(activity)
    task.wait("llm", "lost")
    task.wait("human", "kept")
    latest = task.wait("llm", "new")
    assert [wait.name for wait in task.waits] == ["kept", "new"]
    with task.wait("tool", "a"), task.wait("tool", "b"):  # who uses `with` closes for certain
        assert [wait.name for wait in task.waits] == ["kept", "new", "a", "b"]
        task.wait("tool", "c")
        task.wait("tool", "d")
        assert [wait.name for wait in task.waits] == ["kept", "new", "a", "b", "d"]
    latest.end()
    latest.end()
    assert [wait.name for wait in task.waits] == ["kept", "d"]


def test_progress_ends_only_a_wait_for_a_model_that_nothing_holds(activity: Activity) -> None:
    task = Task(activity)
    with task.wait("llm", "held"):
        task.wait("tool", "t")
        task.wait("llm", "loose")
        task.progress("answered")
        assert [(wait.kind, wait.name) for wait in task.waits] == [("llm", "held"), ("tool", "t")]
        task.progress()
    assert [wait.kind for wait in task.waits] == ["tool"]


async def test_a_hung_call_stays_visible_beside_one_that_returns(activity: Activity) -> None:
    hung, answered = asyncio.Event(), asyncio.Event()

    async def ask(name: str, answer: asyncio.Event | None) -> None:
        with current().wait("llm", name):
            await (answer.wait() if answer else asyncio.sleep(0))
        current().progress("answered")
        answered.set()

    with Task(activity) as task:
        both = asyncio.gather(ask("quick", None), ask("slow", hung))
        await answered.wait()
        assert [wait.name for wait in task.waits] == ["slow"]
        hung.set()
        await both
        assert task.waits == ()


@contextmanager
def interrupted(step: int, act: Callable[[], object]) -> Iterator[list[int]]:
    """Do something else at this line of the SDK that runs inside, as another thread may.

    Gives the lines that ran.
    """
    lines: list[int] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if "telemetron_agent" not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines.append(frame.f_lineno)
            if len(lines) == step:
                sys.settrace(None)
                act()
                sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


def test_a_wait_that_another_thread_holds_while_one_begins_is_kept(activity: Activity) -> None:
    for step in range(1, 1000):
        task = Task(activity)
        first = task.wait("llm", "first")
        with interrupted(step, first.__enter__) as lines:
            task.wait("llm", "second")
        if step > len(lines):
            break
        assert {wait.name for wait in task.waits} == {"first", "second"}, (step, lines)
    assert step > 10


def test_a_wait_that_another_thread_ends_while_one_begins_is_over(activity: Activity) -> None:
    for step in range(1, 1000):
        task = Task(activity)
        first = task.wait("llm", "first")
        with interrupted(1, first.__enter__), interrupted(step, first.end) as lines:
            task.wait("llm", "second")
        if step > len(lines):
            break
        assert [wait.name for wait in task.waits] == ["second"], lines[-1]
    assert step > 10


def test_waits_held_in_many_threads_are_all_seen(activity: Activity) -> None:
    task = Task(activity)
    all_wait = threading.Barrier(17)

    def ask(number: int) -> None:
        for _ in range(200):
            with task.wait("llm", number):
                task.progress()
        with task.wait("llm", number):
            all_wait.wait(30)
            all_wait.wait(30)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that a thread is interrupted at any step
    try:
        for thread in threads:
            thread.start()
        all_wait.wait(30)
    finally:
        sys.setswitchinterval(usual)
    assert sorted(wait.name or "" for wait in task.waits) == sorted(map(str, range(16)))
    all_wait.wait(30)
    for thread in threads:
        thread.join()
    assert task.waits == ()


def test_a_wait_that_is_replaced_before_it_is_held_is_seen(activity: Activity) -> None:
    task = Task(activity)
    first = task.wait("llm", "first")
    task.wait("llm", "second")  # by another thread, before the first one enters its block
    with first:
        task.progress()
        assert task.waits == (first,)


def test_the_task_waited_for(activity: Activity) -> None:
    task, other = Task(activity), Task(activity, "other")
    task.wait("agent", "writer", task=other)
    task.wait("queue", "sections", task="t-7")
    task.wait("human")
    assert [wait.task for wait in task.waits] == ["other", "t-7", None]


def test_the_current_task() -> None:
    activity = Activity(nothing)
    outside = current()
    with Task(activity, "outer") as outer:
        assert current() is outer
        with Task(activity, "inner") as inner:
            assert current() is inner
            assert inner.parent_id == "outer"
            assert Task(activity, parent_id="mine").parent_id == "mine"
        assert current() is outer
        by_callback = Task(activity, "by callback")
        assert by_callback.parent_id == "outer"
        assert current() is outer
    assert current() is outside
    assert Task(activity).parent_id is None


def test_outside_of_a_task_nothing_happens() -> None:
    nobody = current()
    with nobody as task, task.wait("llm", "m") as wait:
        task.progress("unseen")
        wait.end()
    task.end("failed")
    assert (task.step, task.waits, task.progressed_at, task.ended) == (None, (), None, False)
    assert current() is nobody


def test_a_task_is_never_its_own_parent(activity: Activity) -> None:
    assert Task(activity, "t", parent_id="t").parent_id is None
    with Task(activity, "caller"), Task(activity, "t"), Task(activity, "t") as again:
        assert again.parent_id == "caller"


def test_copies_of_a_task_and_a_wait_are_itself(activity: Activity) -> None:
    with Task(activity, "t") as task, task.wait("llm", "m") as wait:
        assert copy.copy(task) is copy.deepcopy(task) is task
        assert copy.copy(wait) is copy.deepcopy(wait) is wait
        assert copy.deepcopy(current()) is task
        loaded = pickle.loads(pickle.dumps({"task": task, "wait": wait}))
    assert loaded["task"].id == "t"
    loaded["wait"].end()
    with loaded["task"] as elsewhere:
        elsewhere.progress("unseen")
    assert pickle.loads(pickle.dumps(current())).waits == ()
    assert outcomes(activity) == (1, 0, 0)


def test_a_task_that_is_over_is_not_current(activity: Activity) -> None:
    with Task(activity, "outer") as outer:
        with Task(activity) as inner:
            inner.end("failed")
            assert current() is outer
        Task(activity).__enter__()  # and dropped at once
        gc.collect()
        assert current() is outer


def test_a_task_entered_twice(activity: Activity) -> None:
    with Task(activity) as task:
        with task:
            assert current() is task
        assert current() is not task
    assert outcomes(activity) == (1, 0, 0)


def test_in_threads_the_context_decides(activity: Activity) -> None:
    with Task(activity) as task, ThreadPoolExecutor(1) as pool:
        assert pool.submit(current).result() is not task
        context = contextvars.copy_context()
        assert pool.submit(context.run, current).result() is task


async def test_each_asyncio_task_has_its_own(activity: Activity) -> None:
    async def work(number: int) -> None:
        with Task(activity, number) as mine:
            await asyncio.sleep(0)
            assert current() is mine
            assert mine.parent_id == "all"
            await asyncio.to_thread(lambda: current().progress(f"step {number}"))
            assert mine.step == f"step {number}"

    with Task(activity, "all") as all:
        await asyncio.gather(*(work(number) for number in range(50)))
        assert current() is all
    assert outcomes(activity) == (51, 0, 0)


def test_a_task_left_in_another_context(activity: Activity) -> None:
    task = Task(activity)
    contextvars.copy_context().run(task.__enter__)
    contextvars.copy_context().run(task.__exit__, None, None, None)
    assert outcomes(activity) == (1, 0, 0)
    assert current() is not task


def test_a_generator_closed_from_another_context(activity: Activity) -> None:
    def pages() -> Iterator[int]:
        with Task(activity):
            yield 1

    generator = pages()
    contextvars.copy_context().run(next, generator)
    contextvars.copy_context().run(generator.close)
    assert outcomes(activity) == (0, 0, 1)


def test_an_id_is_made_once(activity: Activity) -> None:
    task = Task(activity)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: task.id, range(200)))) == 1
