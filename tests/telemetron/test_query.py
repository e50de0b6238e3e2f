from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron.http import HttpProblem
from telemetron.query import duration, flag, parameters


def test_parameters_by_name():
    assert parameters(b"a=1&b=&c=%20x", ("a", "b", "c")) == {"a": "1", "b": "", "c": " x"}
    assert parameters(b"", ("a",)) == {}


def test_a_list_may_be_repeated():
    assert parameters(b"sections=a&sections=b,c", ("sections",)) == {"sections": "a,b,c"}


@pytest.mark.parametrize("query", [b"&".join([b"a=1"] * 200), b"d=1", b"a=1&a=2", b"a", b"%00=1"])
def test_unknown_and_repeated_parameters_are_refused(query):
    known = ("a",) if query != b"a" else ()
    with pytest.raises(HttpProblem) as raised:
        parameters(query, known)
    assert raised.value.status == 400


@given(st.binary(max_size=50))
def test_a_strange_query_is_only_refused(query):
    with suppress(HttpProblem):
        assert set(parameters(query, ("since",))) <= {"since"}


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("500ms", 0.5), ("1m", 60), ("2", 2), ("0.5s", 0.5)]
)
def test_durations(text, seconds):
    assert duration("wait", text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "61s", "2m", "1h", "1e1s", "٣s", " 1s", "nan"])
def test_wrong_durations_are_refused(text):
    with pytest.raises(HttpProblem):
        duration("wait", text)


def test_a_parameter_may_allow_a_longer_duration():
    assert duration("max_stall", "30m", 3600) == 1800
    with pytest.raises(HttpProblem, match="at most 3600s"):
        duration("max_stall", "61m", 3600)


def test_flags():
    assert flag("measures", "true")
    assert not flag("measures", "false")
    with pytest.raises(HttpProblem):
        flag("measures", "1")
