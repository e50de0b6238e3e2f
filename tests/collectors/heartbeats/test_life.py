"""The lives of an instance: boots, sequences, and processes that share an id."""

import pytest

from telemetron.document import Failure
from tests.collectors.heartbeats.bench import Bench, at, shown, tasks


@pytest.mark.parametrize("sequence", [0, 4, 5])
def test_a_beat_that_is_not_newer_changes_nothing(bench: Bench, sequence: int) -> None:
    bench.beat(boot_id="a", sequence=5, tasks=tasks("new"))
    bench.after(10, boot_id="a", sequence=sequence, tasks=tasks("late"), interval_seconds=300)
    assert shown(bench) == ["new"]
    assert bench.counted("beats_dropped") == 1
    bench.clock.advance(5)
    assert bench.status == "silent"  # 15 s after the beat that counted


def test_a_new_boot_is_a_new_life_whatever_its_sequence(bench: Bench) -> None:
    bench.beat(boot_id="a", sequence=5, tasks=tasks("old"), last_failure={"task_id": "f"})
    bench.after(1, boot_id="b", sequence=1, tasks=tasks("new"))
    assert shown(bench) == ["new"]
    assert bench.part.since == at(1)


def test_an_instance_that_dies_of_one_task_again_and_again(bench: Bench) -> None:
    """A crash loop: each life takes the task, reports nothing, and is gone."""
    bench.beat(boot_id="0", sequence=1, last_failure={"task_id": "t", "error": "OutOfMemory"})
    for boot in range(1, 20):
        bench.after(1, boot_id=str(boot), sequence=1, tasks=tasks("t"), task_count=3)
        bench.after(30, boot_id=str(boot), sequence=2, tasks=tasks("t"), task_count=3)
    assert bench.part.last_failure == Failure("t", "OutOfMemory")
    assert bench.part.instance
    assert (bench.part.instance.lives, bench.part.instance.tasks_lost) == (20, 18 * 3)
    told = {"task_id": "u", "error": "KeyError"}
    bench.after(1, boot_id="19", sequence=3, last_failure=told)
    assert bench.part.last_failure == Failure("u", "KeyError")


def test_a_restart_of_an_idle_instance_loses_no_task(bench: Bench) -> None:
    bench.beat(boot_id="a", tasks=tasks("over", status="completed"))
    bench.beat(boot_id="b")
    assert bench.part.instance
    assert (bench.part.instance.lives, bench.part.instance.tasks_lost) == (2, 0)


def test_lives_count_from_the_last_goodbye(bench: Bench) -> None:
    bench.beat(boot_id="a", tasks=tasks("t"))
    bench.register.goodbye("planner", "i")
    bench.beat(boot_id="b")
    assert bench.part.instance
    assert (bench.part.instance.lives, bench.part.instance.tasks_lost) == (1, 0)


def lives(bench: Bench) -> tuple[int | None, int | None]:
    assert bench.part.instance
    return bench.part.instance.lives, bench.part.instance.tasks_lost


def duplicates(bench: Bench) -> list[str]:
    return [problem.reason for problem in bench.part.problems]


def test_two_processes_of_one_instance_id_are_reported(bench: Bench) -> None:
    for second in range(0, 60, 5):  # a late beat of a predecessor looks the same
        bench.beat(boot_id="old", sequence=second)
        bench.after(5, boot_id="new", sequence=second)
        assert duplicates(bench) == []
    bench.after(5, boot_id="old", sequence=70)
    (problem,) = bench.part.problems
    assert (problem.reason, problem.since) == ("DuplicateInstance", bench.clock.now())
    assert "instance i: " in problem.message
    bench.beat(boot_id="new", sequence=70)
    assert duplicates(bench) == ["DuplicateInstance"]
    for sequence in range(71, 84):
        bench.after(5, boot_id="new", sequence=sequence)
    assert duplicates(bench) == []


def test_many_processes_of_one_instance_id_are_reported(bench: Bench) -> None:
    boots = [str(number) for number in range(40)]
    for second in range(0, 70, 5):
        bench.clock.advance(5)
        for boot in boots:
            bench.beat(boot_id=boot, sequence=second, tasks=tasks("t"))
    assert duplicates(bench) == ["DuplicateInstance"]
    assert lives(bench) == (40, 39)


def test_the_surviving_process_of_a_shared_id_is_shown(bench: Bench) -> None:
    bench.beat(boot_id="old", sequence=1)
    bench.beat(boot_id="new", sequence=1, tasks=tasks("lost"))
    for sequence in range(2, 15):
        bench.after(5, boot_id="old", sequence=sequence, tasks=tasks("kept"))
        if sequence < 6:
            bench.beat(boot_id="new", sequence=sequence, tasks=tasks("lost"))
    assert (shown(bench), bench.status, duplicates(bench)) == (["kept"], "active", [])
    assert lives(bench) == (2, 1)


def test_of_two_processes_that_are_silent_none_is_a_duplicate(bench: Bench) -> None:
    bench.beat(boot_id="old")
    bench.beat(boot_id="new")
    bench.after(60, boot_id="new")
    bench.beat(boot_id="old")
    assert duplicates(bench) == ["DuplicateInstance"]
    bench.clock.advance(15)
    assert (bench.status, duplicates(bench)) == ("silent", [])


def test_the_goodbye_of_a_predecessor_hides_its_successor_until_its_next_beat(bench: Bench) -> None:
    bench.beat(boot_id="old", sequence=1)
    bench.after(5, boot_id="new", sequence=1)
    bench.after(1, boot_id="old", sequence=2)
    bench.register.goodbye("planner", "i")
    assert not bench.register.parts()
    bench.after(4, boot_id="new", sequence=2, tasks=tasks("t"))
    assert shown(bench) == ["t"]


def test_a_late_beat_of_the_same_life_is_no_duplicate(bench: Bench) -> None:
    bench.beat(boot_id="a", sequence=5)
    bench.after(100, boot_id="a", sequence=6)
    bench.beat(boot_id="a", sequence=6)
    assert duplicates(bench) == []


def test_late_beats_of_all_earlier_lives_are_dropped(bench: Bench) -> None:
    boots = ["a", "b", "c", "d"]
    for boot in boots:
        bench.beat(boot_id=boot, sequence=1)
    for boot in boots[:-1]:
        bench.beat(boot_id=boot, sequence=99, tasks=tasks("late"))
        bench.beat(boot_id=boot, tasks=tasks("late"))
    assert shown(bench) == []
    assert bench.counted("beats_dropped") == 6


def test_remembered_boots_are_bounded(bench: Bench) -> None:
    for number in range(100):
        bench.beat(boot_id=str(number))
    (put,) = bench.register.parts()
    assert put.id == "planner/-/i"
    bench.beat(boot_id="98", tasks=tasks("late"))
    assert shown(bench) == []


def test_without_a_sequence_a_beat_is_always_newer(bench: Bench) -> None:
    for boot in ({}, {"boot_id": "a"}):
        bench.beat(**boot, tasks=tasks("one"))
        bench.beat(**boot, tasks=tasks("two"))
        assert shown(bench) == ["two"]


def test_a_beat_without_sequence_does_not_make_older_ones_newer(bench: Bench) -> None:
    bench.beat(boot_id="a", sequence=5)
    bench.beat(boot_id="a", tasks=tasks("new"))
    bench.beat(boot_id="a", sequence=4, tasks=tasks("late"))
    assert shown(bench) == ["new"]


def test_without_a_boot_id_a_lower_sequence_after_a_silence_is_a_new_life(bench: Bench) -> None:
    bench.beat(sequence=9, last_failure={"task_id": "f"})
    bench.after(14, sequence=1, tasks=tasks("late"))
    assert shown(bench) == []
    bench.after(1, sequence=1, tasks=tasks("new"))
    assert shown(bench) == ["new"]
    assert bench.part.instance
    assert bench.part.instance.lives == 2
    bench.beat(sequence=2, tasks=tasks("newer"))
    assert shown(bench) == ["newer"]


def test_instances_are_apart_by_agent_namespace_and_id(bench: Bench) -> None:
    bench.beat("a", "i", boot_id="x", sequence=9)
    bench.beat("b", "i", boot_id="x", sequence=1)
    bench.beat("a", "i", boot_id="x", sequence=1, namespace="n")
    bench.beat("a", "j", boot_id="x", sequence=1)
    bench.beat("a/-", "i", boot_id="x", sequence=1)
    assert len(bench.parts) == 5


# progress


def stalled(bench: Bench) -> list[bool | None]:
    return [task.stalled for task in bench.part.tasks]


def test_a_task_stalls_if_its_progress_does_not_change(bench: Bench) -> None:
    bench.beat(tasks=tasks("t", progressed_at=at(0)))
    for _ in range(59):
        bench.after(5, tasks=tasks("t", progressed_at=at(0)))
    bench.clock.advance(4.999)
    assert stalled(bench) == [False]
    bench.clock.advance(0.002)
    assert stalled(bench) == [True]
    bench.beat(tasks=tasks("t", progressed_at=at(1)))
    assert stalled(bench) == [False]


def test_the_timer_of_a_stall_is_not_early_by_a_rounding() -> None:
    for tenth in range(50):
        bench = Bench(stall_after=0.1)
        bench.after(tenth / 10, tasks=tasks("t", progressed_at=at(0)))
        bench.clock.advance(0.2)
        assert stalled(bench) == [True]


def test_progress_that_was_never_reported_is_unknown(bench: Bench) -> None:
    bench.beat(tasks=tasks("t"))
    bench.clock.advance(14)
    for _ in range(100):
        bench.after(5, tasks=tasks("t"))
    assert stalled(bench) == [None]


@pytest.mark.parametrize("lie", [-1e9, 1e9])
def test_progress_does_not_depend_on_the_agents_clock(lie: float) -> None:
    bench = Bench()
    bench.beat(tasks=tasks("t", progressed_at=at(lie)), sent_at=at(lie))
    assert stalled(bench) == [False]
    for second in range(0, 300, 5):
        told = tasks("t", progressed_at=at(lie))
        bench.after(5, tasks=told, sent_at=at(lie + second * 1000))
    assert stalled(bench) == [True]
    bench.beat(tasks=tasks("t", progressed_at=at(lie - 50)))  # set back, and yet it moved
    assert stalled(bench) == [False]


def test_each_task_stalls_separately(bench: Bench) -> None:
    old, new = tasks("old", progressed_at=at(0)), tasks("new", progressed_at=at(0))
    bench.beat(tasks=old)
    for second in range(5, 301, 5):
        bench.after(5, tasks=old + new if second >= 100 else old)
    assert stalled(bench) == [True, False]
    for _ in range(20):
        bench.after(5, tasks=old + new)
    assert stalled(bench) == [True, True]


def test_whether_a_task_of_a_silent_instance_stalls_is_unknown(bench: Bench) -> None:
    bench.beat(tasks=tasks("t", progressed_at=at(0)))
    bench.clock.advance(14)
    assert stalled(bench) == [False]
    bench.clock.advance(1000)
    assert stalled(bench) == [None]
    bench.beat(tasks=tasks("t", progressed_at=at(0)))
    assert stalled(bench) == [True]


def test_a_new_life_resets_progress(bench: Bench) -> None:
    bench.beat(boot_id="a", tasks=tasks("t", progressed_at=at(0)))
    bench.clock.advance(301)
    bench.beat(boot_id="b", tasks=tasks("t", progressed_at=at(0)))
    assert stalled(bench) == [False]


# texts that the document may not show as they are

DIRTY = "a\x07b\u202e"


def test_a_repeated_beat_with_a_dirty_text_is_no_news(bench: Bench) -> None:
    for sequence in range(3):
        bench.beat(instance=DIRTY, boot_id=DIRTY, sequence=sequence, tasks=tasks(DIRTY))
    assert bench.puts == 1
    assert shown(bench) == ["ab"]
    assert lives(bench) == (1, 0)
    bench.beat(instance=DIRTY, boot_id=DIRTY, sequence=2, tasks=tasks("late"))
    assert bench.counted("beats_dropped") == 1


def test_a_dirty_boot_id_counts_as_any_other(bench: Bench) -> None:
    for boot in (DIRTY, "new"):
        bench.beat(boot_id=boot, sequence=1, tasks=tasks("t"))
    bench.beat(boot_id=DIRTY, sequence=2)
    assert lives(bench) == (2, 1)
    assert bench.counted("beats_dropped") == 1
