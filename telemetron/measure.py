"""Tells a change of state from one of measures, by the marks on the types."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct

StateOf = Callable[[Any], Any]


def state_of(struct: type[Struct]) -> StateOf:
    """A function that gives all of an entity but its measures and `updated_at`, to be compared."""
    plain: list[str] = []
    nested: list[StateOf] = []
    for name, hint in get_type_hints(struct, include_extras=True).items():
        if name == "updated_at" or _is_measure(hint):
            continue
        inner = _inner(hint)
        if inner is None:
            plain.append(name)
        else:
            nested.append(_within(name, state_of(inner)))
    rest = attrgetter(*plain) if plain else lambda _: ()
    if not nested:
        return rest
    return lambda entity: (rest(entity), [part(entity) for part in nested])


def _within(name: str, state: StateOf) -> StateOf:
    def part(entity: Any) -> Any:
        value = getattr(entity, name)
        if isinstance(value, list):
            return [state(item) for item in value]
        return None if value is None else state(value)

    return part


def _is_measure(hint: Any) -> bool:
    return any("x-telemetron-measure" in (meta.extra_json_schema or {}) for meta in _metas(hint))


def _metas(hint: Any) -> list[Meta]:
    return [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]


def _inner(hint: Any) -> type[Struct] | None:
    """The Struct in `Annotated[list[Struct] | None, …]`, if anything in it is to be left out."""
    if isinstance(hint, type) and get_origin(hint) is None:
        return hint if issubclass(hint, Struct) and _moves(hint) else None
    return next(filter(None, map(_inner, get_args(hint))), None)


def _moves(struct: type[Struct]) -> bool:
    hints = get_type_hints(struct, include_extras=True)
    return "updated_at" in hints or any(_is_measure(h) or _inner(h) for h in hints.values())
