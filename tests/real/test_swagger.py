"""The Swagger page in a real browser, where there is one."""

import asyncio
import json
import re
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # What the browser itself would like to reach cannot be; what the page asks for is logged.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
    "--dump-dom",
)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.timeout(120)
async def test_swagger_shows_every_operation_and_asks_nobody_else(live, tmp_path):
    dom, console = await visit(f"{live.url}/swagger/", tmp_path)
    made = (await live.client.get("/openapi.json")).json()
    operations = [
        f"operations-{operation['tags'][0]}-{operation['operationId']}"
        for item in made["paths"].values()
        for operation in item.values()
    ]
    shown = set(re.findall(r'id="(operations-[^"]*)"', dom))
    assert len(operations) >= 13
    assert shown >= set(operations)
    # Neither a refused resource nor a part of the document that the page does not understand.
    assert "CONSOLE" not in console
    assert "Warning" not in dom
    assert "errors-wrapper" not in dom

    asked = await asyncio.to_thread(requests, tmp_path / "net.json", live.url)
    assert f"{live.url}/openapi.json" in asked
    assert f"{live.url}/swagger/swagger-ui-bundle.js" in asked
    assert all(url.startswith(f"{live.url}/") for url in asked), asked


async def visit(url, folder):
    """The page's DOM once it has settled, and what the browser logged."""
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *FLAGS, f"--user-data-dir={folder}", f"--log-net-log={folder}/net.json", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(100):
            out, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode(), said.decode(errors="replace")


def requests(log, origin):
    """The URLs that pages of this origin asked for."""
    events = json.loads(log.read_text())["events"]
    started = [event["params"] for event in events if "url" in event.get("params", {})]
    return {one["url"] for one in started if one.get("initiator") == origin}
