"""Two published entities are compared by their Structs as they would be by their JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from telemetron.document import UNSTAMPED, Agent, SourceRow
from telemetron.history.delta import ALL_KINDS, MEASURES, Delta, compare, fields, shapes
from telemetron.history.published import changed_measures, difference
from telemetron.store.changeset import stamped
from telemetron.store.rope import Change, Fragment
from telemetron.store.section import SECTIONS

SHAPES = shapes()
ENTITIES = {name: section.entity for name, section in SECTIONS.items()} | {"sources": SourceRow}
START = datetime(2030, 1, 1, tzinfo=UTC)
SCALARS: dict[Any, Sequence[Any]] = {
    str: ["", "a", "b/1", "\u00e4~@", "2030-01-01T00:00:00Z"],
    int: [0, 1, 2, 2**53],
    float: [-0.0, 0.0, 1.0, 2.5],
    bool: [False, True],
    NoneType: [None],
    datetime: [START + timedelta(milliseconds=n) for n in (0, 1, 1000)],
}


def made(hint: Any, random: Random) -> Any:
    """A value of this type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return made(arguments[0], random)
    if origin in (Union, UnionType):
        return made(random.choice(arguments), random)
    if origin is list:
        return [made(arguments[0], random) for _ in range(random.randrange(4))]
    if origin is dict:
        return {made(arguments[0], random): made(arguments[1], random) for _ in range(2)}
    if hint in SCALARS:
        return random.choice(SCALARS[hint])
    return hint(**{name: made(one, random) for name, one in hints(hint).items()})


def hints(struct: type[Struct]) -> dict[str, Any]:
    """The types of its fields; the store alone fills in `updated_at`."""
    return {
        name: hint
        for name, hint in get_type_hints(struct, include_extras=True).items()
        if name != "updated_at"
    }


def changed(value: Any, random: Random) -> Any:
    """The value a moment later: some of it is different, some items have moved."""
    if isinstance(value, list):
        kept = [changed(one, random) for one in value if random.random() < 0.8]
        return random.sample(kept, len(kept)) if random.random() < 0.3 else kept
    if not isinstance(value, Struct):
        return value
    new = {
        name: made(hint, random)
        if random.random() < 0.15
        else changed(getattr(value, name), random)
        for name, hint in hints(type(value)).items()
    }
    return replace(value, **new)


def published(entity: Any, stamp: bytes) -> Fragment:
    return Fragment(stamped(msgspec.json.encode(entity), stamp), entity, stamp, Change())


def by_json(old: Fragment, new: Fragment, section: str) -> Delta:
    before, after = msgspec.json.decode(old.body), msgspec.json.decode(new.body)
    return compare(before, after, SHAPES[section], MEASURES["all"])


@pytest.mark.parametrize("section", ENTITIES)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), is_later=st.booleans())
def test_the_delta_is_that_of_the_decoded_json(section: str, seed: int, is_later: bool) -> None:
    random = Random(seed)
    entity = made(ENTITIES[section], random)
    old = published(entity, b"2030-01-01T00:00:00Z")
    stamp = b"2030-01-01T00:00:01Z" if is_later else old.updated_at
    new = published(changed(entity, random), stamp)
    delta = difference(old, new, SHAPES[section])
    assert msgspec.msgpack.encode(delta) == msgspec.msgpack.encode(by_json(old, new, section))
    assert difference(old, old, SHAPES[section]) == {}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(ENTITIES)), st.integers(0, 2**32))
def test_the_changed_measures_are_those_that_only_differ_in_measures(
    section: str, seed: int
) -> None:
    random, shape = Random(seed), SHAPES[section]
    entity = made(ENTITIES[section], random)
    old, new = (published(one, b"") for one in (entity, changed(entity, random)))
    measured = {path for path, _ in changed_measures(old.entity, new.entity, shape)}
    found = dict(fields(by_json(old, new, section), shape, MEASURES["all"], ALL_KINDS))
    state = dict(fields(by_json(old, new, section), shape, MEASURES["none"], ALL_KINDS))
    assert measured >= found.keys() - state.keys() - {"truncated"}


def test_a_new_part_has_the_stamp_of_its_entity() -> None:
    workload = made(ENTITIES["workload"], Random(1))
    live = made(hints(ENTITIES["workload"])["live"].__args__[0], Random(2))
    old, new = replace(workload, live=None), replace(workload, live=live)
    stamps = b"2030-01-01T00:00:00Z", b"2030-01-01T00:00:01Z"
    delta = difference(*map(published, (old, new), stamps), SHAPES["workload"])
    assert delta["live"][1]["updated_at"] == "2030-01-01T00:00:01Z"
    assert delta["updated_at"] == [stamp.decode() for stamp in stamps]


def test_agents_are_made_in_all_their_variety() -> None:
    """The properties above are worth what these entities are worth."""
    random = Random(0)
    pairs = [(one, changed(one, random)) for one in (made(Agent, random) for _ in range(50))]
    assert any(
        old.activity.ended and old.activity.ended != new.activity.ended for old, new in pairs
    )
    assert any(old.instances != new.instances for old, new in pairs)
    assert {old.updated_at for old, _ in pairs} == {UNSTAMPED}
