"""JSON is compact, Markdown has the same content."""

import json

from telemetron.answers.brief.budget import Part, Table
from telemetron.answers.brief.forms import Json, Markdown

PODS = Table("pods", ("pod", "ready", "reason"))
DETAILS = Table("details")


def part(form: Json | Markdown, table: Table, *rows: tuple[object, ...]) -> Part:
    return Part(form.head(table), [form.row(table, row) for row in rows], True)


def test_json_has_columns_and_rows() -> None:
    form = Json()
    parts = [Part(form.field("id", "x")), part(form, PODS, ("a", True, None), ("b", False, "x]}"))]
    body = form.whole([*parts, part(form, DETAILS, ("a", {"n": 1}), ("b", {}))])
    assert json.loads(body) == {
        "id": "x",
        "pods": {
            "columns": ["pod", "ready", "reason"],
            "rows": [["a", True, None], ["b", False, "x]}"]],
        },
        "details": {"a": {"n": 1}, "b": {}},
    }
    assert b" " not in body


def test_an_empty_answer_is_valid() -> None:
    assert Json().whole([]) == b"{}"
    assert Markdown().whole([]) == b""


def test_markdown_has_tables() -> None:
    form = Markdown()
    parts = [Part(form.field("cut", {"pods": (1, 3)})), part(form, PODS, ("a|b", True, None))]
    assert form.whole([*parts, part(form, DETAILS, ("a", {"n": 1}))]).decode() == (
        "- cut: pods 1 of 3\n"
        "\n## pods\n\npod | ready | reason\n---|---|---\na\\|b | true | \n"
        '\n## details\n\n- a: `{"n":1}`\n'
    )


def test_markdown_keeps_each_value_on_its_line() -> None:
    line = Markdown().field("about", ["one\ntwo", "three"])
    assert line == b"- about: one two, three\n"
