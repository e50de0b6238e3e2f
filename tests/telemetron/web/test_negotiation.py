import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron.web.negotiation import accepts_gzip, preferred

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
def test_the_offer_that_a_client_prefers(accept, best):
    assert preferred(accept, OFFERS) == best


@given(st.text(max_size=60))
def test_no_header_is_too_strange(accept):
    assert preferred(accept, OFFERS) in {*OFFERS, None}


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (b"gzip", True),
        (b"GZIP", True),
        (b"br, gzip;q=0.1", True),
        (b"*", True),
        (b"*;q=0.5", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.0, *", False),
        (b"br", False),
        (b"identity", False),
        (b"gzip;q=x", False),
        (b"", False),
    ],
)
def test_accept_encoding(header, accepted):
    assert accepts_gzip(header) == accepted


@given(st.binary(max_size=60))
def test_no_accept_encoding_is_too_strange(header):
    assert accepts_gzip(header) in (True, False)
