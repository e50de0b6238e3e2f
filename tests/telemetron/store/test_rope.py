"""Ropes, against a sorted dict."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron.store.rope import Change, Fragment, Rope, glued

CHUNK_BYTES = 60


def empty() -> Rope:
    return Rope(chunk_bytes=CHUNK_BYTES)


def fragment(body: bytes) -> Fragment:
    return Fragment(body, None, b"", Change())


def edited(old: Rope, edits: Mapping[str, Fragment | None]) -> Rope:
    steps = old.edited(edits)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def of(keys: list[str], size: int = 20) -> Rope:
    return edited(empty(), {key: fragment(key.encode() * size) for key in keys})


keys = st.text(alphabet="abcd", min_size=1, max_size=3)
bodies = st.integers(0, 70).map(lambda size: fragment(b"x" * size))
edits = st.dictionaries(keys, bodies | st.none(), max_size=12)


@settings(deadline=None)
@given(st.lists(edits, max_size=12))
def test_a_rope_is_a_sorted_dict(history: list[dict[str, Fragment | None]]) -> None:
    model: dict[str, Fragment] = {}
    current = empty()
    for changes in history:
        before, chunks = current, list(current.chunks)
        current = edited(current, changes)
        model = {key: one for key, one in {**model, **changes}.items() if one}
        assert list(before.chunks) == chunks
        compare(current, model)
        share(before, current, changes)


def compare(current: Rope, model: dict[str, Fragment]) -> None:
    assert list(current.every_key()) == sorted(model)
    assert list(current) == [model[key] for key in sorted(model)]
    assert len(current) == len(model)
    assert b"".join(current.pieces()) == b",".join(model[key].body for key in sorted(model))
    for key in ("a", "bb", "ccc", "zzzz", ""):
        assert current.get(key) is model.get(key)
    for chunk in current.chunks:
        assert chunk.keys, "no empty chunk"
        assert chunk.size == sum(len(one.body) + 1 for one in chunk.fragments)
        assert chunk.size <= 3 * CHUNK_BYTES + 70, "no chunk without bound"


def share(before: Rope, now: Rope, changes: Mapping[str, Any]) -> None:
    """A chunk that no edit touches is the same object, unless it was small and merged."""
    old = list(before.chunks)
    for at, chunk in enumerate(old):
        first = chunk.keys[0] if at else ""
        end = old[at + 1].keys[0] if at + 1 < len(old) else "\U0010ffff"
        untouched = not any(first <= key < end for key in changes)
        if untouched and chunk.size > CHUNK_BYTES // 2:
            assert chunk in now.chunks


def test_an_edit_costs_the_chunks_it_touches() -> None:
    old = of([f"{n:03}" for n in range(100)], size=10)
    assert len(old.chunks) > 20
    new = edited(old, {"050": fragment(b"y" * 30)})
    assert sum(a is not b for a, b in zip(old.chunks, new.chunks, strict=True)) == 1
    assert old.get("050") is not new.get("050")


def test_no_edit_is_the_same_rope() -> None:
    old = of(["a"])
    assert edited(old, {}) is old
    assert edited(empty(), {"a": None}).chunks == []


def test_removals_leave_no_small_chunks() -> None:
    old = of([f"{n:03}" for n in range(100)], size=1)
    assert len(old.chunks) >= 5
    left = edited(old, {f"{n:03}": None for n in range(100) if n % 10})
    assert list(left.every_key()) == [f"{n:03}" for n in range(0, 100, 10)]
    assert len(left.chunks) <= 2
    assert edited(left, dict.fromkeys(left.every_key())).chunks == []


def test_chunks_that_grow_are_split() -> None:
    chunk_sizes = [chunk.size for chunk in of([f"{n:03}" for n in range(100)], size=10).chunks]
    assert max(chunk_sizes) <= 2 * CHUNK_BYTES
    big = edited(of(["a", "b"], size=5), {"a": fragment(b"x" * 500), "b": fragment(b"y" * 500)})
    assert len(big.chunks) == 2


def test_every_chunk_is_a_step() -> None:
    fill = empty().edited({f"{n:03}": fragment(b"x" * 30) for n in range(100)})
    assert sum(1 for _ in fill) >= 30


def test_a_chunk_is_joined_once() -> None:
    whole = of(["a", "b", "c"])
    assert all(a is b for a, b in zip(whole.pieces(), whole.pieces(), strict=True))


def test_keys_near_a_key() -> None:
    whole = of(["b", "d", "f", "h"], size=1)
    assert whole.around("e", 2) == ["d", "f"]
    assert whole.around("a", 4) == ["b", "d"]
    assert whole.around("z", 2) == ["h"]
    assert Rope().around("a", 2) == []


def test_small_pieces_are_joined() -> None:
    large = b"x" * CHUNK_BYTES
    assert glued([b"a", b"b", large, b"c"], CHUNK_BYTES, CHUNK_BYTES) == (b"ab", large, b"c")
    assert glued([large], CHUNK_BYTES, CHUNK_BYTES)[0] is large
    assert glued([b"a", large[1:]], CHUNK_BYTES, CHUNK_BYTES) == (b"a" + large[1:],), "all is small"


def test_the_union_of_two_changes_is_the_later_one() -> None:
    one, two = Change(3, 3), Change(5, 2)
    assert one | two == two | one == Change(5, 3, two.at)
