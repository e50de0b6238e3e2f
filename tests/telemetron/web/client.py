"""Requests that the tests of the web send, and the events of a stream."""

import asyncio

AGENTS = "/system/changes?sections=agents&kinds=all"
EVENTS = {"accept": "text/event-stream"}


async def beat(live, name="planner", **fields):
    body = {"instance": "i1", "namespace": "prod"} | fields
    answer = await live.client.post(f"/agents/{name}/heartbeat", json=body)
    assert answer.status_code == 204, answer.text
    live.app.service.store.flush()  # otherwise it is published up to 25 ms later


async def place(live):
    answer = await live.client.get("/system/state")
    return answer.headers["etag"].removeprefix('W/"').removesuffix('"')


async def events(response):
    """Yield each event as a dict of its fields; a comment has the name `""`."""
    event = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            event[name] = value.strip()
        else:
            yield event
            event = {}


async def until(true):
    """Wait for a condition that has no event."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
