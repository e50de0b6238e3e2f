"""The tool `state`: whole entities if they fit, else tables, the worst first, cuts named."""

import json
from typing import Any

import pytest

from telemetron.mcp.budget import tokens
from telemetron.mcp.state import state
from tests.telemetron.mcp.clients import Asked

ENVELOPE = {"epoch": "e", "revision": 7}


def agent(key: str, status: str = "idle", **more: Any) -> dict[str, Any]:
    activity = {"task_count": 0, "least_progressed_at": None, "active_task_ids": []}
    return {"key": key, "status": status, "activity": activity, "problems": [], **more}


def source(key: str, status: str = "ok") -> dict[str, Any]:
    return {"key": key, "status": status, "problems": [], "since": "2030-01-06T09:00:00.5Z"}


def finding(rank: int, root: str, *effects: str) -> dict[str, Any]:
    named = [{"section": "agents", "key": key} for key in (root, *effects)]
    return {"key": f"f{rank}", "rank": rank, "root": named[0], "effects": named[1:]}


async def ask(document: Any, max_tokens: int = 2_000, **given: Any) -> tuple[Any, dict[str, str]]:
    asked = Asked({**ENVELOPE, "sources": [], "findings": [], **document})
    text = await state(asked, {"max_tokens": max_tokens, **given})
    assert tokens(text) <= max_tokens
    ((path, query),) = asked.requests
    assert path == "/system/state"
    return json.loads(text), query


def keys(shown: Any, section: str = "agents") -> list[str]:
    table = shown[section]
    if isinstance(table, list):
        return [one["key"] for one in table]
    return [row[table["columns"].index("key")] for row in table["rows"]]


async def test_a_small_state_is_whole_but_for_nulls() -> None:
    document = {"sources": [source("kafka")], "agents": [agent("a", instance_count=None)]}
    shown, query = await ask(document)
    assert shown == {
        "at": "2030-01-06T10:00:00Z",
        "place": "e.7",
        "sources": [{"key": "kafka", "status": "ok", "problems": [], "since": "09:00:00"}],
        "agents": [
            {
                "key": "a",
                "status": "idle",
                "activity": {"task_count": 0, "active_task_ids": []},
                "problems": [],
            }
        ],
    }
    assert query == {"sections": "sources,findings,agents,litellm,queues,workload"}


async def test_the_past_and_the_sections_are_asked_for() -> None:
    _, query = await ask({}, sections=["agents"], at="5m")
    assert query == {"sections": "agents,findings", "at": "5m"}


async def test_sections_not_asked_for_are_left_out_and_doubtful_sources_are_named() -> None:
    document = {
        "sources": [source("heartbeats"), source("kafka", "stale"), source("litellm", "off")],
        "findings": [finding(1, "a")],
        "agents": [agent("a")],
    }
    shown, _ = await ask(document, sections=["agents"])
    assert shown["sources_not_ok"] == {"kafka": "stale", "litellm": "off"}
    assert keys(shown) == ["a"]
    assert "findings" not in shown
    assert "sources" not in shown
    shown, _ = await ask(document, sections=["sources"])
    assert keys(shown, "sources") == ["kafka", "heartbeats", "litellm"]


async def test_an_empty_answer_says_so() -> None:
    shown, _ = await ask({"agents": [agent("a")]}, sections=["queues"])
    assert shown == {"at": "2030-01-06T10:00:00Z", "place": "e.7", "note": "no entities"}


async def test_the_worst_come_first() -> None:
    agents = [agent(f"a{n:03}") for n in range(300)]
    whole = dict.fromkeys(("namespace", "description", "deployment_name"))
    whole |= {"models": [], "queues": [], "instances": [], "sources": []}
    whole |= {"name": "a250", "max_parallel_invocations": 1, "instance_count": 1}
    agents[250] |= {**whole, "silent_count": 1, "status": "silent"}
    document = {"agents": agents, "findings": [finding(2, "a200"), finding(1, "a100", "a150")]}
    shown, _ = await ask(document, sections=["agents"])
    assert keys(shown)[:6] == ["a100", "a150", "a200", "a250", "a000", "a001"]
    assert shown["agents"]["columns"] == [
        *("key", "status", "task_count", "max_parallel_invocations"),
        *("instance_count", "silent_count"),
    ]
    assert shown["agents"]["rows"][3] == ["a250", "silent", 0, 1, 1, 1]


@pytest.mark.parametrize("max_tokens", [200, 500, 2_000, 10_000])
async def test_cut_tables_name_what_is_missing(max_tokens: int) -> None:
    agents = [agent(f"prod/agent-{n:05}", "x" * 300) for n in range(3_000)]
    pods = [{"reason": f"R{n}"} for n in range(40)]
    workload = [{"key": f"w{n}", "live": {"ready": 0}, "pods": pods} for n in range(10)]
    shown, _ = await ask({"agents": agents, "workload": workload}, max_tokens)
    count = len(keys(shown)) if "agents" in shown else 0
    assert shown["cut"]["agents"] == [count, 3_000]
    assert count >= max_tokens // 200
    assert shown["next"].startswith("state with sections")


async def test_a_filter_looks_into_all_values() -> None:
    tasks = {"active_task_ids": [{"id": "T-17", "waits": [{"name": "gpt-5"}]}]}
    document = {"agents": [agent("a"), {**agent("b"), "activity": tasks}, agent("silence")]}
    tasks["active_task_ids"].append({"stalled": True, "last_known": False})
    asked = {"t-17": ["b"], "GPT": ["b"], "sil": ["silence"], "Stalled": ["b"]}
    for text, found in asked.items():
        shown, _ = await ask(document, match=text)
        assert keys(shown) == found
    shown, _ = await ask(document, match="last_known")
    assert shown["note"] == "no entity has this text"
    assert "agents" not in shown


async def test_a_long_key_is_never_cut() -> None:
    agents = [agent(f"{n}-{'k' * 250}") for n in range(50)]
    shown, _ = await ask({"agents": agents}, sections=["agents"])
    assert all(len(key) > 250 for key in keys(shown))
