"""Decodes a record into a task, with the fields that may be shown.

docs/tasks.md has the rule for a task's id.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from telemetron.document import PendingTask, Priority, Problem
from telemetron.text import cut, strip_controls
from telemetron_collectors.kafka.config import QueueConfig
from telemetron_collectors.kafka.protocol.batch import LogRecord
from telemetron_collectors.kafka.times import of_record, parse_time
from telemetron_collectors.kafka.value import MISSING, Value, decode

ID_HEADER = "telemetron-task-id"
MAX_ID = 256
MAX_LEVEL = 64
NO_TIME = "the value at {} is not a time in a known format"
NO_RECORD_TIME = "the record's timestamp is not plausible"

# An id that is a number stays as it is written: 1.50, not 1.5.
_decode_as_written = msgspec.json.Decoder(float_hook=str).decode


def parse_task(
    record: LogRecord, topic: str, partition: int, config: QueueConfig, now: datetime
) -> PendingTask:
    """Return the task in a record; `now` is the time of a problem with it."""
    headers = dict(record.headers)  # the last header of a name counts
    value = decode(record.value)

    def field(place: str) -> Any:
        return _pointed(value.json, place) if place.startswith("/") else _header(headers, place)

    fields = config.fields
    submitted_at, time_trouble = _submitted_at(record, headers, value.json, fields.submitted_at)
    trouble = value.trouble or time_trouble
    level = _text(field(fields.priority), MAX_LEVEL)
    blocked = _text(field(fields.blocked_task), MAX_ID)
    return PendingTask(
        id=_id(headers, value, fields.id) or f"{topic}/{partition}/{record.offset}",
        submitted_at=submitted_at,
        priority=Priority(level and level.lower(), blocked) if level or blocked else None,
        invoked_by=_text(field(fields.invoked_by), MAX_ID),
        partition=partition,
        offset=record.offset,
        prompt=_content(field(fields.prompt), config.content_chars),
        args=_content(field(fields.args), config.content_chars),
        problem=Problem("Unreadable", trouble, now) if trouble else None,
    )


def with_id(records: Iterable[LogRecord], id: str, config: QueueConfig) -> list[LogRecord]:
    """Return the records with this id of their own; only ids are decoded."""
    place = config.fields.id
    return [one for one in records if _id(dict(one.headers), decode(one.value), place) == id]


def _id(headers: Mapping[str, bytes | None], value: Value, place: str) -> str | None:
    """Return the id that a record has; None if it has none."""
    if found := _text(_header(headers, ID_HEADER), MAX_ID):
        return found
    if place.startswith("/"):
        return _text(_as_written(_pointed(value.json, place), place, value.text), MAX_ID)
    return _text(_header(headers, place), MAX_ID)


def _submitted_at(
    record: LogRecord, headers: Mapping[str, bytes | None], value: Any, place: str
) -> tuple[datetime | None, str]:
    """Return when the task was submitted, or why that is not known.

    The record's timestamp counts only if there is no value: it may be the time of a later copy.
    """
    found = _pointed(value, place) if place.startswith("/") else headers.get(place)
    try:
        if found is not None and found is not MISSING:
            return parse_time(found), ""
        return (of_record(record.timestamp), "") if record.timestamp >= 0 else (None, "")
    except ValueError:
        has_value = found is not None and found is not MISSING
        return None, NO_TIME.format(place) if has_value else NO_RECORD_TIME


def _pointed(value: Any, pointer: str) -> Any:
    """Return the value at a JSON Pointer (RFC 6901), or MISSING."""
    for token in pointer[1:].split("/"):
        token = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(token, MISSING)
        elif isinstance(value, list) and token.isascii() and token.isdigit():
            value = value[int(token)] if len(token) < 10 and int(token) < len(value) else MISSING
        else:
            return MISSING
    return value


def _as_written(found: Any, pointer: str, text: bytes) -> Any:
    return _pointed(_decode_as_written(text), pointer) if type(found) is float else found


def _header(headers: Mapping[str, bytes | None], name: str) -> Any:
    value = headers.get(name)
    return MISSING if value is None else value.decode(errors="replace")


def _text(value: Any, limit: int) -> str | None:
    """Return a text or number as text; None for other values, or if nothing is printable."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return strip_controls(str(value)[:limit]) or None


def _content(value: Any, limit: int) -> str | None:
    """Return a prompt or arguments, cut to `limit` characters: a text, or any value as JSON."""
    if not limit or value is MISSING or value is None:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return cut(text, limit)


def parse_tasks(
    records: Iterable[LogRecord], topic: str, partition: int, config: QueueConfig, now: datetime
) -> list[PendingTask]:
    return [parse_task(record, topic, partition, config, now) for record in records]
