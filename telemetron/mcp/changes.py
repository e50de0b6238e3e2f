"""The tool `changes`: findings and sources first, then the newest changes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from telemetron.mcp.api import Ask
from telemetron.mcp.budget import compact, encode, fits, most, timestamp
from telemetron.text import cut

KINDS = ("status", "problems", "membership", "tasks", "measures")
DEFAULT_KINDS = KINDS[:3]
FIRST = ("findings", "sources")
"""Sections whose changes come first: they say what the others mean."""

MAX_CHANGES = 1_000
MAX_FIELDS = 6
MAX_VALUE = 80
COLUMNS = ("at", "entity", "what", "old", "new")
LESS = "changes with sections, key, kinds, a later since or more max_tokens"

Change = dict[str, Any]
Row = list[Any]


async def changes(ask: Ask, given: Mapping[str, Any]) -> bytes:
    """Return the changes asked for. Raises FetchError and ArgumentError."""
    query = {"since": "5m", "limit": str(MAX_CHANGES)}
    query |= {name: given[name] for name in ("since", "until", "key") if name in given}
    query["kinds"] = ",".join(given.get("kinds", DEFAULT_KINDS))
    if "sections" in given:
        query["sections"] = ",".join(given["sections"])
    response = await ask("/system/changes", query)
    at = timestamp(response.now)
    head, found = _parts(response.document, at)
    whole = encode({**head, "changes": found})
    if fits(whole, given["max_tokens"]):
        return whole
    rows = [list(_rows(change)) for change in found]
    return most(len(rows), partial(_table, head, rows), given["max_tokens"])


def _parts(document: Mapping[str, Any], at: str) -> tuple[dict[str, Any], list[Change]]:
    """Return the answer without its changes, and the changes in their order of worth."""
    head: dict[str, Any] = {"now": at, **compact(document, at[:10])}
    found = sorted(head.pop("changes"), key=lambda one: one.get("at", ""), reverse=True)
    found.sort(key=lambda one: one["section"] not in FIRST)
    head.pop("next", None)  # a path; `cut` and `next` of the tool stand for it
    if not head.get("starting"):
        head.pop("starting", None)
    if head.pop("truncated", False):
        head["note"] = f"more than {len(found)} entities changed; narrow the question"
    return head, found


def _table(head: Mapping[str, Any], rows: Sequence[Sequence[Row]], count: int) -> dict[str, Any]:
    """Return the first changes as a table, one row for each field, and the cut."""
    shown = [row for change in rows[:count] for row in change]
    answer = {**head, "changes": {"columns": COLUMNS, "rows": shown}}
    if count == len(rows):
        return answer
    return {**answer, "cut": {"changes": [count, len(rows)]}, "next": LESS}


def _rows(change: Change) -> Iterator[Row]:
    """Yield a row for each of a change's first fields; those of the entity before its items'."""
    start = [change.get("at"), f"{change['section']}/{change['key']}"]
    fields = change.get("fields")
    if fields is None:
        yield [*start, change["change"]]
        return
    for path, one in sorted(fields.items(), key=lambda field: "/" in field[0])[:MAX_FIELDS]:
        word = next((name for name in ("added", "removed") if name in one), None)
        values = [one.get("old"), one.get("new")] if word is None else [word]
        yield [*start, path, *map(_short, values)]
    if len(fields) > MAX_FIELDS:
        yield [*start, f"{len(fields) - MAX_FIELDS} more fields"]


def _short(value: Any) -> Any:
    if isinstance(value, dict | list):
        value = encode(value).decode()
    return cut(value, MAX_VALUE) if isinstance(value, str) else value
