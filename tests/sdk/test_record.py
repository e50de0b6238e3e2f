"""The id of a task from the record it came as; the rule is that of docs/tasks.md."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from telemetron_agent import Agent
from telemetron_agent.record import MAX_VALUE, read


def record(value: Any = b"", headers: Any = (), topic: Any = "tasks", offset: Any = 7) -> Any:
    """As aiokafka and kafka-python give it."""
    return SimpleNamespace(topic=topic, partition=3, offset=offset, value=value, headers=headers)


@pytest.mark.parametrize(
    ("value", "headers", "id"),
    [
        (b'{"id": "t"}', [("telemetron-task-id", b"h")], "h"),
        (b'{"id": "t"}', [("telemetron-task-id", b"h"), ("telemetron-task-id", b"last")], "last"),
        (b'{"id": "t"}', [("telemetron-task-id", "text")], "text"),
        (b'{"id": "t"}', [("telemetron-task-id", b"")], "t"),
        (b'{"id": "t"}', [("telemetron-task-id", None)], "t"),
        (b'{"id": "t"}', [("other", b"h")], "t"),
        (b'{"id": "t"}', None, "t"),
        (bytearray(b'{"id": 17}'), (), "17"),
        ('{"id": 1.50}', (), "1.50"),
        (b'{"id": 123456789012345678901234567890}', (), "123456789012345678901234567890"),
        ({"id": "parsed"}, (), "parsed"),
        ({"id": 5}, (), "5"),
        ({"id": True}, (), "tasks/3/7"),
        (b'{"id": true}', (), "tasks/3/7"),
        (b'{"id": null}', (), "tasks/3/7"),
        (b'{"id": ""}', (), "tasks/3/7"),
        (b'{"id": "\\u0000"}', (), "tasks/3/7"),
        (b'{"id": {"id": 1}}', (), "tasks/3/7"),
        (b'["id"]', (), "tasks/3/7"),
        (b"{", (), "tasks/3/7"),
        (b"\xff\xfe\x00", (), "tasks/3/7"),
        (b"[" * 100_000, (), "tasks/3/7"),
        (None, (), "tasks/3/7"),
        (5, (), "tasks/3/7"),
        (json.dumps({"id": "t", "x": "x" * MAX_VALUE}).encode(), (), "tasks/3/7"),
    ],
)
def test_the_rule(value: Any, headers: Any, id: str) -> None:
    assert read(record(value, headers)) == (id, "tasks", 3, 7)


@pytest.mark.parametrize(
    "thing", [object(), record(topic=None), record(offset=None), record(topic=lambda: None)]
)
def test_other_objects_are_no_records(thing: Any) -> None:
    assert read(thing) is None


def test_a_record_of_aiokafka() -> None:
    aiokafka = pytest.importorskip("aiokafka")
    facts = {"timestamp": 0, "timestamp_type": 0, "key": None, "checksum": None}
    sizes = {"serialized_key_size": -1, "serialized_value_size": 1}
    headers = (("telemetron-task-id", b"t"),)
    made = aiokafka.ConsumerRecord("q", 0, 1, value=b"x", headers=headers, **facts, **sizes)
    assert read(made) == ("t", "q", 0, 1)


def test_a_record_of_confluent_kafka() -> None:
    kafka = pytest.importorskip("confluent_kafka")
    made = kafka.Message("q", 0, 1, b"key", b'{"id": "t"}', [("other", b"")])
    assert read(made) == ("t", "q", 0, 1)


def test_an_agent_takes_records(stand_in) -> None:
    with Agent("x", url=stand_in.url, interval=60) as agent:
        with agent.task(record(b'{"id": "t-1"}'), model="m"):
            agent.flush(10)
        with agent.task(record(), queue="elsewhere"):
            agent.flush(10)
    first, second = (beat["tasks"][0] for beat in stand_in.beats if beat["tasks"])
    assert (first["id"], first["model"]) == ("t-1", "m")
    assert (first["queue"], first["partition"], first["offset"]) == ("tasks", 3, 7)
    assert (second["id"], second["queue"]) == ("tasks/3/7", "elsewhere")


def test_a_hostile_record_does_no_harm(caplog) -> None:
    class Hostile:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("a secret")

    with Agent("hostile") as agent:
        for _ in range(3):
            with agent.task(Hostile()) as task:
                task.progress("on")
    (said,) = [r.getMessage() for r in caplog.records if r.name == "telemetron_agent"]
    assert "RuntimeError" in said
    assert "secret" not in said
