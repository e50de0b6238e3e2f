import re


async def test_swagger_is_found_without_its_slash(serving):
    async with serving("server: {root_path: /telemetron}") as live:
        answer = await live.client.get("/swagger")
        assert answer.status_code == 308
        # Relative: right below any root path.
        assert answer.headers["location"] == "swagger/"
        answer = await live.client.get("/swagger", params={"x": 1})
        assert answer.headers["location"] == "swagger/?x=1"


async def test_swagger_serves_no_other_files(live):
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


async def test_swagger_may_only_contact_this_server(live):
    page = await live.client.get("/swagger/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "://" not in page.text
    for name in re.findall(r'(?:href|src)="([^"]*)"', page.text):
        file = await live.client.get(f"/swagger/{name}")
        assert file.status_code == 200
        assert file.headers["x-content-type-options"] == "nosniff"
