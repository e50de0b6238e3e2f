"""Decodes a record into a task, with the fields that may be shown.

docs/tasks.md has the rule for a task's id.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from telemetron.document import PendingTask, Priority, Problem
from telemetron.text import cut, strip_controls
from telemetron_collectors.kafka.config import Fields, QueueConfig
from telemetron_collectors.kafka.protocol.record import LogRecord
from telemetron_collectors.kafka.times import of_record, parse_time
from telemetron_collectors.kafka.value import Value, decode

ID_HEADER = "telemetron-task-id"
MAX_ID = 256
MAX_LEVEL = 64
NO_TIME = "the value at {} is not a time in a known format"
NO_RECORD_TIME = "the record's timestamp is not plausible"


def parse_task(
    record: LogRecord, topic: str, partition: int, config: QueueConfig, now: datetime
) -> PendingTask:
    """Return the task in a record; `now` is the time of a problem with it."""
    headers = dict(record.headers)  # the last header of a name counts
    value = decode(record.value, _pointers(config.fields))

    def field(place: str) -> str | None:
        return _scalar(value.at(place)) if place.startswith("/") else _header(headers, place)

    def content(place: str) -> str | None:
        return _shown(value.at(place)) if place.startswith("/") else _header(headers, place)

    fields = config.fields
    submitted_at, time_trouble = _submitted_at(record, headers, value, fields.submitted_at)
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
        prompt=_content(content, fields.prompt, config.content_chars),
        args=_content(content, fields.args, config.content_chars),
        problem=Problem("Unreadable", trouble, now) if trouble else None,
    )


def with_id(records: Sequence[LogRecord], id: str, config: QueueConfig) -> list[LogRecord]:
    """Return the records with this id of their own; only ids are decoded."""
    place = config.fields.id
    wanted = (place,) if place.startswith("/") else ()
    ids = (_id(dict(one.headers), decode(one.value, wanted), place) for one in records)
    return [one for one, found in zip(records, ids, strict=True) if found == id]


@lru_cache(maxsize=256)
def _pointers(fields: Fields) -> tuple[str, ...]:
    places = (getattr(fields, name) for name in fields.__struct_fields__)
    return tuple(place for place in places if place.startswith("/"))


def _id(headers: Mapping[str, bytes | None], value: Value, place: str) -> str | None:
    """Return the id that a record has; None if it has none."""
    if found := _text(_header(headers, ID_HEADER), MAX_ID):
        return found
    found = _scalar(value.at(place)) if place.startswith("/") else _header(headers, place)
    return _text(found, MAX_ID)


def _submitted_at(
    record: LogRecord, headers: Mapping[str, bytes | None], value: Value, place: str
) -> tuple[datetime | None, str]:
    """Return when the task was submitted, or why that is not known.

    The record's timestamp counts only if there is no value: it may be the time of a later copy.
    """
    is_pointer = place.startswith("/")
    found = value.at(place) if is_pointer else headers.get(place)
    if is_pointer and found == b"null":
        found = None
    try:
        if found is not None:
            return parse_time(_number_or_text(found) if is_pointer else found), ""
        return (of_record(record.timestamp), "") if record.timestamp >= 0 else (None, "")
    except ValueError:
        return None, NO_RECORD_TIME if found is None else NO_TIME.format(place)


def _number_or_text(found: bytes) -> Any:
    """Return a JSON value; None for an object or a list, whatever its size."""
    return None if found[:1] in (b"{", b"[") else msgspec.json.decode(found)


def _scalar(found: bytes | None) -> str | None:
    """Return a JSON text, or a number as it is written (1.50, not 1.5); None for other values."""
    if found is None or found[:1] not in b'"-0123456789':
        return None
    return msgspec.json.decode(found, type=str) if found[:1] == b'"' else found.decode()


def _shown(found: bytes | None) -> str | None:
    """Return a JSON text, or any other value as it is written; None for null."""
    if found is None or found == b"null":
        return None
    return msgspec.json.decode(found, type=str) if found[:1] == b'"' else found.decode()


def _header(headers: Mapping[str, bytes | None], name: str) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode(errors="replace")


def _text(value: str | None, limit: int) -> str | None:
    """Return the first characters; None if nothing is printable."""
    return strip_controls(value[:limit]) or None if value else None


def _content(read: Callable[[str], str | None], place: str, limit: int) -> str | None:
    """Return a prompt or arguments, cut to `limit` characters; with 0 they are not read."""
    text = read(place) if limit else None
    return None if text is None else cut(text, limit)


def parse_tasks(
    records: Iterable[LogRecord], topic: str, partition: int, config: QueueConfig, now: datetime
) -> list[PendingTask]:
    return [parse_task(record, topic, partition, config, now) for record in records]
