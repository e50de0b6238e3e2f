"""Active tasks and outcomes, counted from any thread."""

from __future__ import annotations

import gc
import threading

from telemetron_agent import Task, current
from telemetron_agent.activity import MAX_ENDS, Activity
from tests.sdk.activities import Changes, active, ends, last_failure, outcomes


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


# ends


def test_each_end_waits_until_it_is_accepted(activity: Activity) -> None:
    Task(activity, "a").end()
    Task(activity, "b").end("failed", TimeoutError("a secret"))
    first = activity.ends()
    Task(activity, "c").end("canceled", "of no interest")
    assert ends(activity) == [
        ("a", "completed", None),
        ("b", "failed", "TimeoutError"),
        ("c", "canceled", None),
    ]
    activity.accept(first[-1])
    assert ends(activity) == [("c", "canceled", None)]
    activity.accept(first[-1])
    assert len(activity.ends()) == 1


def test_the_last_failure_is_the_failed_end(activity: Activity) -> None:
    Task(activity, "a").end("failed")
    ((_, task, _, error, _),) = activity.ends()
    assert (task.id, error) == ("a", "unknown")
    failure = last_failure(activity)
    assert (failure["task_id"], failure["error"]) == ("a", "unknown")


def test_of_too_many_ends_the_newest_are_kept(activity: Activity) -> None:
    for number in range(100):
        Task(activity, number).end()
    accepted = activity.ends()[-1]
    assert [id for id, _, _ in ends(activity)] == [str(n) for n in range(100 - MAX_ENDS, 100)]
    Task(activity, "new").end()
    activity.accept(accepted)
    assert ends(activity) == [("new", "completed", None)]


def test_an_id_made_for_an_end_stays_the_same(activity: Activity) -> None:
    Task(activity).end()
    assert ends(activity) == ends(activity)


def test_a_task_without_references_ends_with_what_it_was_given(activity: Activity) -> None:
    Task(activity, "t", parent_id="p", queue="q", partition=1, offset=2)
    nameless = Task(activity)
    id = nameless.id
    del nameless
    gc.collect()
    assert outcomes(activity) == (0, 0, 2)
    assert ends(activity) == [("t", "canceled", None), (id, "canceled", None)]
    task = activity.ends()[0][1]
    assert (task.parent_id, task.queue, task.partition, task.offset) == ("p", "q", 1, 2)


def test_a_forgotten_task_has_no_end(activity: Activity) -> None:
    task = Task(activity, "t")
    task.forget()
    task.end()
    assert activity.ends() == []


def test_threads_and_a_reporter_lose_no_end(activity: Activity) -> None:
    """Ends come from many threads while others are accepted; what is not kept was too much."""
    seen: list[int] = []
    stop = threading.Event()

    def report() -> None:
        while not stop.is_set() or activity.ends():
            listed = activity.ends()
            seen.extend(end[0] for end in listed)
            if listed:
                activity.accept(listed[-1])

    def work() -> None:
        for number in range(200):
            Task(activity, number).end()
            while len(activity.ends()) > MAX_ENDS // 2:  # wait for the reporter
                pass

    reporter = threading.Thread(target=report)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in (reporter, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    reporter.join()
    assert seen == list(range(1, 1601))
