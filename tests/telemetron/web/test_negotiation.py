import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron.web.negotiation import preferred

OFFERS = ("text/plain", "application/json", "text/html")
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "best"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        (FIREFOX, "text/html"),
        ("application/json", "application/json"),
        ("Application/JSON ; charset=utf-8", "application/json"),
        ("application/*, text/plain;q=0.9", "application/json"),
        ("text/*;q=0.5, text/html;q=0.4, application/json;q=0.1", "text/plain"),
        ("text/plain;q=0, */*;q=0.1", "application/json"),
        ("text/html;level=1;q=0.3, text/html;q=0.7, text/plain;q=0.5", "text/html"),
        ("image/png", None),
        ("*/*;q=0", None),
        ("text/html;q=nan", None),
        ("text/html;q=-1", None),
        ("text/html;q=7, text/plain", "text/plain"),
    ],
)
def test_what_a_client_likes_best(accept, best):
    assert preferred(accept, OFFERS) == best


@given(st.text(max_size=60))
def test_no_header_is_too_strange(accept):
    assert preferred(accept, OFFERS) in {*OFFERS, None}
