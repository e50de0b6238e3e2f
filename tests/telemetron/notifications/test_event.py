"""Events are CloudEvents, and their ids follow from what they are about."""

import msgspec

from telemetron.notifications import event as events
from telemetron.notifications.tracker import Edge, Reported
from tests.telemetron.notifications.stage import BEGAN, URL, finding


def edge(kind: str = "fired", **fields: object) -> Edge:
    one = finding(**fields)  # type: ignore[arg-type]
    return Edge(kind, Reported(one, one.since or BEGAN, one.severity, (), {}))


def test_the_body_is_a_cloudevent() -> None:
    made = events.of_edge("a b", URL, edge(), BEGAN)
    body = msgspec.json.decode(made.body())
    data = body.pop("data")
    assert body == {
        "specversion": "1.0",
        "id": made.id,
        "source": "/telemetron/a%20b",
        "type": "dev.telemetron.finding.fired",
        "subject": "NoConsumers/queues/kafka/plans/planner",
        "time": "2030-01-01T09:00:00Z",
        "datacontenttype": "application/json",
    }
    assert data["system"] == "a b"
    assert data["finding"]["root"]["key"] == "kafka/plans/planner"
    assert "updated_at" not in data["finding"]


def test_the_id_does_not_depend_on_when_it_is_said_nor_on_the_numbers_of_the_finding() -> None:
    ids = {
        events.of_edge("atlas", URL, one, BEGAN.replace(hour=hour)).id
        for hour, one in enumerate((edge(), edge(severity="info", rank=7)))
    }
    others = {
        events.of_edge(system, URL, one, BEGAN).id
        for system, one in (
            ("atlas", edge("resolved")),
            ("atlas", edge(since=BEGAN.replace(hour=2))),
            ("atlas", edge("fired", topic="reviews")),
            ("atlas", edge(rule="QueueStuck")),
            ("other", edge()),
        )
    }
    assert len(ids) == 1
    assert len(others | ids) == 6


def test_it_is_the_same_after_it_was_saved() -> None:
    made = events.gap("atlas", URL, "why", BEGAN, 1)
    again = msgspec.json.decode(msgspec.json.encode(made), type=events.Event)
    assert again.body() == made.body()
    assert "subject" not in msgspec.json.decode(made.body())
