import json
import re
from pathlib import Path

import jsonschema_rs
import pytest

from telemetron.http import TITLES
from telemetron.web.pages.openapi import ApiPart, document, part
from telemetron.web.routes import ROUTES
from telemetron_collectors.heartbeats import collector

PATHS = {route.path: {"get"} for route in ROUTES} | {
    "/agents/{name}/heartbeat": {"post"},
    "/agents/heartbeats": {"post"},
    "/agents/{name}/instances/{id}": {"delete"},
    "/agents/{name}/livez": {"get"},
}

TOKENS = ("read", "write", "metrics")


@pytest.fixture
def made():
    return document([part(collector)], tokens=TOKENS, root_path="/telemetron")


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


def test_every_path_is_there(made):
    assert made["openapi"] == "3.1.0"
    # Swagger UI warns of any other dialect than the default one, which extends JSON Schema's.
    assert "jsonSchemaDialect" not in made
    assert made["servers"] == [{"url": "/telemetron"}]
    assert {path: set(item) for path, item in made["paths"].items()} == PATHS
    ids = [operation["operationId"] for operation in operations(made)]
    assert len(set(ids)) == len(ids)


def test_references_resolve_and_schemas_are_valid(made):
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


def test_the_parameters_are_those_of_the_state(made):
    asked = {p["name"]: p for p in made["paths"]["/system/state"]["get"]["parameters"]}
    assert list(asked) == ["sections", "at", "since", "wait", "measures", "If-None-Match"]
    names = asked["sections"]["schema"]["items"]["enum"]
    assert names == ["sources", "findings", "agents", "litellm", "queues", "workload"]
    entity = made["paths"]["/system/state/{section}/{key}"]["get"]["parameters"]
    assert [p["name"] for p in entity if p["in"] == "path"] == ["section", "key"]


def test_each_operation_names_its_token(made):
    security = {operation["operationId"]: operation["security"] for operation in operations(made)}
    assert security["state"] == [{"read": []}]
    assert security["metrics"] == [{"metrics": []}]
    assert security["swagger"] == security["state"]
    assert security["beat"] == security["goodbye"] == [{"write": []}]
    assert security["agentLivez"] == security["state"]
    assert security["livez"] == security["readyz"] == [{}, {"read": []}]
    schemes = made["components"]["securitySchemes"]
    assert {name: scheme["scheme"] for name, scheme in schemes.items()} == {
        "read": "bearer",
        "write": "bearer",
        "metrics": "bearer",
    }


def test_without_a_metrics_token_the_read_token_opens_the_metrics():
    made = document([], tokens=("read", "write"))
    assert made["paths"]["/metrics"]["get"]["security"] == [{"read": []}]
    assert "metrics" not in made["components"]["securitySchemes"]


def test_without_tokens_no_operation_needs_one():
    made = document([part(collector)], tokens=())
    assert not list(values(made["paths"], "security"))
    assert "securitySchemes" not in made["components"]
    assert "401" not in made["paths"]["/system/state"]["get"]["responses"]
    assert made["servers"] == [{"url": "/"}]


def test_a_collector_cannot_take_what_is_not_its_own(made):
    paths = {"/livez": {"get": {"responses": {}}}, "/orders/": {"put": {"responses": {}}}}
    greedy = ApiPart(paths, {"State": {}, "Order": {"type": "string"}}, {})
    other = document([greedy, part(collector)], tokens=TOKENS, root_path="/telemetron")
    assert other["paths"].keys() == PATHS.keys() | {"/orders/"}
    assert other["paths"]["/livez"] == made["paths"]["/livez"]
    schemas = made["components"]["schemas"]
    assert other["components"]["schemas"] == schemas | {"Order": {"type": "string"}}


def test_docs_have_every_path_field_and_header(made):
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


async def test_served_document_has_the_paths_of_collectors(live):
    answer = await live.client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == document([part(collector)], tokens=())


async def test_while_heartbeats_are_off_only_their_probe_is_there(serving):
    async with serving("sources: {heartbeats: off}") as live:
        served = (await live.client.get("/openapi.json")).json()
        assert served == document([part(collector, only_probes=True)], tokens=())
        assert served["paths"].keys() == {route.path for route in ROUTES} | collector.probes.keys()
