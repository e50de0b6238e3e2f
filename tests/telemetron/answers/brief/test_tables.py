"""Rows name fields as the document does, to the second, and without nulls."""

from datetime import timedelta

import pytest

from telemetron.answers.brief.budget import Row, Table
from telemetron.answers.brief.tables import Clock, Tables, item, rows
from telemetron.document import Task
from tests.telemetron.answers.brief.made import (
    NOW,
    agent,
    ago,
    crashing,
    pod,
    snapshot,
    surveyed,
    workload,
)

CLOCK = Clock(NOW.date())


def test_a_time_is_short_on_the_day_of_the_answer() -> None:
    assert CLOCK.time(NOW) == "09:41:42"
    assert CLOCK.time(NOW - timedelta(days=1)) == "2030-01-05T09:41:42Z"
    assert CLOCK.time(None) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2030-01-06T09:41:07.123456Z", "09:41:07"),
        ("2030-01-06T09:41:07", "2030-01-06T09:41:07"),
        ("x" * 300, "x" * 239 + "…"),
        (8, 8),
        (None, None),
    ],
)
def test_a_value_is_as_in_the_document(value: object, shown: object) -> None:
    assert CLOCK.value(value) == shown


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("pods/writer-1", "pod writer-1"),
        ("activity/active_task_ids/a~1b", "task a/b"),
        ("instances/i", "instance i"),
        ("lagging/3", "lagging/3"),
        (None, None),
    ],
)
def test_an_item_is_told_in_words(path: str | None, words: str | None) -> None:
    assert item(path) == words


def levels(row: Row) -> list[list[object]]:
    return [list(cells) for cells in row.levels]


def test_columns_of_nulls_and_nulls_at_the_end_are_left_out() -> None:
    made = rows(Table("t", ("a", "b", "c")), [[(1, None, 2)], [(3, None, None)]])
    assert {row.table.columns for row in made} == {("a", "c")}
    assert [levels(row) for row in made] == [[[1, 2]], [[3]]]


def test_the_pod_that_says_most_stands_for_the_others() -> None:
    pods = [crashing("w-1"), crashing("w-2"), pod("w-3", ready=False, reason="Pending")]
    one = workload("w", *pods)
    survey = surveyed(snapshot(workload=[one]))
    (row,) = Tables(survey, CLOCK).entities("workload", [one])
    told = dict(zip(row.table.columns, levels(row)[0], strict=False))
    assert told["unwell_pods"] == 3
    assert (told["pod"], told["reason"], told["restarts"]) == ("w-1", "CrashLoopBackOff", 8)
    assert told["last_exit_at"] == "09:41:22"


def test_an_entity_is_whole_with_its_worst_items_first() -> None:
    tasks = [Task("good", stalled=False), Task("bad", stalled=True, progressed_at=ago(80))]
    survey = surveyed(snapshot(agents=[agent("a", *tasks)]))
    tables = Tables(survey, CLOCK)
    row = tables.details("a", agent("a", *tasks), 0.5)
    every = [shown for _, shown in map(tuple, row.levels)]
    first = every[0]["activity"]["active_task_ids"]
    assert [task["id"] for task in first] == ["bad", "good"]
    assert first[0]["progressed_at"] == "09:40:22"
    assert "description" not in every[0]
    last = every[-1]["activity"]
    assert last["cut"] == {"active_task_ids": (0, 2)}
