import re

import httpx

FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def test_welcome_page_lists_sections_and_paths_for_programs(live):
    await live.client.post("/agents/planner/heartbeat", json={"instance": "one"})
    live.app.service.store.flush()
    page = (await live.client.get("/", headers={"accept": "application/json"})).json()
    assert page["id"] == "telemetron"
    state = await live.client.get("/system/state")
    assert f'W/"{page["place"]}"' == state.headers["etag"]
    counts = {row["path"]: row["entities"] for row in page["sections"]}
    assert counts["/system/state/agents"] == 1
    assert counts["/system/state/sources"] == 6
    for path in counts:
        assert (await live.client.get(path)).status_code == 200
    listed = {row["path"] for row in page["paths"]}
    served = (await live.client.get("/openapi.json")).json()["paths"]
    pushed = {path for path, item in served.items() if path != "/" and "get" not in item}
    assert listed == served.keys() - {"/"} - pushed | {"/agents/"}
    assert page["example"] == f"curl -fsS {live.url}/system/state | jq ."


async def test_welcome_page_is_text_by_default(live):
    page = await live.client.get("/")
    assert page.headers["vary"] == "Accept"
    assert "/system/state/agents            0\n" in page.text
    assert f"curl -fsS {live.url}/system/state | jq ." in page.text
    assert "POST /agents/{name}/heartbeat" in page.text
    assert max(map(len, page.text.splitlines())) <= 100


async def test_welcome_page_of_a_browser_links_everywhere_and_loads_nothing(serving):
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


async def test_example_has_the_address_of_the_request(serving):
    async with serving("server: {auth: none, host: 0.0.0.0, root_path: /telemetron}") as live:
        url = live.url.replace("0.0.0.0", "127.0.0.1")
        for host, shown in [
            ("state.example:81", "state.example:81"),
            ("[::1]:8080", "[::1]:8080"),
            ("x'; rm -rf /; '", "localhost"),
        ]:
            async with httpx.AsyncClient(trust_env=False, timeout=50) as client:
                page = await client.get(url, headers={"host": host})
            assert f"curl -fsS http://{shown}/telemetron/system/state |" in page.text


async def test_example_has_a_place_for_the_token(serving):
    tokens = "server: {auth: {read: read-token-0123456789, write: write-token-0123456789}}"
    async with serving(tokens, authorization="Bearer read-token-0123456789") as live:
        page = await live.client.get("/")
        assert "curl -fsS -H 'Authorization: Bearer TOKEN' http" in page.text
        assert "0123456789" not in page.text
