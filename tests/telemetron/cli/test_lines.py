from datetime import UTC, datetime

from telemetron.cli.lines import changes

NOW = datetime(2030, 1, 1, 10, tzinfo=UTC)
TOLD = {
    "from": "ab.1",
    "to": "ab.2",
    "complete": True,
    "starting": [],
    "changes": [],
    "truncated": False,
    "next": None,
}


def test_nothing():
    assert list(changes(TOLD, NOW)) == ["nothing changed from ab.1 to ab.2"]


def test_an_entity_and_its_fields():
    change = {
        "section": "queues",
        "key": "kafka/tasks/\x1b",
        "change": "changed",
        "at": "2030-01-01T09:58:30Z",
        "fields": {
            "depth": {"old": None, "new": 41},
            "members/a": {"removed": {"client_id": "a", "host": None, "partitions": 0}},
            "group_state": {"old": "Stable", "new": "x" * 500},
        },
    }
    assert list(changes(TOLD | {"changes": [change]}, NOW)) == [
        r"queues kafka/tasks/\x1b  changed 90s ago",
        "  depth  null → 41",
        '  members/a  removed {"client_id": "a", "partitions": 0}',
        f"  group_state  Stable → {'x' * 119}…",
    ]


def test_without_a_now_times_are_shown():
    change = {"section": "agents", "key": "a", "change": "changed", "at": "2030-01-01T09:58:30Z"}
    assert list(changes(TOLD | {"changes": [change]}, None)) == [
        "agents a  changed at 2030-01-01T09:58:30Z"
    ]


def test_what_came_or_went_at_an_unknown_time():
    change = {"section": "agents", "key": "a", "change": "removed", "at": None, "old": {}}
    assert list(changes(TOLD | {"changes": [change]}, NOW)) == ["agents a  removed"]


def test_what_is_not_told_is_said():
    told = TOLD | {"complete": False, "starting": ["kafka"], "truncated": True, "next": "/more"}
    assert list(changes(told | {"to": "cd.2"}, NOW))[1:] == [
        "… there is more: /more",
        "not complete: Telemetron was started in between; not all observed yet: kafka",
    ]
    told = TOLD | {"complete": False, "from_at": "2030-01-01T09:55:00Z"}
    assert list(changes(told, NOW))[1:] == [
        "not complete: nothing is known before 2030-01-01T09:55:00Z"
    ]


def test_a_gap():
    gap = {"from": "ab.1", "to": "cd.2", "complete": False, "lost": "ab.1 is not kept"}
    assert list(changes(gap, NOW)) == [
        "lost: ab.1 is not kept; what happened until cd.2 is not known"
    ]
