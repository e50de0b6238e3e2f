"""The MCP server with the official client in the same process, against a real Telemetron."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

import telemetron
from telemetron.mcp.api import Api
from telemetron.mcp.budget import tokens
from telemetron.mcp.guide import INSTRUCTIONS
from telemetron.mcp.server import server
from tests.conftest import Live
from tests.telemetron.cli.program import answering
from tests.telemetron.mcp.clients import text
from tests.telemetron.web.client import beat, until


@pytest.fixture
async def system(live: Live) -> Live:
    """A server that takes heartbeats."""
    await until(lambda: live.app.service.supervisor.mounts.apps)
    return live


@asynccontextmanager
async def connected(url: str, seconds: float = 10) -> AsyncIterator[Client]:
    api = Api(url, seconds=seconds)
    async with Client(server(api, lambda _: None)) as client:
        yield client
    await api.close()


async def test_it_says_who_it_is_and_how_to_ask() -> None:
    async with connected("http://127.0.0.1:1") as client:
        assert client.server_info is not None
        assert client.server_info.name == "telemetron"
        assert client.server_info.version == telemetron.__version__
        assert client.instructions == INSTRUCTIONS
        assert len((await client.list_tools()).tools) == 5


async def test_it_answers_from_the_state(system: Live) -> None:
    await beat(system, "planner", tasks=[{"id": "t-1", "step": "plan"}])
    async with connected(system.url) as client:
        shown = text(await client.call_tool("state", {"match": "t-1"}))
        assert [one["key"] for one in shown["agents"]] == ["prod/planner"]
        table = text(await client.call_tool("state", {"sections": ["agents"], "max_tokens": 200}))
        assert table["agents"]["rows"][0][:2] == ["prod/planner", "active"]


async def test_each_tool_answers_within_its_budget(system: Live) -> None:
    for number in range(40):
        tasks = [{"id": f"t-{number}.{one}", "step": "s" * 100} for one in range(20)]
        await beat(system, f"agent-{number}", tasks=tasks)
    asked: list[tuple[str, dict[str, Any]]] = [
        *(
            ("brief", {}),
            ("brief", {"about": "agent-7"}),
            ("entity", {"key": "agents/prod/agent-7"}),
        ),
        *(("task", {"id": "t-7.3"}), ("state", {}), ("changes", {"kinds": ["tasks", "status"]})),
    ]
    async with connected(system.url) as client:
        for budget in (300, 2_000, 10_000):
            for tool, given in asked:
                result = await client.call_tool(tool, {**given, "max_tokens": budget})
                assert not result.is_error, (tool, given, budget, text(result))
                assert isinstance(text(result), dict)
                said = result.content[0].text
                assert tokens(said.encode()) <= budget
                assert len(said) < 50_000


async def test_wrong_names_are_answered_with_the_nearest(system: Live) -> None:
    await beat(system, "planner", tasks=[{"id": "t-1"}])
    async with connected(system.url) as client:
        for tool, given, near in (
            ("brief", {"about": "planer"}, "prod/planner"),
            ("entity", {"key": "prod/planer"}, "prod/planner"),
            ("task", {"id": "t-2"}, "t-1"),
            ("changes", {"key": "prod/planer"}, "prod/planner"),
        ):
            result = await client.call_tool(tool, given)
            assert near in text(result)["nearest"], (tool, text(result))


async def test_an_unknown_tool_is_an_error_of_the_protocol() -> None:
    async with connected("http://127.0.0.1:1") as client:
        with pytest.raises(MCPError, match="did you mean brief") as caught:
            await client.call_tool("breif", {})
    assert caught.value.code == -32602


async def test_a_wrong_argument_is_a_result_that_the_model_can_act_on() -> None:
    async with connected("http://127.0.0.1:1") as client:
        result = await client.call_tool("state", {"sections": ["agent"]})
    assert result.is_error
    assert text(result)["nearest"] == ["agents"]


async def test_a_server_that_does_not_answer_is_a_result() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with connected(url, seconds=0.2) as client:
            result = await client.call_tool("state", {})
    assert result.is_error
    assert text(result) == {"error": f"{url}: no answer within 0.2 s"}


@pytest.mark.parametrize(
    "body", [b"{}", b'{"changes": 3}', b'{"epoch": "e", "revision": 1, "agents": 3}']
)
@pytest.mark.parametrize("tool", ["state", "changes"])
async def test_a_document_of_another_shape_is_a_result(tool: str, body: bytes) -> None:
    with answering(200, body, **{"Content-Type": "application/json"}) as url:
        async with connected(url) as client:
            result = await client.call_tool(tool, {})
    assert result.is_error
    assert text(result)["error"].startswith("unexpected response")


async def test_a_long_error_of_the_server_is_cut() -> None:
    body = b'{"detail": "%s", "nearest": ["%s"]}' % (b"x" * 50_000, b"y" * 50_000)
    with answering(404, body, **{"Content-Type": "application/problem+json"}) as url:
        async with connected(url) as client:
            result = await client.call_tool("state", {})
    said = text(result)
    assert len(said["error"]) < 1_100
    assert len(said["nearest"][0]) <= 300


async def test_many_calls_at_once_get_their_own_answers(system: Live) -> None:
    for number in range(50):
        await beat(system, f"agent-{number}", instance=f"i-{number}.")
    async with connected(system.url) as client:
        calls = [client.call_tool("state", {"match": f"i-{number}."}) for number in range(50)]
        results = await asyncio.gather(*calls)
    for number, result in enumerate(results):
        keys = [one["key"] for one in text(result)["agents"]]
        assert keys == [f"prod/agent-{number}"]
        assert tokens(result.content[0].text.encode()) <= 2_000
