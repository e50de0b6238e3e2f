"""Distinguishes a change of state from a change of measures, by the marks on the types."""

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct

Same = Callable[[Any, Any], bool]


def same_state(struct: type[Struct]) -> Same:
    """Return a function that compares two entities without their measures and `updated_at`."""
    plain: list[str] = []
    nested: list[Same] = []
    hints = get_type_hints(struct, include_extras=True)
    for name in [one for one in hints if one not in measures(struct) and one != "updated_at"]:
        inner = _inner(hints[name])
        if name == "truncated":
            nested.append(_truncated(measures(struct)))
        elif inner is None:
            plain.append(name)
        else:
            nested.append(_within(name, same_state(inner)))
    rest = attrgetter(*plain) if plain else lambda _: ()

    def is_same(a: Any, b: Any) -> bool:
        for same in nested:  # first, because what changes most often is nested: an agent's tasks
            if not same(a, b):
                return False
        return bool(rest(a) == rest(b))

    return is_same


@cache
def measures(struct: type[Struct]) -> frozenset[str]:
    """Return the names of the fields that are measures."""
    hints = get_type_hints(struct, include_extras=True)
    return frozenset(name for name, hint in hints.items() if _is_measure(hint))


def _within(name: str, same: Same) -> Same:
    get = attrgetter(name)

    def within(a: Any, b: Any) -> bool:
        old, new = get(a), get(b)
        if old == new:
            return True
        if isinstance(old, list) and isinstance(new, list):
            return len(old) == len(new) and all(map(same, old, new))
        return old is not None and new is not None and same(old, new)

    return within


def _truncated(measures: frozenset[str]) -> Same:
    """Compare `truncated` without the measures: the full count of a measure is a measure too."""

    def state(entity: Any) -> dict[str, int]:
        cut = entity.truncated or {}
        return {name: count for name, count in cut.items() if name not in measures}

    return lambda a, b: a.truncated == b.truncated or state(a) == state(b)


def _is_measure(hint: Any) -> bool:
    return any("x-telemetron-measure" in (meta.extra_json_schema or {}) for meta in _metas(hint))


def _metas(hint: Any) -> list[Meta]:
    return [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]


def _inner(hint: Any) -> type[Struct] | None:
    """Return the Struct in `Annotated[list[Struct] | None, …]` if part of it is not compared."""
    if isinstance(hint, type) and get_origin(hint) is None:
        return hint if issubclass(hint, Struct) and _has_measures(hint) else None
    return next(filter(None, map(_inner, get_args(hint))), None)


def _has_measures(struct: type[Struct]) -> bool:
    hints = get_type_hints(struct, include_extras=True)
    return "updated_at" in hints or any(_is_measure(h) or _inner(h) for h in hints.values())
