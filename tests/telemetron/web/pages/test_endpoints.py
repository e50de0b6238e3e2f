import json
import re

import httpx
from loguru import logger

from telemetron.web.pages.openapi import document
from telemetron.web.pages.schema import schema
from telemetron_collectors.heartbeats import collector as heartbeats

FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PAGES = {
    "/": "text/plain; charset=utf-8",
    "/system/schema": "application/schema+json",
    "/openapi.json": "application/json",
    "/swagger/": "text/html; charset=utf-8",
    "/swagger/initializer.js": "text/javascript; charset=utf-8",
    "/swagger/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "/swagger/swagger-ui.css": "text/css; charset=utf-8",
    "/swagger/index.css": "text/css; charset=utf-8",
    "/swagger/favicon-32x32.png": "image/png",
}


async def test_every_page_has_its_type_and_can_be_asked_for_with_head(live):
    for path, content_type in PAGES.items():
        page = await live.client.get(path)
        assert page.status_code == 200, path
        assert page.headers["content-type"] == content_type
        assert page.content
        head = await live.client.head(path)
        assert head.status_code == 200, path
        assert head.headers["content-type"] == content_type
        assert head.headers["content-length"] == str(len(page.content))
        assert not head.content


async def test_no_page_takes_parameters_or_other_methods(live):
    for path in PAGES:
        refused = await live.client.get(path, params={"x": "1"})
        assert refused.status_code == 400, path
        assert "'x'; known: none" in refused.json()["detail"]
        posted = await live.client.post(path)
        assert posted.status_code == 405, path
        assert set(posted.headers["allow"].split(", ")) == {"GET", "HEAD"}
        assert posted.headers["content-type"] == "application/problem+json"


async def test_a_page_that_a_client_has_is_not_sent_again(live):
    for path in PAGES.keys() - {"/"}:
        page = await live.client.get(path)
        assert page.headers["cache-control"] == "no-cache", path
        etag = page.headers["etag"]
        again = await live.client.get(path, headers={"if-none-match": f'"other", {etag}'})
        assert again.status_code == 304, path
        assert again.headers["etag"] == etag
        assert not again.content
        other = await live.client.get(path, headers={"if-none-match": '"other"'})
        assert other.status_code == 200, path


# welcome


async def test_the_welcome_page_tells_programs_what_there_is(live):
    await live.client.post("/agents/planner/heartbeat", json={"instance": "one"})
    live.app.service.store.flush()
    page = (await live.client.get("/", headers={"accept": "application/json"})).json()
    assert page["id"] == "telemetron"
    state = await live.client.get("/system/state")
    assert f'W/"{page["place"]}"' == state.headers["etag"]
    counts = {row["path"]: row["entities"] for row in page["sections"]}
    assert counts["/system/state/agents"] == 1
    assert counts["/system/state/sources"] == 4
    for path in counts:
        assert (await live.client.get(path)).status_code == 200
    listed = {row["path"] for row in page["paths"]}
    served = (await live.client.get("/openapi.json")).json()["paths"]
    pushed = {"/agents/{name}/heartbeat", "/agents/{name}/instances/{id}"}
    assert listed == served.keys() - {"/"} - pushed | {"/agents/"}
    assert page["example"] == f"curl -fsS {live.url}/system/state | jq ."


async def test_the_welcome_page_is_text_for_who_does_not_care(live):
    page = await live.client.get("/")
    assert page.headers["vary"] == "Accept"
    assert "/system/state/agents            0\n" in page.text
    assert f"curl -fsS {live.url}/system/state | jq ." in page.text
    assert "POST /agents/{name}/heartbeat" in page.text
    assert max(map(len, page.text.splitlines())) <= 100


async def test_the_welcome_page_of_a_browser_leads_everywhere_and_loads_nothing(serving):
    async with serving("id: '<b>&'") as live:
        page = await live.client.get("/", headers={"accept": FIREFOX})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "&lt;b&gt;&amp;" in page.text
        assert "<b><b>&" not in page.text
        assert "src=" not in page.text
        links = re.findall(r'href="([^"]*)"', page.text)
        assert len(links) >= 10
        for link in links:
            assert (await live.client.get(f"/{link}")).status_code == 200, link


async def test_a_welcome_page_of_another_kind_is_not_acceptable(live):
    page = await live.client.get("/", headers={"accept": "image/png"})
    assert page.status_code == 406
    assert "text/plain, application/json, text/html" in page.json()["detail"]


async def test_the_example_has_the_address_that_was_asked(serving):
    async with serving("server: {auth: none, host: 0.0.0.0, root_path: /telemetron}") as live:
        url = live.url.replace("0.0.0.0", "127.0.0.1")
        for host, shown in [
            ("state.example:81", "state.example:81"),
            ("[::1]:8080", "[::1]:8080"),
            ("x'; rm -rf /; '", "localhost"),
        ]:
            async with httpx.AsyncClient(trust_env=False) as client:
                page = await client.get(url, headers={"host": host})
            assert f"curl -fsS http://{shown}/telemetron/system/state |" in page.text


async def test_the_example_says_where_the_token_goes(serving):
    tokens = "server: {auth: {read: read-token-0123456789, write: write-token-0123456789}}"
    async with serving(tokens, authorization="Bearer read-token-0123456789") as live:
        page = await live.client.get("/")
        assert "curl -fsS -H 'Authorization: Bearer TOKEN' http" in page.text
        assert "0123456789" not in page.text


# documents


async def test_the_schema_is_served(live):
    assert (await live.client.get("/system/schema")).json() == schema()


async def test_a_collector_whose_part_fails_is_left_out(live):
    def fail():
        raise ZeroDivisionError

    said: list[str] = []
    sink = logger.add(said.append, format="{message}")
    mounted = live.app.service.supervisor.mounts.collectors
    for name, part in [
        ("crashes", fail),
        ("nonsense", lambda: {"paths": {"/nonsense/": 1}}),
        ("silent", None),
        ("fine", lambda: {"paths": {"/fine/": {"put": {"responses": {}}}}}),
    ]:
        mounted[f"/{name}/"] = type(heartbeats)(
            name=name,
            description="",
            config=heartbeats.config,
            sections=(),
            max_age_seconds=heartbeats.max_age_seconds,
            run=heartbeats.run,
            openapi=part,
        )
    served = (await live.client.get("/openapi.json")).json()
    logger.remove(sink)
    fine = {"paths": {"/fine/": {"put": {"responses": {}}}}}
    expected = document([heartbeats.openapi(), fine], tokens=False)
    assert served == json.loads(json.dumps(expected))
    assert [one.splitlines()[0] for one in said] == [
        "OpenAPI: crashes is left out",
        "OpenAPI: nonsense is left out",
    ]


# Swagger UI


async def test_swagger_is_found_without_its_slash(serving):
    async with serving("server: {root_path: /telemetron}") as live:
        answer = await live.client.get("/swagger")
        assert answer.status_code == 308
        # Relative: right below any root path.
        assert answer.headers["location"] == "swagger/"
        assert (await live.client.get("/swagger", params={"x": 1})).status_code == 400


async def test_swagger_hands_out_nothing_else(live):
    for path in (
        "/swagger/nope.js",
        "/swagger/LICENSE",
        "/swagger/swagger-editor.js",
        "/swagger/../core.py",
        "/swagger/..%2Fcore.py",
        "/swagger/%2e%2e/%2e%2e/starlette/applications.py",
        "/swagger/%2Fetc%2Fpasswd",
        "/swagger/swagger-ui.css/",
        "/swagger/swagger-ui.css%00",
        "/swagger//",
    ):
        answer = await live.client.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"


async def test_swagger_binds_the_browser_to_this_server(live):
    page = await live.client.get("/swagger/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "://" not in page.text
    for name in re.findall(r'(?:href|src)="([^"]*)"', page.text):
        file = await live.client.get(f"/swagger/{name}")
        assert file.status_code == 200
        assert file.headers["x-content-type-options"] == "nosniff"
