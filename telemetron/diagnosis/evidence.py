"""Evidence: the value of one field of the document, by its path."""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from telemetron.document import IDENTITIES, identify
from telemetron.key import escape

MISSING: Any = object()
_SCALARS = (str, int, float, bool, type(None))


def value_at(entity: Struct, path: str) -> Any:
    """Return the value at the path, as in JSON; MISSING if there is no such field or item."""
    found: Any = entity
    for step in path.split("/"):
        found = _step(found, step)
        if found is MISSING:
            return MISSING
    if isinstance(found, datetime):
        return msgspec.to_builtins(found)
    return found if isinstance(found, _SCALARS) else MISSING


def _step(value: Any, step: str) -> Any:
    if isinstance(value, Struct):
        return getattr(value, _attributes(type(value)).get(step, step), MISSING)
    if isinstance(value, list):
        return next((item for at, item in enumerate(value) if step in _names(item, at)), MISSING)
    if isinstance(value, dict):
        return value.get(step, MISSING)
    return MISSING


@cache
def _attributes(struct: type[Struct]) -> dict[str, str]:
    """The names of its attributes by those in the document."""
    return {field.encode_name: field.name for field in msgspec.structs.fields(struct)}


def _names(item: Any, at: int) -> Iterator[str]:
    """An item is named by its identity, or by its number if it has none."""
    identity = IDENTITIES.get(type(item))
    yield escape(str(identify(identity, attrgetter)(item))) if identity else str(at)


def item(name: str, *steps: str) -> str:
    """Return the path of an item, whose name is escaped, and of a field below it."""
    return "/".join((name, *map(escape, steps[:1]), *steps[1:]))
