import json
import re
from datetime import UTC, datetime

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron.history.place import parse
from telemetron.http import TITLES, HttpProblem
from telemetron.query import duration
from telemetron.web.pages import components
from telemetron.web.pages.components import DURATION


@pytest.mark.parametrize(
    "point",
    [
        "1a2b.7",
        "1a2b.7-3",
        "5m",
        "2026-12-31T23:59:59Z",
        "2026-01-30T10:00:00.5+01:00",
        "2026-02-28T10:00:00.123456-00:30",
    ],
)
def test_point_in_the_past_matches_its_pattern(point):
    """A form that checks values by the document refuses none that the server accepts."""
    for parameter in (components.UNTIL, components.AT, components.BEFORE):
        assert re.search(parameter["schema"]["pattern"], point)
    assert parse(point, datetime(2026, 12, 31, tzinfo=UTC))


@given(
    st.from_regex(r"[0-6]{0,7}(\.[05]{0,7})?(ms|s|m|h)?", fullmatch=True, alphabet="0123456.msh")
)
def test_duration_pattern_matches_what_the_server_accepts(text):
    try:
        duration("wait", text)
        taken = True
    except HttpProblem:
        taken = False
    assert bool(re.search(DURATION, text)) == taken


def test_each_status_has_a_problem_of_rfc_9457():
    problems = components.problems()
    assert problems.keys() == {str(status) for status in TITLES}
    for response in problems.values():
        assert list(response["content"]) == ["application/problem+json"]
    assert "WWW-Authenticate" in problems["401"]["headers"]
    assert "Allow" in problems["405"]["headers"]
    body = json.loads(HttpProblem(404, "no", nearest=["a/b"]).body())
    jsonschema_rs.validate(components.SCHEMAS["HttpProblem"], body)
