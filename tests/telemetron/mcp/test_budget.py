"""Budgets: no answer is above its tokens, none is cut in the middle, each cut is named."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.mcp.arguments import ArgumentError
from telemetron.mcp.budget import compact, encode, most, shrunk, tokens

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=600),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=60,
)


def test_tokens_are_bytes_by_1_8_rounded_up() -> None:
    assert [tokens(b"x" * size) for size in (0, 1, 9, 10, 3600, 3601)] == [0, 1, 5, 6, 2000, 2001]


def test_nulls_are_left_out_and_times_are_short() -> None:
    value = {
        "a": None,
        "b": [None, {"c": None}, 0, False, [], ""],
        "today": "2030-01-06T10:00:00.123456Z",
        "before": "2030-01-05T10:00:00Z",
        "text": "at 2030-01-06T10:00:00Z",
    }
    assert compact(value, "2030-01-06") == {
        "b": [None, {}, 0, False, [], ""],
        "today": "10:00:00",
        "before": "2030-01-05T10:00:00Z",
        "text": "at 2030-01-06T10:00:00Z",
    }


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=6, max_size=80), max_size=200), st.integers(200, 1_000))
def test_as_many_items_as_fit_are_kept(items: list[str], budget: int) -> None:
    def build(count: int) -> Any:
        return {"items": items[:count], "cut": [count, len(items)]}

    text = most(len(items), build, budget)
    kept = json.loads(text)["items"]
    assert tokens(text) <= budget
    assert kept == items[: len(kept)]
    if len(kept) < len(items):
        assert tokens(encode(build(len(kept) + 1))) > budget


def test_an_answer_that_does_not_fit_without_items_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="does not fit in 200"):
        most(3, lambda count: {"head": "x" * 400, "items": [0] * count}, 200)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=6), st.integers(200, 2_000))
def test_a_document_is_shortened_until_it_fits(document: dict[str, Any], budget: int) -> None:
    try:
        text = shrunk(document, budget)
    except ArgumentError:
        return
    assert tokens(text) <= budget
    assert isinstance(json.loads(text), dict)


def test_a_small_document_stays_as_it_is() -> None:
    document = {"pods": list(range(100)), "text": "x" * 100}
    assert json.loads(shrunk(document, 1_000)) == document


def test_each_shortened_list_is_named_with_its_length() -> None:
    pods = [{"id": f"pod-{number}", "problems": ["a"] * 20} for number in range(100)]
    shown = json.loads(shrunk({"key": "k", "pods": pods}, 500))
    assert shown["cut"]["pods"] == [len(shown["pods"]), 100]
    assert shown["cut"]["pods[].problems"][1] % 20 == 0
    assert shown["key"] == "k"


def test_lists_without_items_leave_room_for_the_most_valuable_word() -> None:
    step = {"at": "22:14:42", "event": "progressed", "step": "x" * 60}
    names = ("active", "waiting", "children", "blocked_by", "findings", "timeline")
    lists = {name: [step] * 9 for name in names}
    shown = json.loads(shrunk({"id": "t-1", "where": "active", "empty": [], **lists}, 200))
    assert (shown["where"], shown["empty"]) == ("active", [])
    assert shown["cut"] == {name: [0, 9] for name in names}
    assert not set(names) & set(shown)


def test_a_document_of_many_members_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="does not fit in 300"):
        shrunk({f"member-{number}": number for number in range(1_000)}, 300)
