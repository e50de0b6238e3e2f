from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_agent.text import LIST, NAME, integer, labels, rfc3339, segment, text


class Broken:
    """Nothing can be done with it."""

    def __str__(self) -> str:
        raise RuntimeError

    def __int__(self) -> int:
        raise RuntimeError

    def __iter__(self):
        raise RuntimeError


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=())), st.integers(1, 20))
def test_any_text_is_bounded_and_can_be_sent(value: str, limit: int) -> None:
    plain = text(value, limit)
    if plain is None:
        assert not any(c.isprintable() for c in value[:limit])
        return
    assert 1 <= len(plain) <= limit
    plain.encode()
    assert not any(ord(c) < 32 for c in plain)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("\n", None),
        ("Köln 🚆", "Köln 🚆"),
        ("a\x00b\nc\x9f", "abc"),
        ("\ud800x", "x"),
        ("👩\u200d🚀", "👩\u200d🚀"),  # a joiner is no control character
        (7, "7"),
        (Broken(), "?"),
    ],
)
def test_text(value: object, expected: str | None) -> None:
    assert text(value, 10) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((), []),
        (["a", "b"], ["a", "b"]),
        (iter(["a", "", None, 1]), ["a", "1"]),
        ("gpt", ["gpt"]),
        (None, []),
        (5, ["5"]),
        (["x" * 1000], ["x" * NAME]),
        (Broken(), []),
    ],
)
def test_names(value: object, expected: list[str]) -> None:
    assert labels(value) == expected


def test_names_are_bounded() -> None:
    def endless():
        while True:
            yield "x"

    assert len(labels(endless())) == LIST


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (0, 0),
        ("12", 12),
        ("x", None),
        (float("nan"), None),
        (float("inf"), None),
        (2**63, None),
        (2**63 - 1, 2**63 - 1),
        (-1, None),
        (Broken(), None),
    ],
)
def test_integer(value: object, expected: int | None) -> None:
    assert integer(value) == expected


def test_a_segment_is_printable() -> None:
    assert segment("a\u200db\u00a0 c\n") == "ab c"
    assert segment("\u200d") is None
    assert segment(None) is None


def test_times() -> None:
    assert rfc3339(None) is None
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_700_000_000.9999) == "2023-11-14T22:13:20.999Z"
