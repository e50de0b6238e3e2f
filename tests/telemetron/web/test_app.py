import asyncio

import pytest

from telemetron.http import HttpProblem

READ, WRITE = "read-token-0123456789", "write-token-0123456789"
TOKENS = f"server: {{auth: {{read: {READ}, write: {WRITE}}}}}"


def bearer(token):
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", ["/nope", "/system", "/system/statex", "/livez/x", "/a%00"])
async def test_an_unknown_path_is_404_as_a_problem(live, path):
    answer = await live.client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 404


async def test_a_method_a_page_does_not_take_is_405(live):
    answer = await live.client.post("/livez")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.headers["content-type"] == "application/problem+json"


async def test_with_tokens_all_but_bare_probes_need_one(serving):
    async with serving(TOKENS) as live:
        for path in ("/livez", "/readyz", "/healthz"):
            assert (await live.client.get(path)).status_code == 200
        for path in (
            "/",
            "/system/state",
            "/system/state/agents",
            "/system/schema",
            "/metrics",
            "/openapi.json",
            "/swagger/",
            "/livez?verbose",
            "/healthz?verbose",
            "/nope",
        ):
            bare = await live.client.get(path)
            assert bare.status_code == 401, path
            assert bare.headers["www-authenticate"].startswith("Bearer")
            wrong = await live.client.get(path, headers=bearer(WRITE))
            assert wrong.status_code == 403, path
            right = await live.client.get(path, headers=bearer(READ))
            assert right.status_code == (404 if path == "/nope" else 200), path


async def test_with_tokens_a_beat_needs_the_one_for_writing(serving):
    async with serving(TOKENS) as live:
        path, body = "/agents/planner/heartbeat", {"instance": "i"}
        assert (await live.client.post(path, json=body)).status_code == 401
        assert (await live.client.post(path, json=body, headers=bearer(READ))).status_code == 403
        assert (await live.client.post(path, json=body, headers=bearer(WRITE))).status_code == 204


async def test_a_foreign_host_is_refused_on_loopback(live):
    for path in ("/system/state", "/livez", "/"):
        answer = await live.client.get(path, headers={"host": "evil.example"})
        assert answer.status_code == 421, path


async def test_below_a_root_path_all_is_found(serving):
    async with serving("server: {root_path: /telemetron}") as live:
        assert (await live.client.get("/system/state")).status_code == 200
        beat = await live.client.post("/agents/a%2Fb/heartbeat", json={"instance": "i"})
        assert beat.status_code == 204
        assert (await live.client.get("/system/state/agents/-/a~1b")).status_code == 200
        assert (await live.client.get("/livez")).status_code == 200
        assert "/telemetron" in (await live.client.get("/openapi.json")).text


async def test_agents_of_the_configuration_are_declared_until_they_beat(serving):
    config = "agents: [{name: planner, namespace: prod, max_parallel_invocations: 4, models: [m]}]"
    async with serving(config) as live:
        state = (await live.client.get("/system/state")).json()
        (agent,) = state["agents"]
        assert (agent["key"], agent["status"]) == ("prod/planner", "declared")
        assert (agent["max_parallel_invocations"], agent["models"]) == (4, ["m"])
        assert agent["sources"] == ["configuration"]
        (row,) = [row for row in state["sources"] if row["key"] == "configuration"]
        assert (row["status"], row["max_age_seconds"], row["entities"]) == ("ok", None, 1)
        await live.client.post("/agents/planner/heartbeat", json={"instance": "i"})
        (agent,) = (await live.client.get("/system/state")).json()["agents"]
        assert (agent["key"], agent["status"]) == ("prod/planner", "idle")
        assert agent["sources"] == ["configuration", "heartbeats"]


async def test_a_source_that_does_not_run_leaves_its_paths_503(live):
    live.app.service.supervisor.mounts.remove("heartbeats")
    answer = await live.client.post("/agents/planner/heartbeat", json={"instance": "i"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


async def test_bug_is_answered_with_500_without_its_cause(live):
    async def broken(scope, receive, send):
        raise ValueError("secret")

    mounts = live.app.service.supervisor.mounts
    mounts.remove("heartbeats")
    mounts.add("/agents/", broken, "heartbeats")
    answer = await live.client.post("/agents/planner/heartbeat", json={"instance": "i"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert (await live.client.get("/livez")).status_code == 200


async def test_a_problem_of_a_collector_is_answered_as_it_is(live):
    async def full(scope, receive, send):
        raise HttpProblem(429, "wait", {"retry-after": "60"}, limit=1)

    mounts = live.app.service.supervisor.mounts
    mounts.remove("heartbeats")
    mounts.add("/agents/", full, "heartbeats")
    answer = await live.client.post("/agents/planner/heartbeat", json={"instance": "i"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert answer.json()["limit"] == 1


async def test_pipelined_requests_are_answered_in_order(live):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(live.url.rpartition(":")[2]))
    paths = ["/system/state", "/livez", "/system/state?sections=agents", "/nope"] * 5
    for path in paths:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    statuses = []
    async with asyncio.timeout(30):
        for _ in paths:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            statuses.append(int(head.split()[1]))
            await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
    writer.close()
    assert statuses == [200, 200, 200, 404] * 5


async def test_bytes_that_are_not_http_get_400(live):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(live.url.rpartition(":")[2]))
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    async with asyncio.timeout(30):
        assert b" 400 " in await reader.read()
    writer.close()


@pytest.mark.parametrize("path", ["/", "/system/state", "/system/schema", "/livez"])
async def test_a_proxy_may_leave_the_root_path_where_it_is(serving, path):
    async with serving("server: {root_path: /below}") as live:
        stripped = await live.client.get(path)
        left = await live.client.get(f"/below{path}")
        assert (left.status_code, left.content) == (200, stripped.content)
        assert (await live.client.get(f"/below/below{path}")).status_code == 404


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/livez/", "../livez"),
        ("/system/schema/?x=1", "../schema?x=1"),
        ("/swagger", "swagger/"),
    ],
)
async def test_path_with_a_wrong_slash_is_redirected(live, path, location):
    answer = await live.client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (308, location)
