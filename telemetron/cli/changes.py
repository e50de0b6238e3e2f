"""`telemetron changes`: the changes as text for a terminal, or as JSON.

All text is escaped first, because others wrote much of it.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from telemetron.backoff import Backoff
from telemetron.cli import output
from telemetron.client import FetchError, fetch, follow
from telemetron.text import cut, printable

PATH = "/system/changes"
MAX_VALUE = 120

Lines = Callable[[dict[str, Any], datetime | None], Iterator[str]]
"""Makes the lines of an answer, see `lines`."""


def show(url: str, token: str | None, query: Mapping[str, str]) -> None:
    """Write the changes that the query asks for. Raises FetchError."""
    response = fetch(url, token, PATH, query)
    _write(response.body, response.now)


def show_forever(
    url: str, token: str | None, query: Mapping[str, str], lines: Lines | None = None
) -> None:
    """Write changes as they come, and reconnect if the stream ends.

    `lines` makes the text for a terminal. Raises FetchError if the server does not answer the first
    time.
    """
    backoff = Backoff()
    last = None
    while True:
        try:
            for event in follow(url, token, PATH, query, last):
                backoff.reset()
                last = event.id
                if event.data:
                    _write(event.data.encode() + b"\n", None, lines)
            click.echo("the stream ended; reconnecting", err=True)
        except FetchError as error:
            if last is None:
                raise
            click.echo(f"{error}; reconnecting", err=True)
        time.sleep(backoff.next())


def _write(body: bytes, now: datetime | None, make: Lines | None = None) -> None:
    if not output.is_terminal():
        output.write(body, nl=False)
        return
    try:
        text = list((make or lines)(json.loads(body), now))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        output.fail_unexpected(error)
    if text:
        output.write("\n".join(text))


def lines(answer: dict[str, Any], now: datetime | None) -> Iterator[str]:
    """Yield the lines of an answer of `/system/changes`, or of an event `gap`.

    With `now` they show ages, without it times.
    """
    for change in answer.get("changes", ()):
        when = _when(change["at"], now) if change["at"] else ""
        yield printable(f"{change['section']} {change['key']}  {change['change']}{when}")
        for path, one in change.get("fields", {}).items():
            yield "  " + printable(f"{path}  {_field(one)}")
        if counts := change.get("tasks"):
            yield "  " + printable(f"tasks  {_counts(counts)}")
    yield from map(printable, _notes(answer))


def _when(at: str, now: datetime | None) -> str:
    if now is None:
        return f" at {at}"
    return f" {output.duration((now - datetime.fromisoformat(at)).total_seconds())} ago"


def _notes(answer: dict[str, Any]) -> Iterator[str]:
    if "lost" not in answer and not answer["changes"]:
        yield f"nothing changed from {answer['from']} to {answer['to']}"
    if answer.get("truncated"):
        yield f"… more changes: {answer['next']}"
    yield from gaps(answer)


def gaps(answer: dict[str, Any]) -> Iterator[str]:
    """Yield a line if the answer lacks some changes of its time."""
    if "lost" in answer:
        yield f"lost: {answer['lost']}; changes before {answer['to']} are not known"
    elif not answer["complete"] and _epoch(answer["from"]) == _epoch(answer["to"]):
        yield f"incomplete: nothing is known before {answer['from_at']}"
    elif not answer["complete"]:
        starting = ", ".join(answer["starting"])
        sources = f"; sources that were still starting: {starting}" if starting else ""
        yield f"incomplete: Telemetron restarted in between{sources}"


def _epoch(place: str) -> str:
    return place.partition(".")[0]


def _counts(counts: dict[str, int]) -> str:
    """Return the counts that are not zero."""
    words = {"unknown": "of them without a known outcome"}
    shown = [f"{count} {words.get(name, name)}" for name, count in counts.items() if count]
    return ", ".join(shown)


def _field(one: dict[str, Any]) -> str:
    if "old" in one:
        return f"{_value(one['old'])} → {_value(one['new'])}"
    ((word, item),) = one.items()
    return f"{word} {_value(item)}"


def _value(value: Any) -> str:
    """Return a value as short text; leave out the empty fields of an item, but not zeros."""
    if isinstance(value, dict):
        value = {name: one for name, one in value.items() if not _is_empty(one)}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cut(text, MAX_VALUE)


def _is_empty(value: Any) -> bool:
    return value is None or value is False or value == []
