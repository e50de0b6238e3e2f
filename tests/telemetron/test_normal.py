"""Normal values: text and times as the document shows them."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.document import UNSTAMPED, Live
from telemetron.normal import is_plain, normalized, utc
from telemetron.text import MAX_TEXT, one_line

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8")), st.booleans())
def test_plain_text_is_normal(value: str, spaced: bool) -> None:
    encoded = msgspec.json.encode({"text": value})
    json = msgspec.json.format(encoded, indent=4) if spaced else encoded
    assert not is_plain(json) or normalized(value[:MAX_TEXT]) == value[:MAX_TEXT]


@pytest.mark.parametrize("text", [b"\\u0007", b"\\u202e", b"\xe2\x80\xae", b"\x7f", b"\\n"])
def test_text_that_may_change_is_not_plain(text: bytes) -> None:
    assert not is_plain(b'{"text": "%s"}' % text)


@settings(deadline=None)
@given(st.text())
def test_normal_text_stays(value: str) -> None:
    shown = one_line(value)
    assert normalized({"a": [shown, 5, None]}) == {"a": [shown, 5, None]}


def test_times_at_any_depth_are_in_utc() -> None:
    east = timezone(timedelta(hours=9))
    assert normalized([{"at": NOON.astimezone(east)}])[0]["at"].tzinfo is UTC
    assert utc(datetime(1, 1, 1, 1, tzinfo=east)) == datetime(1, 1, 1, 1, tzinfo=UTC)


def test_stamps_are_reset() -> None:
    assert normalized(Live(ready=1, updated_at=NOON)) == Live(ready=1, updated_at=UNSTAMPED)


def test_wide_integers_are_an_error() -> None:
    with pytest.raises(OverflowError):
        normalized([2**63])
