import json

from telemetron.web.pages.openapi import ApiPart, document, part
from telemetron.web.pages.schema import schema
from telemetron_collectors.heartbeats import collector as heartbeats

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


async def test_page_that_a_client_has_gets_304(live):
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


async def test_the_schema_is_served(live):
    assert (await live.client.get("/system/schema")).json() == schema()


async def test_a_collector_whose_part_fails_is_left_out(live, logged):
    def fail():
        raise ZeroDivisionError

    mounted = live.app.service.supervisor.mounts.collectors
    for name, openapi in [
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
            openapi=openapi,
        )
    served = (await live.client.get("/openapi.json")).json()
    fine = ApiPart({"/fine/": {"put": {"responses": {}}}}, {}, {})
    expected = document([part(heartbeats), fine], tokens=())
    assert served == json.loads(json.dumps(expected))
    for name in ("crashes", "nonsense"):
        line = f"OpenAPI: collector {name} is left out, as its part failed"
        assert len([one for one in logged if line in one]) == 1
