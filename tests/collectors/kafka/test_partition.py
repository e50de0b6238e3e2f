"""The group's position in a partition, and the window of its pending tasks."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetron.document import PendingTask
from telemetron_collectors.kafka.partition import LogRange, Position, Window, position
from telemetron_collectors.kafka.protocol.messages import Commit


@pytest.mark.parametrize(
    ("commit", "log", "policy", "expected"),
    [
        (30, LogRange(0, 100), "unknown", Position(30, 100)),
        (100, LogRange(0, 100), "unknown", Position(100, 100)),
        (30, LogRange(80, 100), "unknown", Position(80, 100, "OffsetsDeleted")),
        (-1, LogRange(0, 100), "unknown", Position(None, 100, "NoCommit")),
        (-1, LogRange(0, 100), "earliest", Position(0, 100)),
        (-1, LogRange(20, 100), "earliest", Position(20, 100)),
        (-1, LogRange(0, 100), "latest", Position(100, 100)),
        (-1, LogRange(100, 100), "unknown", Position(100, 100)),
        (60, LogRange(0, 10), "unknown", Position(None, 10, "Unknown")),
        (60, LogRange(0, 10, high_watermark=10), "unknown", Position(None, 10, "OffsetOutOfRange")),
        (60, LogRange(0, 10, high_watermark=10), "earliest", Position(0, 10, "OffsetOutOfRange")),
        (60, LogRange(0, 0, high_watermark=0), "unknown", Position(0, 0, "OffsetOutOfRange")),
        (15, LogRange(0, 10, high_watermark=17), "unknown", Position(10, 10)),
        (5, LogRange(9, 4), "unknown", Position(9, 9, "OffsetsDeleted")),
    ],
)
def test_the_position_follows_commit_log_and_policy(
    commit: int, log: LogRange, policy: str, expected: Position
) -> None:
    assert position(Commit(commit), log, policy) == expected


def test_a_foreign_commit_is_out_of_range() -> None:
    foreign = Commit(60, foreign=True)
    assert position(foreign, LogRange(0, 110), "unknown") == Position(None, 110, "OffsetOutOfRange")
    assert position(foreign, LogRange(0, 110), "latest").lag == 0


def tasks(*offsets: int) -> list[PendingTask]:
    return [PendingTask(id=str(offset), offset=offset) for offset in offsets]


def test_a_window_is_refilled_before_it_is_short() -> None:
    window = Window()
    assert window.wants(100, 2)
    window.append(tasks(*range(10)), 10, 2)
    assert ([task.offset for task in window.tasks], window.next) == ([0, 1, 2, 3], 4)
    assert not window.wants(100, 2)
    assert (window.depth(100), window.is_exact(100)) == (100, False)
    window.move(2)
    assert not window.wants(100, 2)
    window.move(3)
    assert window.wants(100, 2)


def test_a_window_is_an_upper_bound_until_all_is_read() -> None:
    window = Window()
    window.append(tasks(3, 5), 6, 4)
    assert (window.depth(20), window.is_exact(20)) == (16, False)
    window.append(tasks(9), 20, 4)
    assert (window.depth(20), window.is_exact(20)) == (3, True)
    window.move(4)
    assert (window.depth(20), [task.offset for task in window.tasks]) == (2, [5, 9])
    window.move(2)  # set back: what was read is forgotten
    assert (window.depth(20), window.next, list(window.tasks)) == (18, 2, [])


def filled(*offsets: int, begin: int, next: int) -> Window:
    window = Window()
    window.move(begin)
    window.append(tasks(*offsets), next, 99)
    return window


@pytest.mark.parametrize(
    ("start", "commit", "problem"),
    [
        (6, 2, "RecordsLost"),
        (11, 10, ""),  # a marker, or an aborted record
        (11, 7, ""),
        (11, 5, "RecordsLost"),
        (11, 6, ""),
        (30, 10, "OffsetsDeleted"),  # what was behind 12 had not been read
        (30, 5, "RecordsLost"),
    ],
)
def test_deleted_offsets_are_lost_records_or_not(start: int, commit: int, problem: str) -> None:
    """Records 2 and 5 among the offsets 2 to 12, all of which were read."""
    window = filled(2, 5, begin=2, next=12)
    window.move(commit)
    window.move(start, commit)
    assert window.loss(commit) == problem


def test_lost_records_stay_lost_until_the_group_passes_them() -> None:
    window = filled(2, 5, 8, begin=2, next=12)
    window.move(6, commit=3)
    window.move(10, commit=3)
    assert [window.loss(commit) for commit in (3, 8, 9, 1)] == [
        "RecordsLost",
        "RecordsLost",
        "",
        "RecordsLost",
    ]
    assert filled(2, begin=2, next=5).loss(1) == "OffsetsDeleted"


def test_consumed_records_are_not_lost_if_the_group_is_set_back() -> None:
    window = filled(2, 5, begin=2, next=12)
    window.move(6)
    window.move(8, commit=6)
    assert [window.loss(commit) for commit in (6, 5, 2)] == ["", "OffsetsDeleted", "OffsetsDeleted"]


@example({0}, [("read", 1), ("commit", 1), ("delete", 1), ("commit", 0)])
@given(
    st.sets(st.integers(0, 30)),
    st.lists(st.tuples(st.sampled_from(["commit", "delete", "read"]), st.integers(0, 30))),
)
def test_only_deleted_records_are_reported_as_lost(
    records: set[int], moves: list[tuple[str, int]]
) -> None:
    window, commit, start, end = Window(), 0, 0, 31
    window.move(0)
    gone: set[int] = set()
    for what, at in moves:
        if what == "read":
            base = max(window.next, start)
            window.append(tasks(*(n for n in sorted(records) if base <= n < at)), max(base, at), 4)
            continue
        if what == "commit":
            commit = at
        else:
            start = max(start, at)
            gone |= {n for n in records if n < start}
        window.move(max(commit, start), commit)
        if commit < start:
            lost = {n for n in gone if n >= commit}
            assert (window.loss(commit) != "RecordsLost") or lost
            assert window.loss(commit) or not lost
    assert window.depth(end) >= len([n for n in records if n >= max(commit, start)])


def test_compacted_tasks_are_dropped_when_they_are_read_again() -> None:
    window = filled(2, 5, 8, 9, begin=2, next=12)
    window.recheck()
    assert window.check == 2
    window.drop_missing(tasks(5), 7)
    assert ([task.offset for task in window.tasks], window.check) == ([5, 8, 9], 7)
    window.move(6)
    window.drop_missing(tasks(9, 20), 30)
    assert ([task.offset for task in window.tasks], window.check) == ([9], None)
    assert (window.depth(12), window.next) == (1, 12)
    window.drop_missing([], 40)
    assert [task.offset for task in window.tasks] == [9]


def test_tasks_are_sorted_by_age_and_tasks_without_time_come_last() -> None:
    times = [None, 30, 10, 20]
    window = Window()
    window.append(
        [
            PendingTask(id="", offset=n, submitted_at=at and datetime.fromtimestamp(at, UTC))
            for n, at in enumerate(times)
        ],
        4,
        9,
    )
    assert [task.offset for task in window.by_age] == [2, 3, 1, 0]
    window.move(3)
    assert [task.offset for task in window.by_age] == [3]


@given(
    st.sets(st.integers(0, 60)),
    st.lists(st.one_of(st.integers(0, 60), st.just(-1)), max_size=20),
    st.integers(1, 5),
)
def test_a_window_never_counts_too_little(records: set[int], moves: list[int], shown: int) -> None:
    """Against the log itself; a move of -1 is a fetch of some records."""
    window, base, end = Window(), 0, 61
    log = sorted(records)
    for move in moves:
        if move >= 0:
            base = move
            window.move(base)
        elif window.wants(end, shown):
            first = [offset for offset in log if offset >= window.next][:3]
            next = first[-1] + 1 if len(first) == 3 else end
            window.append(tasks(*first), next, shown)
        waiting = [offset for offset in log if offset >= base]
        assert window.depth(end) >= len(waiting)
        assert window.depth(end) == len(waiting) or not window.is_exact(end)
        assert [task.offset for task in window.tasks] == waiting[: len(window.tasks)]
        if window.next >= end:
            assert window.is_exact(end)
            assert window.depth(end) == len(waiting)
