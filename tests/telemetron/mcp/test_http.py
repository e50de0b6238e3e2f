"""MCP over HTTP: both eras on one path, guarded, with the token of the caller."""

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from telemetron.mcp.http import PATH, Endpoint
from tests.conftest import Serving
from tests.telemetron.mcp.clients import (
    INITIALIZE,
    META,
    MODERN,
    OLD,
    call,
    official,
    raw,
    request,
    text,
)
from tests.telemetron.mcp.clients import serving as endpoint

NOWHERE = "http://127.0.0.1:1"
TOKEN = "read-token-0123456789"


async def post(app: Endpoint, message: Any, **headers: str) -> Any:
    async with raw(app) as client:
        return await client.post(PATH, json=message, headers=headers)


def modern(method: str, **params: Any) -> dict[str, Any]:
    return request(method, **params, _meta=META)


async def test_the_official_client_lists_and_calls() -> None:
    async with endpoint(NOWHERE) as app, official(app) as client:
        assert client.protocol_version == "2026-07-28"
        assert len((await client.list_tools()).tools) == 5
        result = await client.call_tool("state", {})
    assert result.is_error
    assert text(result)["error"].startswith(f"{NOWHERE}: cannot be reached")


async def test_a_client_with_the_handshake() -> None:
    async with endpoint(NOWHERE) as app:
        answer = await post(app, request("initialize", **INITIALIZE))
        result = answer.json()["result"]
        assert result["protocolVersion"] == "2025-06-18"
        assert result["serverInfo"]["name"] == "telemetron"
        assert "mcp-session-id" not in answer.headers
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert (await post(app, ready, **OLD)).status_code == 202
        listed = (await post(app, request("tools/list"), **OLD)).json()["result"]
        assert len(listed["tools"]) == 5
        called = (await post(app, call("state"), **OLD)).json()["result"]
        assert called["isError"]


async def test_a_client_without_the_handshake() -> None:
    async with endpoint(NOWHERE) as app:
        headers = {**MODERN, "mcp-method": "tools/list"}
        answer = await post(app, modern("tools/list"), **headers)
        result = answer.json()["result"]
        assert answer.headers["content-type"] == "application/json"
        assert (result["resultType"], len(result["tools"])) == ("complete", 5)
        assert result["ttlMs"] > 0
        headers = {**MODERN, "mcp-method": "tools/call", "mcp-name": "state"}
        answer = await post(app, modern("tools/call", name="state", arguments={}), **headers)
        assert answer.json()["result"]["isError"]
        answer = await post(app, modern("tools/list"), **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)
        newer = {**META, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
        headers = {**MODERN, "mcp-method": "tools/list", "mcp-protocol-version": "2099-01-01"}
        answer = await post(app, request("tools/list", _meta=newer), **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32022)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD"])
async def test_other_methods_are_answered_at_once(method: str) -> None:
    async with endpoint(NOWHERE) as app, raw(app) as client:
        answer = await client.request(method, PATH, headers={"accept": "text/event-stream"})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/", "/mcp/", "/mcp/x", "/sse", "/.well-known/oauth-authorization-server"]
)
async def test_other_paths_do_not_exist(path: str) -> None:
    async with endpoint(NOWHERE) as app, raw(app) as client:
        assert (await client.post(path, json={})).status_code == 404


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8081", "127.0.0.1:1", "[::1]", "[::1]:80", "LOCALHOST", "mcp.prod:81"],
)
async def test_known_hosts_may_ask(host: str) -> None:
    async with endpoint(NOWHERE, "0.0.0.0", "MCP.prod") as app:
        assert (await post(app, request("ping"), host=host)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "localhost@evil.example", "0.0.0.0", ""),
        *("evil.example#localhost", "evil.example:localhost", "[::1", "localhost, evil.example"),
    ],
)
async def test_foreign_hosts_are_refused(host: str) -> None:
    async with endpoint(NOWHERE, "0.0.0.0") as app:
        assert (await post(app, request("ping"), host=host)).status_code == 421


@pytest.mark.parametrize("origin", ["http://localhost:6274", "https://127.0.0.1", "http://[::1]:3"])
async def test_pages_of_this_machine_may_ask(origin: str) -> None:
    async with endpoint(NOWHERE) as app:
        assert (await post(app, request("ping"), origin=origin)).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "http://localhost.evil.example", "localhost", "http://["],
)
async def test_foreign_pages_are_refused(origin: str) -> None:
    async with endpoint(NOWHERE) as app:
        assert (await post(app, request("ping"), origin=origin)).status_code == 403


async def test_the_probe_needs_no_name_and_says_nothing() -> None:
    async with endpoint(NOWHERE) as app, raw(app, "10.1.2.3") as client:
        answer = await client.get("/livez")
    assert (answer.status_code, answer.text) == (200, "ok")


@pytest.mark.parametrize("headers", [OLD, MODERN])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b"[]", 400),
        (b" " * 2**21, 413),
    ],
)
async def test_bodies_that_are_no_message_are_refused(
    headers: dict[str, str], body: bytes, status: int
) -> None:
    async with endpoint(NOWHERE) as app, raw(app) as client:
        sent = {**headers, "content-type": "application/json"}
        answer = await client.post(PATH, content=body, headers=sent)
        assert answer.status_code == status
        assert (await client.post(PATH, json=request("ping"), headers=OLD)).status_code == 200


# tokens


@pytest.fixture
def config(tmp_path: Path) -> str:
    return json.dumps({"server": {"auth": {"read": TOKEN, "write": "w" * 20}}})


async def test_the_token_of_the_caller_is_passed_on(serving: Serving, config: str) -> None:
    async with serving(config) as live, endpoint(live.url) as app:
        for headers, is_error in (
            ({}, True),
            ({"authorization": f"Bearer {TOKEN}"}, False),
            ({"authorization": f"bearer  {TOKEN} "}, False),
            ({"authorization": f"Basic {TOKEN}"}, True),
            ({"authorization": "Bearer wrong"}, True),
            ({"authorization": "Bearer t\xf6ken".encode("latin-1")}, True),
        ):
            answer = await post(app, call("state"), **OLD, **headers)
            result = answer.json()["result"]
            assert result["isError"] is is_error, headers
            assert TOKEN not in answer.text
            assert "wrong" not in answer.text.replace("missing or wrong", "")
        async with official(app, headers={"authorization": f"Bearer {TOKEN}"}) as client:
            assert isinstance(client, Client)
            assert not (await client.call_tool("state", {})).is_error


async def test_a_missing_token_says_how_to_send_it(serving: Serving, config: str) -> None:
    async with serving(config) as live, endpoint(live.url) as app:
        answer = await post(app, call("state"), **OLD)
    error = text(answer.json()["result"])["error"]
    assert error.startswith("401 the read token is missing or wrong; send Authorization: Bearer")


async def test_nothing_is_logged_of_a_call(
    serving: Serving, config: str, logged: list[str]
) -> None:
    async with serving(config) as live, endpoint(live.url) as app:
        await post(app, call("state"), **OLD, authorization=f"Bearer {TOKEN}")
        await post(app, call("state"), **OLD, authorization="Bearer hunter2")
    assert [line for line in logged if TOKEN in line or "hunter2" in line] == []
