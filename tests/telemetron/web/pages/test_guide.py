"""The guide for language models: short, true, and right below a root path."""

import math
import re

import pytest

from telemetron.history.delta import sections
from telemetron.web.pages.guide import guide
from telemetron.web.pages.openapi import OPERATIONS
from telemetron.web.routes import ROUTES
from tests.telemetron.web.client import beat, place

MAX_TOKENS = 600
REQUESTS = re.findall(r": (/\S+)$", guide("").decode(), re.MULTILINE)


def test_it_is_short():
    assert math.ceil(len(guide("")) / 1.8) <= MAX_TOKENS
    assert len(REQUESTS) >= 8


@pytest.mark.parametrize("request_", REQUESTS)
async def test_its_requests_are_answered(live, request_):
    await beat(live)
    path, _, query = request_.partition("?")
    routes = [route for route in ROUTES if matches(route.path, path)]
    assert routes, path
    known = {one["name"] for one in OPERATIONS[routes[0].id].get("parameters", ())}
    assert {one.partition("=")[0] for one in query.split("&") if one} <= known
    since = await place(live)
    asked = request_.replace("{section}", "agents").replace("{key}", "prod/planner")
    answer = await live.client.get(asked.replace("PLACE", since).replace("wait=30s", "wait=0"))
    # A young server has no state of five minutes ago.
    assert answer.status_code in ((410,) if "at=5m" in asked else (200, 304)), answer.text


def matches(template, path):
    """Whether a path, with or without variables of its own, is one of a route."""
    pattern = re.sub(r"\{\w+\}", "[^/]+", template)
    return re.fullmatch(pattern, path) is not None


def test_it_names_every_section():
    named = re.search("Sections: (.*?)\\.", guide("").decode())[1].split(", ")
    assert ["sources", *named] == list(sections())


async def test_it_is_the_first_link_of_the_welcome_page(live):
    page = (await live.client.get("/", headers={"accept": "application/json"})).json()
    assert page["guide"] == page["paths"][0]["path"] == "/llms.txt"
    text = (await live.client.get("/")).text
    assert re.search(r"/[\w.]+", text)[0] == "/llms.txt"
    html = (await live.client.get("/", headers={"accept": "text/html"})).text
    assert re.search('href="([^"]*)"', html)[1] == "llms.txt"


async def test_it_is_the_same_bytes_with_an_etag(live):
    first = await live.client.get("/llms.txt")
    assert first.headers["content-type"] == "text/plain; charset=utf-8"
    assert first.content == guide("")
    assert guide("") is guide("")
    again = await live.client.get("/llms.txt", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_its_paths_are_below_the_root_path(serving):
    async with serving("server: {root_path: /telemetron}") as live:
        text = (await live.client.get("/llms.txt")).text
        requests = re.findall(r": (/\S+)$", text, re.MULTILINE)
        assert requests == [f"/telemetron{one}" for one in REQUESTS]
        assert (await live.client.get("/telemetron/system/state/findings")).status_code == 200
