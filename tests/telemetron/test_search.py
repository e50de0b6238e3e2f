import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron.search import shares


@pytest.mark.parametrize(
    ("look", "waiting", "given"),
    [
        (100, {"a": 10, "b": 20}, {"a": 10, "b": 20}),
        (20, {"a": 30, "b": 4}, {"b": 4, "a": 16}),
        (10, {"a": 30, "b": 30}, {"a": 5, "b": 5}),
        (3, {"a": 9, "b": 9, "c": 9, "d": 9}, {"a": 0, "b": 1, "c": 1, "d": 1}),
        (0, {"a": 1}, {"a": 0}),
        (10, {}, {}),
    ],
)
def test_the_least_is_searched_to_its_end_first(look, waiting, given):
    assert shares(look, waiting) == given


@given(st.integers(0, 1000), st.dictionaries(st.integers(), st.integers(0, 500), max_size=20))
def test_a_look_is_used_up_and_never_exceeded(look, waiting):
    given = shares(look, waiting)
    assert given.keys() == waiting.keys()
    assert all(0 <= given[place] <= waiting[place] for place in waiting)
    assert sum(given.values()) == min(look, sum(waiting.values()))
