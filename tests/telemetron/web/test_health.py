import asyncio
import re
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from telemetron.config.settings import parse
from telemetron.document import Finding, Root
from telemetron.service.service import Service
from telemetron.service.supervisor import SupervisorLimits
from telemetron.web.app import App, server_options
from telemetron.web.server.server import HttpServer

PROBES = ("/livez", "/readyz", "/healthz")


@pytest.mark.parametrize("path", PROBES)
async def test_a_bare_probe_is_short(live, path):
    answer = await live.client.get(path)
    assert (answer.status_code, answer.text) == (200, "ok\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert (await live.client.head(path)).status_code == 200
    assert (await live.client.post(path)).status_code == 405


@pytest.mark.parametrize("path", PROBES)
async def test_no_probe_depends_on_a_source_and_verbose_lists_each(serving, path):
    async with serving("sources: {orders: {collector: nowhere}}") as live:
        answer = await live.client.get(path, params={"verbose": ""})
        assert answer.status_code == 200
        lines = answer.text.splitlines()
        shown = live.app.service.store.sources["orders"].row()
        since = shown.since.strftime("%Y-%m-%dT%H:%M:%SZ")
        at = lines.index(f"[-]orders failing since {since}")
        assert lines[at + 1].startswith("   NotInstalled: no installed package has")
        assert any(line.startswith("[ ]heartbeats starting since 2") for line in lines)
        assert any(line.startswith("[ ]kafka off since 2") for line in lines)
        assert lines[-2:] == [f"{path[1:]} check passed", "findings: none"]


async def test_verbose_shows_status_and_problems(live):
    source = live.app.service.store.sources["heartbeats"]
    source.confirm()
    source.confirm("west", reason="Forbidden", message="may not list pods")
    text = (await live.client.get("/healthz?verbose=true")).text
    assert "[+]heartbeats ok since" in text
    assert "   Forbidden: west: may not list pods\n" in text


@pytest.mark.parametrize(
    ("query", "status"),
    [("verbose=false", 200), ("verbose=yes", 400), ("x=1", 400), ("verbose&verbose", 400)],
)
async def test_probe_takes_only_verbose(live, query, status):
    answer = await live.client.get(f"/livez?{query}")
    assert answer.status_code == status
    assert answer.text == "ok\n" or answer.json()["status"] == 400


async def test_verbose_alone_needs_a_token(serving):
    tokens = "server: {auth: {read: read-token-0123456789, write: write-token-0123456789}}"
    async with serving(tokens) as live:
        for path in PROBES:
            assert (await live.client.get(path)).status_code == 200
            assert (await live.client.get(path + "?verbose=false")).status_code == 200
            assert (await live.client.get(path + "?verbose")).status_code == 401


async def test_a_server_that_stops_is_alive_but_not_ready(live):
    live.app.stop()
    for path, status in [("/livez", 200), ("/readyz", 503), ("/healthz", 503)]:
        assert (await live.client.get(path)).status_code == status
        assert (await live.client.get(path + "?verbose")).status_code == status
    assert "stopping" in (await live.client.get("/readyz")).json()["detail"]


# the probe of an agent

AGENT = "/agents/planner/livez"


async def test_unknown_agent_is_alive(live):
    for path in (AGENT, AGENT + "?max_silence=1s&max_stall=1s", "/agents/a%2Fb/livez"):
        answer = await live.client.get(path)
        assert (answer.status_code, answer.text) == (200, "ok\n")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    head = await live.client.head(AGENT)
    assert (head.status_code, head.content) == (200, b"")


async def test_every_agent_is_alive_while_heartbeats_are_off(serving):
    async with serving("sources: {heartbeats: off}") as live:
        assert (await live.client.get(AGENT)).text == "ok\n"
        assert (await live.client.post(AGENT)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", AGENT, 405),
        ("DELETE", AGENT, 405),
        ("GET", "/agents/livez", 404),
        ("GET", "/agents//livez", 404),
        ("GET", "/agents/planner//livez", 404),
        ("GET", "/agents/planner/instances/livez", 405),
        ("GET", "/agents/%00/livez", 404),
        ("GET", AGENT + "?max=1s", 400),
        ("GET", AGENT + "?max_silence=long", 400),
        ("GET", AGENT + "?max_stall=-1s", 400),
        ("GET", AGENT + "?max_stall=1s&max_stall=2s", 400),
    ],
)
async def test_invalid_probes_of_an_agent_are_refused(live, method, path, status):
    assert (await live.client.request(method, path)).status_code == status


async def test_the_probe_of_an_agent_needs_the_read_token(serving):
    read, write = "read-token-0123456789", "write-token-0123456789"
    async with serving(f"server: {{auth: {{read: {read}, write: {write}}}}}") as live:
        for token, status in [(None, 401), (write, 403), (read, 200)]:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            assert (await live.client.get(AGENT, headers=headers)).status_code == status
        # A goodbye is no probe, whatever the instance is called.
        goodbye = "/agents/planner/instances/livez"
        answer = await live.client.delete(goodbye, headers={"authorization": f"Bearer {read}"})
        assert answer.status_code == 403


# the probe port


@asynccontextmanager
async def probing(file, config=""):
    """The application, a client of its probe port, a client of its own port."""
    file.write_text(f"server: {{port: 0, probe_port: 0{config}}}")
    settings, _, problems = await asyncio.to_thread(parse, str(file), {})
    assert not problems
    app = App(Service(settings, limits=SupervisorLimits(start_seconds=30)))
    server = HttpServer(app, **server_options(app))
    serving = asyncio.ensure_future(server.serve())
    await server.ready.wait()
    port = server.probe_url.rpartition(":")[2]
    try:
        async with (
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=50
            ) as probes,
            httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=50) as client,
        ):
            yield app, probes, client
    finally:
        server.stop()
        await serving


TOKENS = ", auth: {read: read-token-0123456789, write: write-token-0123456789}"


@pytest.mark.parametrize("config", ["", TOKENS], ids=["open", "tokens"])
async def test_the_probe_port_answers_bare_probes_and_nothing_else(tmp_path, config):
    async with probing(tmp_path / "t.yaml", config) as (_, probes, client):
        for path in (*PROBES, AGENT, AGENT + "?max_silence=1m"):
            answer = await probes.get(path, headers={"host": "10.0.0.7:9090"})
            assert (answer.status_code, answer.text) == (200, "ok\n"), path
        listed = (
            await client.get(
                "/openapi.json", headers={"authorization": "Bearer read-token-0123456789"}
            )
        ).json()["paths"]
        others = [re.sub(r"\{.*?\}", "x", path) for path in listed]
        others = [path for path in others if not path.endswith("z")]
        assert len(others) > 8
        for path in [*others, "/agents/planner/instances/livez", "/agents/", "/nope"]:
            for method in ("GET", "POST", "DELETE"):
                answer = await probes.request(method, path, json={"instance": "i"})
                assert answer.status_code == 404, (method, path)
                assert answer.headers["content-type"] == "application/problem+json"
        for path in (*PROBES, AGENT):
            assert (await probes.post(path)).status_code == 404
        for path in PROBES:
            assert (await probes.get(path + "?verbose")).status_code == 400


async def test_probe_port_fails_readyz_while_the_server_stops(tmp_path):
    async with probing(tmp_path / "t.yaml") as (app, probes, _):
        app.stop()
        assert (await probes.get("/livez")).status_code == 200
        assert (await probes.get("/readyz")).status_code == 503


async def test_probe_port_explains_an_invalid_query(tmp_path):
    async with probing(tmp_path / "t.yaml") as (_, probes, _):
        answer = await probes.get(AGENT + "?max_silence=long")
        assert answer.status_code == 400
        assert "max_silence: expected a duration" in answer.json()["detail"]


async def test_verbose_counts_the_findings_by_severity(live):
    source = live.app.service.store.sources["findings"]
    for number, severity in enumerate(["info", "warning", "critical", "warning"]):
        live.app.service.store.put(
            source, "findings", f"{number}", f"{number}", a_finding(severity)
        )
    live.app.service.store.flush()
    text = (await live.client.get("/healthz?verbose")).text
    assert text.endswith("\nfindings: 1 critical, 2 warning, 1 info\n")


def a_finding(severity):
    root = Root("agents", "planner")
    return Finding(
        key=uuid4().hex,
        rule="AgentGone",
        severity=severity,
        basis="observed",
        rank=1,
        root=root,
        summary="It is gone",
        since=None,
        raised_at=None,
        observed_at="ab.1",
        runbook="docs/findings.md",
    )


async def test_verbose_says_that_nothing_is_diagnosed(serving):
    async with serving("findings: 'off'") as live:
        text = (await live.client.get("/healthz?verbose")).text
        assert text.endswith("\nfindings: off\n")
