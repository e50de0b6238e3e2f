import json
import re
from datetime import UTC, datetime
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron.history.place import parse
from telemetron.http import TITLES, HttpProblem
from telemetron.query import duration
from telemetron.web.pages.openapi import DURATION, document
from telemetron_collectors.heartbeats import collector

PATHS = {
    "/system/state": {"get"},
    "/system/state/{section}": {"get"},
    "/system/state/{section}/{key}": {"get"},
    "/system/changes": {"get"},
    "/system/history/{section}/{key}": {"get"},
    "/system/schema": {"get"},
    "/": {"get"},
    "/swagger/": {"get"},
    "/openapi.json": {"get"},
    "/livez": {"get"},
    "/readyz": {"get"},
    "/healthz": {"get"},
    "/metrics": {"get"},
    "/agents/{name}/heartbeat": {"post"},
    "/agents/{name}/instances/{id}": {"delete"},
    "/agents/{name}/livez": {"get"},
}


@pytest.fixture
def made():
    return document([collector.openapi()], tokens=True, root_path="/telemetron")


def operations(made):
    return [operation for item in made["paths"].values() for operation in item.values()]


def values(node, name):
    """Every value under this name, however deep."""
    if isinstance(node, dict):
        yield from ([node[name]] if name in node else [])
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            yield from values(child, name)


def resolved(made, ref):
    for step in ref.removeprefix("#/").split("/"):
        made = made[step]
    return made


@pytest.mark.parametrize(
    "point",
    [
        "1a2b.7",
        "1a2b.7-3",
        "5m",
        "2026-12-31T23:59:59Z",
        "2026-01-30T10:00:00.5+01:00",
        "2026-02-28T10:00:00.123456-00:30",
    ],
)
def test_a_point_in_the_past_is_taken(made, point):
    """A form that checks values by the document refuses none that the server takes."""
    asked = [one for operation in operations(made) for one in operation.get("parameters", ())]
    found = [
        one["schema"]["pattern"] for one in asked if one.get("name") in ("until", "at", "before")
    ]
    assert len(found) >= 3
    assert all(re.search(pattern, point) for pattern in found)
    assert parse(point, datetime(2026, 12, 31, tzinfo=UTC))


def test_every_path_is_there(made):
    assert made["openapi"] == "3.1.0"
    # Swagger UI warns of any other dialect than the default one, which extends JSON Schema's.
    assert "jsonSchemaDialect" not in made
    assert made["servers"] == [{"url": "/telemetron"}]
    assert {path: set(item) for path, item in made["paths"].items()} == PATHS
    ids = [operation["operationId"] for operation in operations(made)]
    assert len(set(ids)) == len(ids)


def test_it_is_whole(made):
    refs = list(values(made, "$ref"))
    assert len(refs) > 100
    assert all(resolved(made, ref) for ref in refs)
    assert "#/$defs" not in json.dumps(made)
    for schema in made["components"]["schemas"].values():
        jsonschema_rs.Draft202012Validator(schema | {"components": made["components"]})
    for operation in operations(made):
        assert operation["summary"]
        assert "500" in operation["responses"]
        assert operation["responses"].keys() <= {"200", "204", "304", *map(str, TITLES)}


def test_every_problem_is_one_of_rfc_9457(made):
    assert made["components"]["responses"].keys() == {str(status) for status in TITLES}
    for response in made["components"]["responses"].values():
        assert list(response["content"]) == ["application/problem+json"]
    schema = made["components"]["schemas"]["HttpProblem"]
    jsonschema_rs.validate(schema, json.loads(HttpProblem(404, "no", nearest=["a/b"]).body()))
    assert "WWW-Authenticate" in made["components"]["responses"]["401"]["headers"]
    assert "Allow" in made["components"]["responses"]["405"]["headers"]


def test_the_parameters_are_those_of_the_state(made):
    asked = {p["name"]: p for p in made["paths"]["/system/state"]["get"]["parameters"]}
    assert list(asked) == ["sections", "at", "since", "wait", "measures", "If-None-Match"]
    names = asked["sections"]["schema"]["items"]["enum"]
    assert names == ["sources", "agents", "litellm", "queues", "workload"]
    entity = made["paths"]["/system/state/{section}/{key}"]["get"]["parameters"]
    assert [p["name"] for p in entity if p["in"] == "path"] == ["section", "key"]


def test_who_needs_which_token(made):
    security = {operation["operationId"]: operation["security"] for operation in operations(made)}
    assert security["state"] == [{"read": []}]
    assert security["metrics"] == security["swagger"] == security["state"]
    assert security["beat"] == security["goodbye"] == [{"write": []}]
    assert security["agentLivez"] == security["state"]
    assert security["livez"] == security["readyz"] == [{}, {"read": []}]
    schemes = made["components"]["securitySchemes"]
    assert {name: scheme["scheme"] for name, scheme in schemes.items()} == {
        "read": "bearer",
        "write": "bearer",
    }


def test_without_tokens_nobody_needs_one():
    made = document([collector.openapi()], tokens=False)
    assert not list(values(made["paths"], "security"))
    assert "securitySchemes" not in made["components"]
    assert "401" not in made["paths"]["/system/state"]["get"]["responses"]
    assert made["servers"] == [{"url": "/"}]


def test_a_collector_cannot_take_what_is_not_its_own(made):
    part = {
        "paths": {"/livez": {"get": {"responses": {}}}, "/orders/": {"put": {"responses": {}}}},
        "components": {"State": {}, "Order": {"type": "string"}},
    }
    other = document([part, collector.openapi()], tokens=True, root_path="/telemetron")
    assert other["paths"].keys() == PATHS.keys() | {"/orders/"}
    assert other["paths"]["/livez"] == made["paths"]["/livez"]
    schemas = made["components"]["schemas"]
    assert other["components"]["schemas"] == schemas | {"Order": {"type": "string"}}


@given(
    st.from_regex(r"[0-6]{0,7}(\.[05]{0,7})?(ms|s|m|h)?", fullmatch=True, alphabet="0123456.msh")
)
def test_a_duration_is_what_the_server_takes(text):
    try:
        duration("wait", text)
        taken = True
    except HttpProblem:
        taken = False
    assert bool(re.search(DURATION, text)) == taken


def test_the_docs_tell_all_of_it(made):
    docs = Path(__file__).parents[4] / "docs"
    page = "".join((docs / f"{name}.md").read_text() for name in ("http", "changes", "heartbeat"))
    asked = list(values(made["paths"], "parameters"))
    names = {parameter["name"] for parameters in asked for parameter in parameters}
    fields = made["components"]["schemas"]["Beat"]["properties"].keys()
    members = made["components"]["schemas"]["HttpProblem"]["properties"].keys()
    headers = made["components"]["headers"].keys() | {"Date"}
    told = set(re.findall(r"`\??([^`?=:]*)[^`]*`", page))
    assert told >= PATHS.keys() | fields | headers
    assert told >= names - {"name", "id", "section", "key"}
    assert told >= members - {"type", "title", "status"}
    for status in TITLES:
        assert f"\n| {status} | " in page, status


async def test_it_is_served_with_what_collectors_bring(live):
    answer = await live.client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == document([collector.openapi()], tokens=False)
