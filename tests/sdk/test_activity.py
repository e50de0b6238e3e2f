"""Active tasks and outcomes, counted from any thread."""

from __future__ import annotations

import gc
import threading

from telemetron_agent import Task, current
from telemetron_agent.activity import Activity
from tests.sdk.activities import Changes, active, outcomes


def test_only_the_first_end_counts(activity: Activity, changes: Changes) -> None:
    with Task(activity) as task:
        task.end("failed", "Timeout")
        told = changes.count
        task.end()
    assert outcomes(activity) == (0, 1, 0)
    assert changes.count == told


def test_a_task_without_references_is_canceled(activity: Activity) -> None:
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


def test_a_detached_activity_reports_nothing(activity: Activity, changes: Changes) -> None:
    with Task(activity) as task:
        told = changes.count
        activity.detach()
        task.progress("in the child")
    assert changes.count == told


def test_a_forgotten_task_has_no_outcome(activity: Activity) -> None:
    with Task(activity, "t") as task:
        task.forget()
        assert active(activity) == []
        assert current() is not task
    assert outcomes(activity) == (0, 0, 0)
