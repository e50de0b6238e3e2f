"""Heartbeats over HTTP, against the real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from telemetron_collectors.heartbeats.beat import MAX_BODY

BEAT = "/agents/planner/heartbeat"
JSON = {"content-type": "application/json"}


async def agents(live: Any) -> list[dict[str, Any]]:
    live.app.service.store.flush()  # else it may take its 25 ms
    found: list[dict[str, Any]] = (await live.client.get("/system/state")).json()["agents"]
    return found


async def post(live: Any, path: str = BEAT, **fields: Any) -> Any:
    return await live.client.post(path, json={"instance": "i", **fields})


async def refused(live: Any, status: int, content: Any, **headers: str) -> dict[str, Any]:
    """The problem a body is answered with; what is known of the agent stays."""
    await post(live, tasks=[{"id": "t"}])
    before = await agents(live)
    answer = await live.client.post(BEAT, content=content, headers={**JSON, **headers})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await agents(live) == before
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    return problem


async def test_a_beat_is_answered_without_a_body(live: Any) -> None:
    answer = await post(live)
    assert (answer.status_code, answer.content) == (204, b"")
    assert [agent["key"] for agent in await agents(live)] == ["-/planner"]


async def test_repeated_beats_change_no_revision(live: Any) -> None:
    body = {"boot_id": "b", "interval_seconds": 5, "tasks": [{"id": "t", "step": "on"}]}
    await post(live, **body, sequence=0)
    await agents(live)
    before = await live.client.get("/system/state")
    reader, writer = await connect(live)
    for start in range(1, 301, 50):  # fewer than the source takes to be past `starting`
        for sequence in range(start, start + 50):
            beat = json.dumps({"instance": "i", **body, "sequence": sequence}).encode()
            writer.write(request("POST", BEAT, beat))
        for _ in range(50):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
    writer.close()
    await agents(live)
    after = await live.client.get("/system/state")
    assert after.headers["etag"] == before.headers["etag"]
    assert after.content == before.content
    assert live.app.service.store.sources["heartbeats"].events == {}


async def test_the_media_type_may_have_parameters_and_any_case(live: Any) -> None:
    for media in ("application/json; charset=utf-8", "Application/JSON"):
        headers = {"content-type": media}
        answer = await live.client.post(BEAT, content=b'{"instance":"i"}', headers=headers)
        assert answer.status_code == 204, media


async def test_another_media_type_or_none_is_415(live: Any) -> None:
    for media in ("text/plain", "application/jsonl", "application/x-json", ""):
        await refused(live, 415, b'{"instance":"i"}', **{"content-type": media})
    answer = await live.client.post(BEAT, content=b'{"instance":"i"}')
    assert answer.status_code == 415


async def test_a_body_that_is_not_json_is_400(live: Any) -> None:
    assert "JSON" in (await refused(live, 400, b'{"new":1,'))["detail"]
    await refused(live, 400, b"")
    await refused(live, 400, b"\xff")


async def test_an_invalid_field_is_422_with_its_path(live: Any) -> None:
    problem = await refused(live, 422, b'{"instance":"i","tasks":[{"id":"a"},{"id":1}]}')
    assert problem["path"] == "$.tasks[1].id"
    assert problem["detail"].startswith("$.tasks[1].id: ")


def padded(size: int) -> bytes:
    return b'{"instance":"i"}'.ljust(size)


async def test_a_body_of_the_largest_size_is_accepted(live: Any) -> None:
    for content in (padded(MAX_BODY), chunks_of(padded(MAX_BODY), 1000)):
        answer = await live.client.post(BEAT, content=content, headers=JSON)
        assert answer.status_code == 204


async def chunks_of(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def test_a_larger_body_is_413_declared_or_not(live: Any) -> None:
    for content in (
        padded(MAX_BODY + 1),
        chunks_of(padded(MAX_BODY + 1), 100_000),
        chunks_of(padded(MAX_BODY + 1), MAX_BODY + 1),
        chunks_of(padded(2 * MAX_BODY), 1000),
    ):
        problem = await refused(live, 413, content)
        assert problem["limit"] == MAX_BODY
        assert str(MAX_BODY) in problem["detail"]


async def test_a_declared_length_that_is_too_large_is_refused_at_once(live: Any) -> None:
    reader, writer = await connect(live)
    writer.write(request("POST", BEAT, b"", size=999_999_999))
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_body_that_ends_early_loses_nothing(live: Any) -> None:
    await post(live, tasks=[{"id": "t"}])
    before = await agents(live)
    _, writer = await connect(live)
    writer.write(request("POST", BEAT, b'{"instance":"i"}', size=99))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await post(live, "/agents/other/heartbeat")).status_code == 204
    assert [agent for agent in await agents(live) if agent["name"] != "other"] == before


async def connect(live: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(live.url.rpartition(":")[2]))


async def test_unknown_fields_and_late_beats_are_counted(live: Any) -> None:
    await post(live, boot_id="b", sequence=2, new=1, tasks=[{"id": "t", "new": 1}])
    await post(live, boot_id="b", sequence=1)
    assert live.app.service.store.sources["heartbeats"].events == {
        "unknown_fields": 2,
        "beats_dropped": 1,
    }
    assert len((await agents(live))[0]["activity"]["active_task_ids"]) == 1


NAMES = ["a b", "a/b", "~", "-", "%", "ü", "日本", "heartbeat", "instances", "x" * 256]


async def test_a_name_may_be_any_text(live: Any) -> None:
    for name, quoted in [*((name, quote(name, safe="")) for name in NAMES), ("..", "%2E%2E")]:
        assert await raw(live, "POST", f"/agents/{quoted}/heartbeat", b'{"instance":"i"}') == 204
        assert [agent["name"] for agent in await agents(live)] == [name]
        assert await raw(live, "DELETE", f"/agents/{quoted}/instances/i") == 204
        assert await agents(live) == []


def request(method: str, path: str, body: bytes, size: int | None = None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body) if size is None else size}\r\n\r\n".encode() + body


async def raw(live: Any, method: str, path: str, body: bytes = b"") -> int:
    """The status; httpx would normalize the path."""
    reader, writer = await connect(live)
    writer.write(request(method, path, body))
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_a_name_that_cannot_be_shown_is_refused(live: Any) -> None:
    for name in ("%00", "a%0Ab", "%1B[31m", "x" * 257, "%E2%80%AE"):
        answer = await live.client.post(f"/agents/{name}/heartbeat", json={"instance": "i"})
        assert answer.status_code == 404, name
        assert "printable" in answer.json()["detail"]


async def test_other_methods_are_405(live: Any) -> None:
    goodbye = "/agents/a/instances/i"
    for method, path, allow in [
        ("GET", BEAT, "POST"),
        ("DELETE", BEAT, "POST"),
        ("POST", goodbye, "DELETE"),
    ]:
        answer = await live.client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allow)
        assert allow in answer.json()["detail"]


async def test_other_paths_are_404_and_name_the_valid_ones(live: Any) -> None:
    for path in (
        "/agents/",
        "/agents/a",
        "/agents//heartbeat",
        "/agents/a/heartbeat/",
        "/agents/a/beat",
        "/agents/a/instances/",
        "/agents//instances/i",
        "/agents/a/instances/i/x",
    ):
        answer = await live.client.post(path, json={"instance": "i"})
        assert answer.status_code == 404, path
        assert "{name}/heartbeat" in answer.json()["detail"]


async def test_unknown_query_parameters_are_refused(live: Any) -> None:
    answer = await post(live, BEAT + "?namespace=n")
    assert answer.status_code == 400
    answer = await live.client.delete("/agents/planner/instances/i?name=n&namespace=n")
    assert answer.status_code == 400
    assert "known: namespace" in answer.json()["detail"]


async def test_goodbye(live: Any) -> None:
    await post(live, namespace="a/b", instance="i/1")
    answer = await live.client.delete("/agents/planner/instances/i%2F1?namespace=a%2Fb")
    assert (answer.status_code, answer.content) == (204, b"")
    assert await agents(live) == []
    again = await live.client.delete("/agents/planner/instances/i%2F1?namespace=a%2Fb")
    assert again.status_code == 404
    assert "'i/1'" in again.json()["detail"]


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("planner/instances/planner-1", ["planner-0"]),
        ("planer/instances/planner-0", ["planner"]),
        ("zzz/instances/zzz", []),
    ],
)
async def test_an_unknown_goodbye_names_similar_ones(live: Any, path: str, nearest: Any) -> None:
    await post(live, instance="planner-0")
    answer = await live.client.delete(f"/agents/{path}")
    assert (answer.status_code, answer.json()["nearest"]) == (404, nearest)
    assert all(f"did you mean {one!r}" in answer.json()["detail"] for one in nearest)


async def test_an_ambiguous_goodbye_is_409_with_the_namespaces(live: Any) -> None:
    for namespace in (None, "n"):
        await post(live, namespace=namespace)
    answer = await live.client.delete("/agents/planner/instances/i")
    assert (answer.status_code, answer.json()["namespaces"]) == (409, ["-", "n"])
    for namespace in answer.json()["namespaces"]:
        path = f"/agents/planner/instances/i?namespace={namespace}"
        assert (await live.client.delete(path)).status_code == 204
    assert await agents(live) == []


async def test_agents_that_are_declared_appear_until_they_beat(serving: Any) -> None:
    config = "agents: [{name: planner, namespace: n, max_parallel_invocations: 4}]"
    async with serving(config) as live:
        (agent,) = await agents(live)
        assert (agent["status"], agent["max_parallel_invocations"]) == ("declared", 4)
        assert agent["instances"] == []
        await post(live, max_parallel_invocations=2)
        (agent,) = await agents(live)
        assert (agent["status"], agent["max_parallel_invocations"]) == ("idle", 2)
        assert agent["sources"] == ["configuration", "heartbeats"]
        await live.client.delete("/agents/planner/instances/i")
        (agent,) = await agents(live)
        assert (agent["status"], agent["max_parallel_invocations"]) == ("declared", 4)


async def test_a_proxy_may_decode_the_slashes_of_a_name(live: Any) -> None:
    for name in ("team/planner", "team%2Fplanner"):
        assert (await post(live, f"/agents/{name}/heartbeat")).status_code == 204
        assert [agent["name"] for agent in await agents(live)] == ["team/planner"]
        assert (await live.client.get(f"/agents/{name}/livez")).status_code == 200
    for name in ("/", "team//planner"):
        assert (await post(live, f"/agents/{name}/heartbeat")).status_code == 404
    for key in ("-/team~1planner", "-%2Fteam~1planner", "-/team%7E1planner"):
        for kind in ("state", "history"):
            answer = await live.client.get(f"/system/{kind}/agents/{key}")
            assert answer.status_code == 200
    assert (await live.client.delete("/agents/team/planner/instances/i")).status_code == 204
    assert await agents(live) == []
