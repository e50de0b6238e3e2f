"""The tools whose answers the HTTP API makes: their requests, and the budget in any case."""

import json
from typing import Any

import pytest

from telemetron.mcp.answers import brief, entity, task
from telemetron.mcp.budget import tokens
from tests.telemetron.mcp.clients import Asked


async def request(tool: Any, **given: Any) -> tuple[str, dict[str, str]]:
    asked = Asked({"place": "e.1"})
    await tool(asked, {"max_tokens": 2_000, **given})
    (sent,) = asked.requests
    return sent


async def test_a_brief_is_asked_for_with_its_budget() -> None:
    assert await request(brief) == ("/system/brief", {"max_tokens": "2000"})
    assert await request(brief, about="prod/a b") == (
        "/system/brief",
        {"max_tokens": "2000", "about": "prod/a b"},
    )


async def test_an_entity_is_a_brief_about_it() -> None:
    sent = ("/system/brief", {"max_tokens": "2000", "about": "agents/prod/planner"})
    assert await request(entity, key="agents/prod/planner") == sent


@pytest.mark.parametrize(
    ("id", "path"),
    [
        ("t-17", "t-17"),
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("..", "%2E%2E"),
        ("orders/3/512", "orders/3/512"),
        ("a/b/3/512", "a%2Fb/3/512"),
        ("a/b/3x", "a%2Fb%2F3x"),
    ],
)
async def test_a_task_is_asked_for_by_id_or_place(id: str, path: str) -> None:
    assert await request(task, id=id) == (f"/system/tasks/{path}", {})


@pytest.mark.parametrize("max_tokens", [200, 2_000])
async def test_an_answer_above_the_budget_is_shortened(max_tokens: int) -> None:
    timeline = [{"at": "2030-01-06T09:00:00Z", "what": "x" * 50} for _ in range(500)]
    for tool, given in ((task, {"id": "t"}), (brief, {})):
        asked = Asked({"timeline": timeline})
        text = await tool(asked, {**given, "max_tokens": max_tokens})
        assert tokens(text) <= max_tokens
        shown = json.loads(text)
        assert shown["cut"]["timeline"] == [len(shown["timeline"]), 500]
