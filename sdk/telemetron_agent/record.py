"""The task id of a record of a Kafka topic; docs/tasks.md has the rule."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .text import label

HEADER = "telemetron-task-id"
MAX_VALUE = 1_048_576
"""Bytes; larger values are not searched for an id."""
_STARTS = {0: (5, 9), 1: (17,), 3: (18,)}
"""Offsets at which JSON may begin after a schema registry's frame, by its first byte."""


class Record(NamedTuple):
    """A task's id, and the record's position."""

    id: str
    queue: str | None
    partition: int
    offset: int


def read(record: Any) -> Record | None:
    """Read a record of aiokafka, kafka-python or confluent-kafka; return None for other objects."""
    topic, partition, offset = (_get(record, name) for name in ("topic", "partition", "offset"))
    if not isinstance(topic, str) or not isinstance(partition, int) or not isinstance(offset, int):
        return None
    id = _in_header(_get(record, "headers")) or _in_value(_get(record, "value"))
    return Record(id or f"{topic}/{partition}/{offset}", label(topic), partition, offset)


def _get(record: Any, name: str) -> Any:
    value = getattr(record, name, None)
    return value() if callable(value) else value


def _in_header(headers: Any) -> str | None:
    values = [value for name, value in headers or () if name == HEADER]
    return _text(values[-1]) if values else None


def _text(value: Any) -> str | None:
    if isinstance(value, (bytes, bytearray)):
        value = value.decode("utf-8", "replace")
    return label(value)


def _in_value(value: Any) -> str | None:
    """Return the field `id`: a text, or a number as written."""
    if isinstance(value, (bytes, bytearray, str)):
        value = _parse(value)
    id = value.get("id") if isinstance(value, dict) else None
    return label(id) if isinstance(id, (str, int, float)) and not isinstance(id, bool) else None


def _parse(value: bytes | bytearray | str) -> Any:
    if len(value) > MAX_VALUE:
        return None
    for start in _STARTS.get(value[0], (0,)) if value and not isinstance(value, str) else (0,):
        try:
            text = value if isinstance(value, str) else value[start:].decode()
            return json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
        except (ValueError, RecursionError):
            pass
    return None


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError(constant)
