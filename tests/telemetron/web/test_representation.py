import pytest

from telemetron.web.representation import matches


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
