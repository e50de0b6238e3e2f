"""A sheet takes rows until the budget is full, and says what it left out."""

import json
from typing import Any

import pytest

from telemetron.answers.brief.budget import Row, Sheet, Table, bytes_of
from telemetron.answers.brief.forms import Json

NEXT = "/system/brief?max_tokens=10000"
THINGS = Table("things", ("name", "why"))


def filled(most: int, rows: list[Row], **total: int) -> Any:
    sheet = Sheet(Json(), most, total, NEXT)
    for row in rows:
        sheet.add(row)
    body = sheet.finish([], ["things", "others"])
    assert len(body) <= most
    return json.loads(body)


def thing(number: int, why: str = "because") -> Row:
    return Row(THINGS, [(f"thing-{number}", why), (f"thing-{number}",)])


def test_all_rows_are_shown_without_a_notice() -> None:
    found = filled(500, [thing(n) for n in range(3)], things=3)
    assert found == {
        "things": {
            "columns": ["name", "why"],
            "rows": [[f"thing-{n}", "because"] for n in range(3)],
        }
    }


def test_the_notice_has_its_room_before_any_row() -> None:
    for most in range(100, 600):
        found = filled(most, [thing(n) for n in range(20)], things=20)
        shown = len(found.get("things", {"rows": ()})["rows"])
        assert found.get("cut", {"things": [20, 20]}) in (
            {"things": [shown, 20]},
            {"rows": [shown, 20]},
        )
        assert ("next" in found) == (shown < 20)


def test_a_row_is_shortened_before_it_is_left_out() -> None:
    found = filled(160, [thing(0, "x" * 100)], things=1)
    assert found["things"]["rows"] == [["thing-0"]]


def test_no_row_is_shown_after_one_that_did_not_fit() -> None:
    rows = [thing(0), Row(THINGS, [("x" * 300,)]), thing(2)]
    found = filled(400, rows, things=3)
    assert [row[0] for row in found["things"]["rows"]] == ["thing-0"]
    assert found["cut"] == {"things": [1, 3]}


def test_a_row_above_its_share_is_left_out_for_now() -> None:
    wide = Row(Table("things"), [("a", "x" * 300)], share=0.1)
    sheet = Sheet(Json(), 1_000, {"things": 1}, NEXT)
    assert not sheet.add(wide)
    assert sheet.add(wide._replace(share=1.0))


def test_a_field_that_does_not_fit_is_left_out() -> None:
    sheet = Sheet(Json(), 60, {}, NEXT)
    assert not sheet.add_field("long", "x" * 60)
    assert sheet.add_field("short", "x")
    assert json.loads(sheet.finish(["long", "short"], [])) == {"short": "x"}


def test_a_notice_of_many_tables_is_summed_in_a_small_answer() -> None:
    totals = {f"table-{n}": 5 for n in range(9)}
    sheet = Sheet(Json(), 360, totals, NEXT)
    assert json.loads(sheet.finish([], []))["cut"] == {"rows": [0, 45]}


@pytest.mark.parametrize(
    ("tokens", "ratio", "size"), [(200, 1.8, 360), (500, 1.8, 900), (333, 2.4, 799)]
)
def test_tokens_are_counted_as_bytes(tokens: int, ratio: float, size: int) -> None:
    assert bytes_of(tokens, ratio) == size
