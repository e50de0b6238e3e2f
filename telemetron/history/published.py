"""Compares two published entities by their Structs: much faster than by their decoded JSON."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from telemetron.document import identify, joined
from telemetron.history.delta import CUT, PLAIN, STAMP, Delta, Field, Shape, list_change
from telemetron.key import escape
from telemetron.store.changeset import stamped
from telemetron.store.rope import Fragment

Stamps = tuple[bytes, bytes]
"""The `updated_at` of the old version and of the new one."""

_SCALARS = (str, int, float)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def difference(old: Fragment, new: Fragment, shape: Shape) -> Delta:
    """Return the delta of two versions with all measures, as `compare` does of decoded JSON."""
    stamps = old.updated_at, new.updated_at
    delta = _compare(old.entity, new.entity, shape, stamps)
    if old.updated_at == new.updated_at or STAMP not in shape:
        return delta
    delta[STAMP] = [stamp.decode() for stamp in stamps]
    return delta if list(shape)[-1] == STAMP else {n: delta[n] for n in shape if n in delta}


def _compare(old: Struct, new: Struct, shape: Shape, stamps: Stamps) -> Delta:
    """Return the delta of two records; the stamps in their Structs are never filled in."""
    values = _getter(type(old))
    delta = {}
    for name, was, value in [
        (name, was, value)
        for name, was, value in zip(shape, values(old), values(new), strict=False)
        if was is not value and was != value
    ]:
        is_change = name != CUT or was or value
        if is_change and (change := _change(was, value, shape[name], stamps)):
            delta[name] = change
    return delta


@cache
def _identities(identity: str) -> Any:
    """Return a function that gets what identifies an item, not `joined`, which takes longer."""
    return attrgetter(*identity.split("@"))


@cache
def _getter(struct: type[Struct]) -> Any:
    """Return a function that returns all values of a Struct; a tuple even of one."""
    names = struct.__struct_fields__
    return attrgetter(*names) if len(names) > 1 else lambda one: (getattr(one, names[0]),)


def _change(was: Any, value: Any, field: Field, stamps: Stamps) -> Any:
    if field.shape and isinstance(was, Struct) and isinstance(value, Struct):
        return _compare(was, value, field.shape, stamps)
    if field.identity and isinstance(was, list) and isinstance(value, list):
        get = _identities(field.identity)
        old, new = [get(item) for item in was], [get(item) for item in value]
        if len(set(old)) == len(old) and len(set(new)) == len(new):
            if old == new:
                return _item_changes(old, was, value, field, stamps)
            before, after = dict(zip(old, was, strict=True)), dict(zip(new, value, strict=True))
            return _list_change(before, after, field, stamps)
    return [_plain(was, stamps[0]), _plain(value, stamps[1])]


def _item_changes(
    ids: list[Any], old: list[Struct], new: list[Struct], field: Field, stamps: Stamps
) -> Any:
    """Return what `_list_change` does of a list whose items stayed: they only changed."""
    identity = field.identity or ""
    changed = [
        [joined(id) if "@" in identity else id, delta]
        for id, was, value in zip(ids, old, new, strict=True)
        if was is not value
        and was != value
        and (delta := _compare(was, value, field.shape, stamps))
    ]
    return [identity, changed, [], [], []] if changed else None


def _list_change(
    old: dict[Any, Struct], new: dict[Any, Struct], field: Field, stamps: Stamps
) -> Any:
    identity = field.identity or ""
    change = list_change(
        old, new, identity, lambda was, value: _compare(was, value, field.shape, stamps)
    )
    if change is None:
        return None
    _, changed, removed, added, order = change
    if "@" in identity:
        changed = [[joined(id), delta] for id, delta in changed]
        order = [list(map(joined, ids)) for ids in order]
    gone = [[at, _plain(item, stamps[0])] for at, item in removed]
    come = [[at, _plain(item, stamps[1])] for at, item in added]
    return [identity, changed, gone, come, order]


def _plain(value: Any, stamp: bytes) -> Any:
    """Return a value as its decoded JSON, with its stamps filled in."""
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, datetime):
        return msgspec.to_builtins(value)
    return _decode(stamped(_encode(value), stamp))


def changed_measures(
    old: Struct, new: Struct, shape: Shape, kind: str | None = None, under: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the path, as `fields` yields it, and the kind of each measure that differs.

    It compares the Structs without decoding JSON, as it runs for most publications.
    """
    for name, field in shape.items():
        if not (field.has_measure or kind):
            continue
        was, value = getattr(old, field.attribute), getattr(new, field.attribute)
        if was == value:
            continue
        path, measure = under + escape(name), kind or field.measure
        if name == CUT:
            yield from ((path, one) for one in _cut_kinds(was or {}, value or {}, shape))
        elif isinstance(was, Struct) and isinstance(value, Struct) and field.shape:
            yield from changed_measures(was, value, field.shape, measure, path + "/")
        elif isinstance(was, list) and isinstance(value, list) and field.shape:
            yield from _changed_items(was, value, field, measure, path)
        elif measure:
            yield path, measure


def _cut_kinds(old: Mapping[str, int], new: Mapping[str, int], shape: Shape) -> Iterator[str]:
    """Yield the kinds of the measures among the cut lists whose full length differs."""
    for name in old.keys() | new.keys():
        if old.get(name) != new.get(name) and (measure := shape.get(name, PLAIN).measure):
            yield measure


def _changed_items(
    was: list[Any], value: list[Any], field: Field, measure: str | None, path: str
) -> Iterator[tuple[str, str]]:
    old, new = _by_identity(was, field), _by_identity(value, field)
    if len(old) != len(was) or len(new) != len(value):  # compared as a whole, as in `_change`
        kinds = {one.measure for one in field.shape.values() if one.measure}
        yield from ((path, one) for one in ([measure] if measure else kinds))
        return
    for id, item in new.items():
        if id not in old and measure:
            yield f"{path}/{escape(str(id))}", measure
        elif id in old and old[id] != item:
            here = f"{path}/{escape(str(id))}/"
            yield from changed_measures(old[id], item, field.shape, measure, here)
    if measure:
        yield from ((f"{path}/{escape(str(id))}", measure) for id in old.keys() - new.keys())


def _by_identity(items: list[Any], field: Field) -> dict[Any, Any]:
    """Return the items by identity; empty if they have none."""
    if field.identity is None:
        return {}
    id_of = identify(field.identity, attrgetter)
    return {id_of(item): item for item in items}
