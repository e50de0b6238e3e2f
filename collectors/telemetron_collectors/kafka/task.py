"""A record as a task: which of its fields stand where, and what of them may be shown.

The rule for a task's id is told in docs/tasks.md.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from telemetron.document import PendingTask, Priority, Problem
from telemetron.text import cut, strip_controls
from telemetron_collectors.kafka.config import QueueConfig
from telemetron_collectors.kafka.times import of_record, parse_time
from telemetron_collectors.kafka.value import MISSING, decode

ID_HEADER = "telemetron-task-id"
MAX_ID = 256
MAX_LEVEL = 64
NO_TIME = "the value at {} is not a time that is understood"
NO_RECORD_TIME = "the record's own time is not plausible"

# For an id that is a number: as it is written, 1.50 and not 1.5.
_decode_as_written = msgspec.json.Decoder(float_hook=str).decode


class Record(NamedTuple):
    """One record of a topic; `timestamp` in milliseconds since 1970, negative: none."""

    offset: int
    timestamp: int
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def parse_task(
    record: Record, topic: str, partition: int, config: QueueConfig, now: datetime
) -> PendingTask:
    """What may be shown of a record; `now` is since when a problem with it is known."""
    headers = dict(record.headers)  # of several the last counts
    value = decode(record.value)

    def field(place: str) -> Any:
        return _pointed(value.json, place) if place.startswith("/") else _header(headers, place)

    fields = config.fields
    submitted_at, time_trouble = _submitted_at(record, headers, value.json, fields.submitted_at)
    trouble = value.trouble or time_trouble
    level = _text(field(fields.priority), MAX_LEVEL)
    blocked = _text(field(fields.blocked_task), MAX_ID)
    return PendingTask(
        id=_text(_header(headers, ID_HEADER), MAX_ID)
        or _text(_as_written(field(fields.id), fields.id, value.text), MAX_ID)
        or f"{topic}/{partition}/{record.offset}",
        submitted_at=submitted_at,
        priority=Priority(level and level.lower(), blocked) if level or blocked else None,
        invoked_by=_text(field(fields.invoked_by), MAX_ID),
        partition=partition,
        offset=record.offset,
        prompt=_content(field(fields.prompt), config.content_chars),
        args=_content(field(fields.args), config.content_chars),
        problem=Problem("Unreadable", trouble, now) if trouble else None,
    )


def _submitted_at(
    record: Record, headers: Mapping[str, bytes | None], value: Any, place: str
) -> tuple[datetime | None, str]:
    """When it was submitted, and why that is not known; the record's time counts without a value.

    A value that is not understood is not replaced: the record's time may be one of a later copy.
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
    """What a JSON Pointer (RFC 6901) points to."""
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
    """A text or a number; None for all else, and where nothing printable is left."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return strip_controls(str(value)[:limit]) or None


def _content(value: Any, limit: int) -> str | None:
    """A prompt or arguments, where the configuration lets them be shown: text, else as JSON."""
    if not limit or value is MISSING or value is None:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return cut(text, limit)


def parse_tasks(
    records: Iterable[Record], topic: str, partition: int, config: QueueConfig, now: datetime
) -> list[PendingTask]:
    return [parse_task(record, topic, partition, config, now) for record in records]
