import pytest

from telemetron.web.answer import accepts_gzip, matches


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


@pytest.mark.parametrize(
    ("header", "matched"),
    [
        (b'W/"e.1"', True),
        (b'"e.1"', True),
        (b'"x", W/"e.1"', True),
        (b"*", True),
        (b'W/"e.2"', False),
        (b"e.1", False),
        (b"", False),
    ],
)
def test_if_none_match(header, matched):
    assert matches(header, b'W/"e.1"') == matched
