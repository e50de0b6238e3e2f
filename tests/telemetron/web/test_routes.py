import re
from pathlib import Path

import pytest

from telemetron.web.pages.openapi import OPERATIONS
from telemetron.web.routes import METHODS, ROUTES, Router
from telemetron_collectors.heartbeats import collector as heartbeats

PAGE = Path(__file__).parents[3] / "docs/http.md"


async def endpoint(scope, receive, send, path):
    raise NotImplementedError


@pytest.fixture
def router():
    return Router({route.id: endpoint for route in ROUTES})


def test_routes_are_found_by_their_paths(router):
    for route in ROUTES:
        path = re.sub(r"\{\w+\}", "x", route.path)
        served = router.whole.get(path) or router.below(path)
        assert served == (endpoint, route.role, route.tag == "state"), path


def test_a_role_is_that_of_the_tag():
    roles = {route.path: route.role for route in ROUTES}
    assert (roles["/livez"], roles["/metrics"], roles["/system/state"]) == (None, "metrics", "read")


@pytest.mark.parametrize("path", ["", "/nope", "/system", "/system/statex", "/livez/x", "/swagger"])
def test_unknown_paths_have_no_endpoint(router, path):
    assert router.whole.get(path) is router.below(path) is None


@pytest.mark.parametrize("path", ["/system/state/", "/system/state/agents/a/b", "/swagger/x.js"])
def test_paths_below_a_route_have_its_endpoint(router, path):
    assert router.below(path).endpoint is endpoint


def test_each_route_has_one_operation():
    assert [route.id for route in ROUTES] == list(dict.fromkeys(route.id for route in ROUTES))
    assert {route.id for route in ROUTES} == OPERATIONS.keys()


def test_docs_have_the_same_table():
    table = [(route.path, ", ".join(METHODS), route.summary) for route in ROUTES]
    for path, item in heartbeats.openapi()["paths"].items():
        ((method, operation),) = item.items()
        methods = "GET, HEAD" if method == "get" else method.upper()
        table.append((path, methods, operation["summary"]))
    rows = re.findall(
        r"^\| \[`(/[^`]*)`\]\(.*?\) \| ([A-Z, ]+) \| (.*) \|$", PAGE.read_text(), re.M
    )
    assert rows == table
