"""Changes as lines for a terminal: what changed, how long ago, from what to what.

Everything shown is escaped first: much of it was written by others.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from telemetron.cli.table import duration
from telemetron.text import cut, printable

MAX_VALUE = 120


def changes(told: dict[str, Any], now: datetime | None) -> Iterator[str]:
    """Yield the lines of an answer of `/system/changes`, or of the event that says what is lost.

    Ages are against `now`; without it the times are shown, as for what scrolls by.
    """
    if "lost" in told:
        yield printable(f"lost: {told['lost']}; what happened until {told['to']} is not known")
        return
    for change in told["changes"]:
        when = _when(change["at"], now) if change["at"] else ""
        yield printable(f"{change['section']} {change['key']}  {change['change']}{when}")
        for path, one in change.get("fields", {}).items():
            yield "  " + printable(f"{path}  {_field(one)}")
    yield from map(printable, _notes(told))


def _when(at: str, now: datetime | None) -> str:
    if now is None:
        return f" at {at}"
    return f" {duration((now - datetime.fromisoformat(at)).total_seconds())} ago"


def _notes(told: dict[str, Any]) -> Iterator[str]:
    if not told["changes"]:
        yield f"nothing changed from {told['from']} to {told['to']}"
    if told["truncated"]:
        yield f"… there is more: {told['next']}"
    if not told["complete"] and _epoch(told["from"]) == _epoch(told["to"]):
        yield f"not complete: nothing is known before {told['from_at']}"
    elif not told["complete"]:
        starting = ", ".join(told["starting"])
        seen = f"; not all observed yet: {starting}" if starting else ""
        yield f"not complete: Telemetron was started in between{seen}"


def _epoch(place: str) -> str:
    return place.partition(".")[0]


def _field(one: dict[str, Any]) -> str:
    if "old" in one:
        return f"{_value(one['old'])} → {_value(one['new'])}"
    ((word, item),) = one.items()
    return f"{word} {_value(item)}"


def _value(value: Any) -> str:
    """Short; of an item only what it has."""
    if isinstance(value, dict):
        value = {name: one for name, one in value.items() if not _is_nothing(one)}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cut(text, MAX_VALUE)


def _is_nothing(value: Any) -> bool:
    """Zero is something."""
    return value is None or value is False or value == []
