"""Keys."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron import key


@pytest.mark.parametrize(
    ("components", "joined"),
    [
        (("a", "b"), "a/b"),
        (("a/b", None), "a~1b/-"),
        (("-",), "~2"),
        (("~", "~2"), "~0/~02"),
        ((None, ""), "-/~3"),
        (("", "~3"), "~3/~03"),
        (("ü", "a b"), "ü/a b"),
    ],
)
def test_components_are_escaped(components: tuple[str | None, ...], joined: str) -> None:
    assert key.join(*components) == joined


@settings(deadline=None)
@given(st.text(alphabet="-~/0123a", max_size=4))
def test_a_component_is_read_as_it_was(text: str) -> None:
    assert key.unescape(key.escape(text)) == text


components = st.none() | st.text(alphabet="-~/0123a", max_size=4)


@settings(deadline=None)
@given(st.lists(components, min_size=1, max_size=4), st.lists(components, min_size=1, max_size=4))
def test_different_components_have_different_keys(
    one: list[str | None], other: list[str | None]
) -> None:
    assert (key.join(*one) == key.join(*other)) == (one == other)
