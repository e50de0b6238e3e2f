"""Text that others wrote."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron.text import MAX_TEXT, cut, one_line, printable, strip_controls


@pytest.mark.parametrize(
    ("given", "shown"),
    [("", ""), ("abcd", "abcd"), ("abcde", "abc…"), ("漢字漢字漢", "漢字漢…")],
)
def test_long_text_is_cut_with_an_ellipsis(given: str, shown: str) -> None:
    assert cut(given, 4) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("two\nlines\tand", "two lines and"),
        ("a\u3000b\u2028c", "a b c"),
        ("bell\x07del\x7fc1\x85.", "belldelc1 ."),
        ("\u202eright to left", "right to left"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("a\ud800b", "ab"),
        ("ärger 漢字 🎉", "ärger 漢字 🎉"),
        ("x" * (MAX_TEXT + 1), "x" * (MAX_TEXT - 1) + "…"),
    ],
)
def test_text_becomes_one_bounded_line(given: str, shown: str) -> None:
    assert one_line(given) == shown


@given(st.text())
def test_one_line_is_stable_and_has_no_invisible_characters(value: str) -> None:
    shown = one_line(value, 20)
    assert one_line(shown, 20) == shown
    assert len(shown) <= 20
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in shown)


@given(st.text())
def test_controls_and_surrogates_are_stripped_and_nothing_else(value: str) -> None:
    wanted = re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "", value)
    assert strip_controls(value) == wanted


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain – ü 漢", "plain – ü 漢"),
        ("\x00\x1b\x7f\x9b\n\t", r"\x00\x1b\x7f\x9b\n\t"),
        ("\u202e\u2028\ufeff", r"\u202e\u2028\ufeff"),
        ("\ud800", r"\ud800"),
    ],
)
def test_invisible_characters_are_escaped(given: str, shown: str) -> None:
    assert printable(given) == shown
