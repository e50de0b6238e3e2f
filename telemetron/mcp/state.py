"""The tool `state`: sections of the state, filtered, whole or as tables, the worst first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from telemetron.answers.brief import trouble
from telemetron.mcp.api import Ask, Response
from telemetron.mcp.budget import compact, encode, fits, most, timestamp
from telemetron.store.section import SECTIONS as STORED
from telemetron.text import cut

COLUMNS: Mapping[str, Sequence[str]] = {
    "sources": ("key", "status", "since", "last_ok_at", "entities", "problems.reason"),
    "findings": ("severity", "summary", "since", "root.section", "root.key", "effect_count"),
    "agents": (
        *("key", "status", "activity.task_count", "max_parallel_invocations"),
        *("activity.least_progressed_at", "instance_count", "silent_count", "problems.reason"),
    ),
    "litellm": (
        *("key", "status", "status_since", "tpm", "rpm", "failed_rpm"),
        *("last_error.class", "problems.reason"),
    ),
    "queues": (
        *("key", "consumers", "depth", "lag", "oldest_submitted_at", "consumed_at"),
        "problems.reason",
    ),
    "workload": (
        *("key", "live.rollout", "live.ready", "live.desired", "live.reason"),
        *("pods.reason", "problems.reason"),
    ),
}
"""The columns of each section's table: paths of fields; a list in a path gives its values."""

NAMES = {
    "root.section": "root_section",
    "root.key": "root_key",
    "last_error.class": "last_error",
    "live.reason": "reason",
    "pods.reason": "pods",
    "problems.reason": "problems",
}
"""The names of columns whose last component would not say enough."""

SECTIONS = tuple(COLUMNS)
MAX_CELL = 100
MAX_DOUBTFUL = 20
LESS = "state with sections, match or more max_tokens; entity with key"

Entity = Mapping[str, Any]


class Item(NamedTuple):
    """An entity of the answer; `trouble` sorts the worst first."""

    section: str
    entity: Entity
    trouble: tuple[int, int]


async def state(ask: Ask, given: Mapping[str, Any]) -> bytes:
    """Return the sections asked for. Raises FetchError and ArgumentError."""
    wanted = given.get("sections") or SECTIONS
    query = {"sections": ",".join({**dict.fromkeys(wanted), "findings": None})}
    if "at" in given:
        query["at"] = given["at"]
    response = await ask("/system/state", query)
    items = sorted(_items(response.document, wanted, given.get("match")), key=lambda i: i.trouble)
    head = _head(response)
    if not items:
        head["note"] = "no entity has this text" if "match" in given else "no entities"
    whole = encode({**head, **_whole(items, head["at"][:10])})
    if fits(whole, given["max_tokens"]):
        return whole
    return most(len(items), partial(_tables, head, items), given["max_tokens"])


def _head(response: Response) -> dict[str, Any]:
    """Return the members of every answer; a source that is not ok makes its sections doubtful."""
    document = response.document
    head: dict[str, Any] = {
        "at": timestamp(response.now),
        "place": f"{document['epoch']}.{document['revision']}",
    }
    doubtful = [one for one in document["sources"] if one["status"] != "ok"]
    if doubtful:
        head["sources_not_ok"] = {one["key"]: one["status"] for one in doubtful[:MAX_DOUBTFUL]}
    return head


def _items(document: Entity, wanted: Iterable[str], match: str | None) -> Iterator[Item]:
    """Yield the entities to show."""
    named = _named(document.get("findings", ()))
    for section in SECTIONS:
        for entity in document.get(section, ()):
            if section in wanted and contains(entity, match):
                rank = named.get((section, entity.get("key")), len(named))
                yield Item(section, entity, (rank, -_trouble(section, entity)))


def _trouble(section: str, entity: Entity) -> int:
    """Return how unwell an entity is by its own fields, as in a brief; 0 if that is not known."""
    if section == "sources":
        return int(entity["status"] not in ("ok", "off"))
    judge = trouble.OF_SECTION.get(section)
    if judge is None:
        return 0
    try:
        return judge(msgspec.convert(entity, STORED[section].entity))
    except msgspec.ValidationError:  # of another version
        return 0


def _named(findings: Iterable[Entity]) -> dict[tuple[str, Any], int]:
    """Return the entities that findings name, with their order: by rank, the root first."""
    named: dict[tuple[str, Any], int] = {}
    for finding in sorted(findings, key=lambda one: one.get("rank", 0)):
        for one in ({"section": "findings", **finding}, finding["root"], *finding["effects"]):
            named.setdefault((one["section"], one["key"]), len(named))
    return named


def contains(value: Any, text: str | None) -> bool:
    """Whether any value within, or the name of a true one, contains the text, in either case."""
    return text is None or _contains(value, text.casefold())


def _contains(value: Any, text: str) -> bool:
    if isinstance(value, Mapping):
        return any(_contains(name if one is True else one, text) for name, one in value.items())
    if isinstance(value, list):
        return any(_contains(one, text) for one in value)
    return isinstance(value, str) and text in value.casefold()


def _grouped(items: Iterable[Item]) -> Iterator[tuple[str, list[Entity]]]:
    """Yield each section with its items, in the order of the document."""
    ordered = sorted(items, key=lambda item: SECTIONS.index(item.section))
    for section, group in groupby(ordered, key=lambda item: item.section):
        yield section, [item.entity for item in group]


def _whole(items: Iterable[Item], date: str) -> dict[str, Any]:
    return {section: compact(entities, date) for section, entities in _grouped(items)}


def _tables(head: Mapping[str, Any], items: Sequence[Item], count: int) -> dict[str, Any]:
    """Return the first items as tables, and the cut."""
    all_counts = {section: len(entities) for section, entities in _grouped(items)}
    answer, shown = dict(head), dict.fromkeys(all_counts, 0)
    for section, entities in _grouped(items[:count]):
        answer[section] = _table(COLUMNS[section], entities, head["at"][:10])
        shown[section] = len(entities)
    cuts = {name: [shown[name], total] for name, total in all_counts.items() if shown[name] < total}
    return {**answer, "cut": cuts, "next": LESS} if cuts else answer


def _table(paths: Sequence[str], entities: Sequence[Entity], date: str) -> dict[str, Any]:
    """Return a table without the columns that are null in all rows."""
    columns = {path: [_cell(path, one, date) for one in entities] for path in paths}
    kept = {path: cells for path, cells in columns.items() if any(one is not None for one in cells)}
    rows = list(zip(*kept.values(), strict=True))
    return {"columns": [NAMES.get(path, path.rpartition(".")[2]) for path in kept], "rows": rows}


def _at(value: Any, path: Sequence[str]) -> Any:
    """Return the value at a path; of a list, the different values of its items."""
    for number, name in enumerate(path):
        if isinstance(value, list):
            found = (_at(one, path[number:]) for one in value)
            return list(dict.fromkeys(str(one) for one in found if one is not None)) or None
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _cell(path: str, entity: Entity, date: str) -> Any:
    value = compact(_at(entity, path.split(".")), date)
    value = ",".join(map(str, value)) if isinstance(value, list) else value
    is_long = isinstance(value, str) and not path.endswith("key")  # a cut key names nothing
    return cut(value, MAX_CELL) if is_long else value
