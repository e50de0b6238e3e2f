"""Deltas: the difference of two versions of one entity; it can be applied and inverted.

Entities are decoded JSON. A delta maps each field that differs to one of:

- `[old, new]`;
- the delta of a nested record;
- for a list whose items have an identity, `[identity, changed, removed, added, order]`: the name of
  that field (`a@b`: of two fields), `[id, delta]` of each changed item, `[index, item]` of each
  removed and added one, and the ids of the other items before and after, if their order differs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from telemetron.document import IDENTITIES, KINDS, State, identify
from telemetron.key import escape

Record = dict[str, Any]
Delta = dict[str, Any]
T = TypeVar("T")

MEASURES: Mapping[str, Set[str]] = {
    "none": frozenset(),
    "levels": frozenset({"level"}),
    "all": frozenset({"level", "sample"}),
}
ALL_KINDS: Set[str] = frozenset(KINDS)
SPREADING = ("tasks", "problems")
"""Kinds that a record or list gives to all fields in it."""
STAMP = "updated_at"
CUT = "truncated"


class Field(NamedTuple):
    """Properties of one field of the document."""

    measure: str | None = None
    shape: Mapping[str, "Field"] = {}
    """The fields of a nested record, or of each record in a list."""
    identity: str | None = None
    attribute: str = ""
    """Its name in the Struct, which may differ from the document's."""
    has_measure: bool = False
    """Whether it is a measure or contains one."""
    kind: str = "status"
    """What a change of it is about, see `telemetron.document`."""
    task_values: Set[Any] = frozenset()


Shape = Mapping[str, Field]
PLAIN = Field()


@cache
def shape_of(struct: type[Struct], around: str = "status") -> Shape:
    """Return the fields of a type of the document, by their names in JSON.

    `around` is the kind of the field that has it.
    """
    hints = get_type_hints(struct, include_extras=True)
    names = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
    return {names[name]: _field(name, hint, around) for name, hint in hints.items()}


@cache
def sections() -> Shape:
    """Return the sections as fields of the document; their shapes are those of their entities."""
    return {name: field for name, field in shape_of(State).items() if field.shape}


def shapes() -> dict[str, Shape]:
    """Return the fields of the entities of each section."""
    return {name: field.shape for name, field in sections().items()}


def _field(name: str, hint: Any, around: str) -> Field:
    inner = next(_structs(hint), None)
    measure = next(_marks(hint, "measure"), None)
    inherited = around if around in SPREADING else "status"
    kind = next(_marks(hint, "kind"), "measures" if measure else inherited)
    shape = shape_of(inner, kind) if inner else {}
    identity = IDENTITIES.get(inner) if inner else None
    has_measure = measure is not None or any(one.has_measure for one in shape.values())
    values = frozenset(next(_marks(hint, "task-values"), ()))
    return Field(measure, shape, identity, name, has_measure or name == CUT, kind, values)


def _structs(hint: Any) -> Iterator[type[Struct]]:
    if isinstance(hint, type) and issubclass(hint, Struct):
        yield hint
    for argument in get_args(hint):
        yield from _structs(argument)


def _marks(hint: Any, name: str) -> Iterator[Any]:
    for meta in getattr(hint, "__metadata__", ()):
        extra = (isinstance(meta, Meta) and meta.extra_json_schema) or {}
        if f"x-telemetron-{name}" in extra:
            yield extra[f"x-telemetron-{name}"]


# two versions of an entity


def compare(old: Record, new: Record, shape: Shape, measures: Set[str], top: bool = True) -> Delta:
    """Return the delta of two versions: all state, and the measures of these kinds.

    Nested `updated_at` equal that of the entity, so only that one is compared.
    """
    delta = {}
    for name in new if old.keys() == new.keys() else {**old, **new}:
        was, value = old.get(name), new.get(name)
        if was == value or (name == STAMP and not top):
            continue
        if not _is_compared(name, (was, value), shape, measures):
            continue
        if change := _change(was, value, shape.get(name, PLAIN), measures):
            delta[name] = change
    return delta


def _is_compared(name: str, change: Any, shape: Shape, measures: Set[str]) -> bool:
    """Return whether a field is state or a measure of these kinds.

    `truncated` maps cut lists to their full lengths; such a length is of the kind of its list.
    """
    if name == CUT:
        old, new = (_compared([cut or {}], shape, measures) for cut in change)
        return old != new
    measure = shape.get(name, PLAIN).measure
    return measure is None or measure in measures


def _change(was: Any, value: Any, field: Field, measures: Set[str]) -> Any:
    if isinstance(was, dict) and isinstance(value, dict) and field.shape:
        return compare(was, value, field.shape, measures, top=False)
    if isinstance(was, list) and isinstance(value, list) and field.identity:
        id_of = identify(field.identity)
        old = {id_of(item): item for item in was}
        new = {id_of(item): item for item in value}
        if len(old) == len(was) and len(new) == len(value):
            inner = partial(compare, shape=field.shape, measures=measures, top=False)
            return list_change(old, new, field.identity, inner)
        # Two items share an identity: compare the list as a whole, without other measures.
        if _compared(was, field.shape, measures) == _compared(value, field.shape, measures):
            return None
    return [was, value]


def _compared(items: list[Record], shape: Shape, measures: Set[str]) -> list[Record]:
    """Return the items without measures of other kinds."""
    out = [name for name, field in shape.items() if field.measure and field.measure not in measures]
    return [{name: one for name, one in item.items() if name not in out} for item in items]


def list_change(
    old: dict[Any, T], new: dict[Any, T], identity: str, compare: Callable[[T, T], Delta]
) -> Any:
    """Return the delta of a list by its items' identities; None if `compare` finds no change."""
    before = [id for id in old if id in new]
    after = [id for id in new if id in old]
    moved = [id for id in after if old[id] is not new[id] and old[id] != new[id]]
    changed = [[id, delta] for id in moved if (delta := compare(old[id], new[id]))]
    if len(before) == len(old) and before == list(new):
        return [identity, changed, [], [], []] if changed else None
    removed = [[at, item] for at, (id, item) in enumerate(old.items()) if id not in new]
    added = [[at, item] for at, (id, item) in enumerate(new.items()) if id not in old]
    order = [before, after] if before != after else []
    if changed or removed or added or order:
        return [identity, changed, removed, added, order]
    return None


def apply(record: Record, delta: Delta) -> None:
    """Change the old version into the new one, in place."""
    for name, change in delta.items():
        if isinstance(change, dict):
            apply(record[name], change)
        elif len(change) == 2:
            record[name] = _copied(change[1])
        else:
            record[name] = _applied(record[name], *change)
    if STAMP in delta:
        for value in record.values():
            if isinstance(value, dict) and STAMP in value:
                value[STAMP] = record[STAMP]


def _applied(
    items: list[Record], identity: str, changed: Any, removed: Any, added: Any, order: Any
) -> list[Record]:
    id_of = identify(identity)
    gone = {id_of(item) for _, item in removed}
    kept = {id: item for item in items if (id := id_of(item)) not in gone}
    for id, delta in changed:
        apply(kept[id], delta)
    made = [kept[id] for id in order[1]] if order else list(kept.values())
    for at, item in added:
        made.insert(at, _copied(item))
    return made


def inverted(delta: Delta) -> Delta:
    """Return the delta from the new version to the old one."""
    return {name: _inverted(change) for name, change in delta.items()}


def _inverted(change: Any) -> Any:
    if isinstance(change, dict):
        return inverted(change)
    if len(change) == 2:
        return change[::-1]
    identity, changed, removed, added, order = change
    return [identity, [[id, inverted(one)] for id, one in changed], added, removed, order[::-1]]


def _copied(value: Any) -> Any:
    """Copy a value of a delta: the record it goes into is changed later, the delta must not be."""
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


# for clients


def fields(
    delta: Delta,
    shape: Shape,
    measures: Set[str],
    kinds: Set[str] = ALL_KINDS,
    under: str = "",
) -> Iterator[Any]:
    """Yield each changed field: its path, and `{old, new}`; for an item `{added}` or `{removed}`.

    Paths have the identities of items, as `activity/active_task_ids/t-17/status`; their components
    are escaped as in keys.
    """
    for name, change in delta.items():
        if not _is_compared(name, change, shape, measures) or (name == STAMP and not under):
            continue
        field = shape.get(name, PLAIN)
        path = under + escape(name)
        if isinstance(change, dict):
            yield from fields(change, field.shape, measures, kinds, path + "/")
        elif len(change) > 2:
            yield from _items(path, field, measures, kinds, *change)
        elif _kind(name, change, shape, measures) in kinds:
            yield path, {"old": change[0], "new": change[1]}


def is_measure(path: list[str], change: Mapping[str, Any], shape: Shape) -> bool:
    """Return whether a changed field, as `fields` yields it, is a measure or part of one."""
    name, *rest = path
    field = shape.get(name, PLAIN)
    if name == CUT:
        return not _is_compared(name, (change["old"], change["new"]), shape, MEASURES["none"])
    rest = rest[1:] if field.identity else rest
    return field.measure is not None or (bool(rest) and is_measure(rest, change, field.shape))


def _kind(name: str, change: Any, shape: Shape, measures: Set[str]) -> str:
    """Return the kind of a change from one value to another."""
    field = shape.get(name, PLAIN)
    if name == CUT:
        old, new = (cut or {} for cut in change)
        return _cut_kind(old, new, shape, measures)
    if field.task_values and all(value in field.task_values for value in change):
        return "tasks"
    return field.kind


def _cut_kind(
    old: Mapping[str, int], new: Mapping[str, int], shape: Shape, measures: Set[str]
) -> str:
    """Return the first kind among the cut lists whose full length differs."""
    differing = (name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    lists = [_at(name.split("."), shape) for name in differing]
    kinds = {one.kind for one in lists if one.measure is None or one.measure in measures}
    return min(kinds, key=KINDS.index, default=PLAIN.kind)


def _at(names: list[str], shape: Shape) -> Field:
    """Return the field at a path of names, as in `truncated`."""
    name, *rest = names
    field = shape.get(name, PLAIN)
    return _at(rest, field.shape) if rest else field


def _items(
    path: str,
    field: Field,
    measures: Set[str],
    kinds: Set[str],
    identity: str,
    changed: Iterable[Any],
    removed: Iterable[Any],
    added: Iterable[Any],
    order: Any,
) -> Iterator[Any]:
    for id, delta in changed:
        yield from fields(delta, field.shape, measures, kinds, f"{path}/{escape(str(id))}/")
    id_of = identify(identity)
    if field.kind not in kinds:
        for _, item in added:
            yield from _trouble(f"{path}/{escape(str(id_of(item)))}/", item, field.shape, kinds)
        return
    for word, items in (("removed", removed), ("added", added)):
        for _, item in items:
            yield f"{path}/{escape(str(id_of(item)))}", {word: item}


def _trouble(under: str, item: Record, shape: Shape, kinds: Set[str]) -> Iterator[Any]:
    """Yield the fields of a new item that it would not have if it were well.

    Such as `stalled` of a task: had the task been there before, its change would be listed.
    """
    for name, field in shape.items():
        if field.kind in kinds and _is_trouble(item.get(name), field):
            yield under + escape(name), {"old": None, "new": item[name]}


def _is_trouble(value: Any, field: Field) -> bool:
    if field.task_values:
        return value not in field.task_values
    # The last exit of a well pod is often that of an init container.
    is_well = not value or (isinstance(value, dict) and value.get("exit_code") == 0)
    return field.kind == "problems" and not is_well
