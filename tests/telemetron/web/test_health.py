import pytest

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
        shown = live.app.store.sources["orders"].row()
        since = shown.since.strftime("%Y-%m-%dT%H:%M:%SZ")
        at = lines.index(f"[-]orders failing since {since}")
        assert lines[at + 1].startswith("   NotInstalled: no installed package brings")
        assert any(line.startswith("[ ]heartbeats starting since 2") for line in lines)
        assert any(line.startswith("[ ]kafka off since 2") for line in lines)
        assert lines[-1] == f"{path[1:]} check passed"


async def test_a_source_that_is_ok_or_has_a_scope_in_trouble_is_told(live):
    source = live.app.store.sources["heartbeats"]
    source.confirm()
    source.confirm("west", reason="Forbidden", message="may not list pods")
    text = (await live.client.get("/healthz?verbose=true")).text
    assert "[+]heartbeats ok since" in text
    assert "   Forbidden: west: may not list pods\n" in text


@pytest.mark.parametrize(
    ("query", "status"),
    [("verbose=false", 200), ("verbose=yes", 400), ("x=1", 400), ("verbose&verbose", 400)],
)
async def test_what_a_probe_can_be_asked(live, query, status):
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
