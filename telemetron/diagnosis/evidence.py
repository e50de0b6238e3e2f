"""Evidence: the value of one field of the document, by its path, and the time of that value."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from telemetron import document
from telemetron.document import IDENTITIES, identify
from telemetron.key import escape
from telemetron.store.measure import measures
from telemetron.store.rope import Fragment

MISSING: Any = object()
_SCALARS = (str, int, float, bool, type(None))

ITEM_TIMES: Mapping[type[Struct], str] = {
    document.Cooldowns: "last_at",
    document.Ended: "ended_at",
    document.Failure: "at",
    document.LastExit: "at",
    document.ModelError: "at",
    document.PartitionLag: "consumed_at",
    document.PendingTask: "submitted_at",
    document.Problem: "since",
    document.SourceProblem: "since",
    document.Task: "started_on",
    document.Wait: "since",
}
"""The time of all fields of an item that has one."""

FIELD_TIMES: Mapping[tuple[type[Struct], str], str] = {
    (document.Instance, "status"): "silent_since",
    (document.ModelDeployment, "status"): "status_since",
    (document.SourceRow, "status"): "since",
    (document.Task, "stalled"): "progressed_at",
}
"""The time of one field, which comes before that of its item."""


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


def time_at(fragment: Fragment, path: str) -> datetime | None:
    """Return the time that the document gives for the value at the path; None: it gives none.

    It is the value itself if that is a time, else the time of the field or of the innermost item
    that has one, else `measured_at` for a measure and `updated_at` for everything else.
    """
    found: Any = fragment.entity
    at: datetime | None = None
    measured = False
    for step in path.split("/"):
        if isinstance(found, Struct):
            at = _time_of(found, step) or at
            measured = measured or step in measures(type(found))
        found = _step(found, step)
    if isinstance(found, datetime):
        return found
    return at or (_measured_at(fragment) if measured else _updated_at(fragment))


def _time_of(struct: Struct, step: str) -> datetime | None:
    own = FIELD_TIMES.get((type(struct), step)) or ITEM_TIMES.get(type(struct))
    return getattr(struct, own) if own else None


def _measured_at(fragment: Fragment) -> datetime | None:
    found: datetime | None = getattr(fragment.entity, "measured_at", None)
    return found


def _updated_at(fragment: Fragment) -> datetime | None:
    if not hasattr(fragment.entity, "updated_at"):
        return None
    return msgspec.convert(fragment.updated_at.decode(), datetime)


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
