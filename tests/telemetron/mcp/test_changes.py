"""The tool `changes`: findings and sources first, then the newest, within the budget."""

import json
from typing import Any

import pytest

from telemetron.mcp.budget import tokens
from telemetron.mcp.changes import changes
from tests.telemetron.mcp.clients import Asked


def change(section: str, key: str, at: str, **fields: Any) -> dict[str, Any]:
    return {
        "section": section,
        "key": key,
        "at": f"2030-01-06T{at}Z",
        "measured_at": None,
        "change": "changed",
        "fields": {name: {"old": old, "new": new} for name, (old, new) in fields.items()},
    }


def answer(*found: Any, **more: Any) -> dict[str, Any]:
    head = {"from": "e.1", "to": "e.9", "complete": True, "starting": []}
    return {**head, "changes": list(found), "truncated": False, "next": None, **more}


async def ask(document: Any, max_tokens: int = 2_000, **given: Any) -> tuple[Any, dict[str, str]]:
    asked = Asked(document)
    text = await changes(asked, {"max_tokens": max_tokens, **given})
    assert tokens(text) <= max_tokens
    ((path, query),) = asked.requests
    assert path == "/system/changes"
    return json.loads(text), query


async def test_findings_and_sources_come_first_then_the_newest() -> None:
    found = [
        change("agents", "old", "09:00:00", status=("active", "silent")),
        change("agents", "new", "09:59:00", status=("idle", "active")),
        change("sources", "kafka", "08:00:00", status=("ok", "stale")),
    ]
    shown, _ = await ask(answer(*found))
    assert [one["key"] for one in shown["changes"]] == ["kafka", "new", "old"]
    assert shown["changes"][1]["at"] == "09:59:00"
    assert shown["now"] == "2030-01-06T10:00:00Z"
    assert "cut" not in shown


async def test_without_arguments_it_asks_for_the_last_five_minutes_without_churn() -> None:
    _, query = await ask(answer())
    assert query == {"since": "5m", "limit": "1000", "kinds": "status,problems,membership"}


async def test_all_arguments_are_passed_on() -> None:
    given: dict[str, Any] = {"since": "e.1", "until": "e.2", "key": "a/b", "kinds": ["tasks"]}
    _, query = await ask(answer(), **given, sections=["agents", "queues"])
    assert query == {**given, "kinds": "tasks", "sections": "agents,queues", "limit": "1000"}


@pytest.mark.parametrize("max_tokens", [200, 500, 2_000, 10_000])
async def test_many_changes_are_cut_by_whole_ones(max_tokens: int) -> None:
    found = [
        change("agents", f"a-{n}", f"09:{n // 60:02}:{n % 60:02}", status=("idle", "x" * 300))
        for n in range(600)
    ]
    shown, _ = await ask(answer(*found), max_tokens)
    rows = shown["changes"]["rows"]
    assert shown["cut"] == {"changes": [len(rows), 600]}
    assert len(rows) >= max_tokens // 250
    assert [row[1] for row in rows] == [f"agents/a-{599 - n}" for n in range(len(rows))]
    assert rows[:1] in ([], [["09:09:59", "agents/a-599", "status", "idle", "x" * 79 + "…"]])
    assert "sections" in shown["next"]


async def test_a_change_of_many_fields_shows_those_of_the_entity_first() -> None:
    fields = {f"pods/p-{n}/status": ("Running", "Failed") for n in range(500)}
    shown, _ = await ask(answer(change("workload", "w", "09:00:00", **fields, ready=(1, 0))), 500)
    rows = shown["changes"]["rows"]
    assert rows[0] == ["09:00:00", "workload/w", "ready", 1, 0]
    assert rows[-1] == ["09:00:00", "workload/w", f"{502 - len(rows)} more fields"]


async def test_entities_and_items_that_came_are_named_without_their_content() -> None:
    entity = {"key": "new", "problems": ["x"] * 300}
    added = {**change("agents", "new", "09:30:00"), "change": "added", "new": entity}
    del added["fields"]
    item = change("agents", "b", "09:20:00")
    item["fields"] = {"pods/p": {"added": {"id": "p", "text": "x" * 2_000}}}
    shown, _ = await ask(answer(added, item), 400)
    assert shown["changes"]["rows"] == [
        ["09:30:00", "agents/new", "added"],
        ["09:20:00", "agents/b", "pods/p", "added"],
    ]


async def test_an_answer_that_the_server_cut_says_so() -> None:
    shown, _ = await ask(answer(change("agents", "a", "09:00:00"), truncated=True, next="/x"))
    assert shown["note"] == "more than 1 entities changed; narrow the question"
    assert "next" not in shown
