"""The places of a task's fields in a record, and which of them are shown."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron.document import PendingTask, Priority
from telemetron_agent.record import read
from telemetron_collectors.kafka.config import Fields, QueueConfig
from telemetron_collectors.kafka.protocol.record import LogRecord
from telemetron_collectors.kafka.task import parse_task

NOW = datetime(2030, 1, 1, tzinfo=UTC)
RECORDED = datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)


def task(value: Any, headers: Any = (), config: QueueConfig | None = None) -> PendingTask:
    encoded = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    record = LogRecord(7, 1_700_000_000_123, None, encoded, list(headers))
    return parse_task(record, "jobs", 2, config or QueueConfig(topic="jobs"), NOW)


def shown(**fields: str) -> QueueConfig:
    return QueueConfig(topic="jobs", content_chars=20, fields=Fields(**fields))


def test_a_plain_json_task() -> None:
    value = {
        "id": "t-1",
        "priority": "HIGH",
        "blocked_task": "t-0",
        "invoked_by": "planner",
        "submitted_at": "2026-01-31T12:00:00.123456+01:00",
        "prompt": "p",
        "args": [1],
    }
    assert task(value) == PendingTask(
        id="t-1",
        submitted_at=datetime(2026, 1, 31, 11, 0, 0, 123_000, tzinfo=UTC),
        priority=Priority("high", "t-0"),
        invoked_by="planner",
        partition=2,
        offset=7,
    )
    content = task(value, config=shown())
    assert (content.prompt, content.args) == ("p", "[1]")


def test_fields_may_have_other_places() -> None:
    config = shown(id="x-id", priority="/meta/prio", prompt="/messages/1/text", args="/a~1b/~0c")
    value = {"meta": {"prio": 3}, "messages": [{}, {"text": "hi"}], "a/b": {"~c": None}}
    made = task(value, [("x-id", b"h-1")], config)
    assert (made.id, made.priority, made.prompt, made.args) == ("h-1", Priority("3"), "hi", None)
    for pointer in ("/messages/2/text", "/messages/x", "/meta/prio/deep", "/messages/99999999999"):
        assert task(value, config=shown(prompt=pointer)).prompt is None


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        ({"id": "v"}, [("telemetron-task-id", b"h")]),
        ({"id": "v"}, [("telemetron-task-id", b"a"), ("telemetron-task-id", b"b")]),
        ({"id": "v"}, [("telemetron-task-id", b"")]),
        ({"id": "v"}, [("telemetron-task-id", None)]),
        ({"id": "v"}, [("telemetron-task-id", b"\xff\xfe")]),
        ({"id": "v"}, [("telemetron-task-id", b"\x01\x02")]),
        (b'\0\0\0\0\x11{"id": "framed"}', []),
        (b"\0" + b'\0\0\0\0\0\0\0\x11{"id": "framed"}', []),
        (b"\1" + bytes(range(16)) + b'{"id": "framed"}', []),
        (b"\3\0" + bytes(range(16)) + b'{"id": 1.50}', []),
        (b"\0", []),
        (b"\0\0\0\0\x11\x02\x0aavro", []),
        ({"id": "x" * 300}, []),
        ({"id": "a\x00b"}, []),
        ({"id": 12}, []),
        ({"id": 1.5}, []),
        (b'{"id": 1.50}', []),
        (b'{"id": 1E2}', []),
        (b'{"id": 123456789012345678901234567890}', []),
        (b'{"id": "a", "cost": NaN}', []),
        (b'\xef\xbb\xbf{"id": "a"}', []),
        ('{"id": "a"}'.encode("utf-16"), []),
        ({"id": True}, []),
        ({"id": None}, []),
        ({"id": ""}, []),
        ({"id": {"a": 1}}, []),
        ({}, []),
        ([1], []),
        (b"\xff", []),
        (b"", []),
        (None, []),
    ],
)
def test_the_id_equals_the_id_that_the_agent_sends(value: Any, headers: Any) -> None:
    encoded = value if isinstance(value, bytes | None) else json.dumps(value).encode()

    class ConsumerRecord:
        topic, partition, offset = "jobs", 2, 7

    ConsumerRecord.headers = headers  # type: ignore[attr-defined]
    ConsumerRecord.value = encoded  # type: ignore[attr-defined]
    theirs = read(ConsumerRecord())
    assert theirs is not None
    assert task(encoded, headers).id == theirs.id


def test_when_it_was_submitted() -> None:
    made = task({"submitted_at": "2026-01-31T12:00:00+01:00"})
    assert (made.submitted_at, made.problem) == (datetime(2026, 1, 31, 11, tzinfo=UTC), None)


@pytest.mark.parametrize("value", [{}, {"submitted_at": None}, [1]])
def test_the_records_timestamp_counts_without_submitted_at(value: Any) -> None:
    made = task(value)
    assert (made.submitted_at, made.problem) == (RECORDED, None)


@pytest.mark.parametrize("at", ["yesterday", "", -5, 0, 1e300, True, [1], {"at": 1}])
def test_an_invalid_submitted_at_is_null_with_a_problem(at: Any) -> None:
    made = task({"id": "t-1", "submitted_at": at})
    assert made.problem is not None
    assert (made.id, made.submitted_at, made.problem.reason) == ("t-1", None, "Unreadable")
    assert made.problem.message == "the value at /submitted_at is not a time in a known format"


@pytest.mark.parametrize(
    "value", [b"1699999200000", (1_699_999_200_000).to_bytes(8, "big"), b"2023-11-14T22:00:00Z"]
)
def test_a_submitted_at_in_a_header_is_text_or_a_big_endian_integer(value: bytes) -> None:
    made = task({}, [("x-at", value)], shown(submitted_at="x-at"))
    assert made.submitted_at == datetime(2023, 11, 14, 22, tzinfo=UTC)


@pytest.mark.parametrize("value", [b"\xff\xfe", b"", b"\0" * 8, b"\xff" * 8, b"soon"])
def test_an_invalid_time_in_a_header_is_null_with_a_problem(value: bytes) -> None:
    made = task({}, [("x-at", value)], shown(submitted_at="x-at"))
    assert (made.submitted_at, made.problem and made.problem.reason) == (None, "Unreadable")


@pytest.mark.parametrize("timestamp", [0, 1, 1_700_000_000, 1 << 62])
def test_an_implausible_timestamp_is_null_with_a_problem(timestamp: int) -> None:
    record = LogRecord(7, timestamp, None, b"{}", [])
    made = parse_task(record, "jobs", 2, QueueConfig(topic="jobs"), NOW)
    assert made.problem is not None
    assert (made.submitted_at, made.problem.message) == (
        None,
        "the record's timestamp is not plausible",
    )


def test_a_record_may_have_no_timestamp() -> None:
    record = LogRecord(7, -1, None, b"{}", [])
    made = parse_task(record, "jobs", 2, QueueConfig(topic="jobs"), NOW)
    assert (made.submitted_at, made.problem) == (None, None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the record has no value (a tombstone)"),
        (b"", "the record's value is not JSON"),
        (b"[" * 100_000, "the record's value is not JSON"),
        (b'{"id": "\xff"}', "the record's value is not JSON"),
    ],
)
def test_an_unreadable_value_is_a_problem(value: bytes | None, message: str) -> None:
    made = task(value)
    assert made.problem is not None
    assert (made.id, made.problem.reason, made.problem.message) == (
        "jobs/2/7",
        "Unreadable",
        message,
    )
    assert made.problem.since == NOW


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_any_value_is_a_task(value: bytes | str) -> None:
    encoded = value if isinstance(value, bytes) else value.encode()
    made = task(encoded, config=shown(id="/0", prompt="/0/1", args="/1"))
    assert made.offset == 7
    assert len(made.id) <= 256
