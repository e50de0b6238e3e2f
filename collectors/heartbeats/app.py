"""The HTTP side of heartbeats: two paths below `/agents/`."""

from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from collectors.heartbeats.beat import MAX_BODY, Beat, parse_beat
from collectors.heartbeats.register import Register
from telemetron.collector import Output
from telemetron.http import (
    EMPTY,
    NO_CONTENT,
    HttpProblem,
    Receive,
    Scope,
    Send,
    read_json,
    require_method,
    route_path,
)

PREFIX = "/agents/"
MAX_NAME = 256


class Route(NamedTuple):
    """What a path names; without an instance it is a heartbeat's."""

    agent: str
    instance: str | None = None


@lru_cache(maxsize=32_768)  # agents come back with every beat
def route(path: str) -> Route:
    """Of a path below `/agents/`, percent-encoded; HttpProblem 404 for one that names nothing."""
    match path[len(PREFIX) :].split("/"):
        case [name, "heartbeat"] if name:
            return Route(_name(name, "agent's name"))
        case [name, "instances", id] if name and id:
            return Route(_name(name, "agent's name"), _name(id, "id"))
        case _:
            raise HttpProblem(404, "below /agents/ are {name}/heartbeat, {name}/instances/{id}")


class HeartbeatApp:
    """`POST /agents/{name}/heartbeat` and `DELETE /agents/{name}/instances/{id}`."""

    def __init__(self, register: Register, output: Output) -> None:
        self._register = register
        self._output = output

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        agent, instance = route(route_path(scope))
        if instance is None:
            require_method(scope, "POST")
            await self._beat(agent, scope, receive)
        else:
            require_method(scope, "DELETE")
            self._register.goodbye(agent, instance, _namespace(scope["query_string"]))
        await send(NO_CONTENT)
        await send(EMPTY)

    async def _beat(self, name: str, scope: Scope, receive: Receive) -> None:
        if scope["query_string"]:
            raise HttpProblem(400, "a heartbeat takes no query parameters")
        beat, unknown = parse_beat(await read_json(scope, receive, MAX_BODY))
        if unknown:
            self._output.count("unknown_fields", unknown)
        self._register.beat(name, beat)


def _name(segment: str, what: str) -> str:
    name = unquote(segment)
    if len(name) > MAX_NAME or not name.isprintable():
        raise HttpProblem(404, f"the {what} must be 1 to {MAX_NAME} printable characters")
    return name


def _namespace(query: bytes) -> str | None:
    """The `namespace` parameter; 400 for any other."""
    parameters = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    for name, _ in parameters:
        if name != "namespace":
            raise HttpProblem(400, f"unknown query parameter {name!r}; known: namespace")
    return parameters[-1][1] if parameters else None


def openapi() -> dict[str, Any]:
    """The two paths, for the OpenAPI document."""
    (schema,), components = msgspec.json.schema_components(
        [Beat], ref_template="#/components/schemas/{name}"
    )
    for component in components.values():
        del component["additionalProperties"]  # they are taken out and counted, not refused
    name = _parameter("name", "path", "The agent's name, percent-encoded.")
    beat = {
        "operationId": "beat",
        "summary": "One instance's full state",
        "parameters": [name],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"204": {"description": "Taken, or not newer than what is known."}}
        | _problems(400, 404, 413, 415, 422, 429),
    }
    goodbye = {
        "operationId": "goodbye",
        "summary": "The instance is gone: forget it at once",
        "parameters": [
            name,
            _parameter("id", "path", "The instance's id, percent-encoded."),
            _parameter("namespace", "query", "Its namespace, where the id is ambiguous."),
        ],
        "responses": {"204": {"description": "Forgotten."}} | _problems(400, 404, 409),
    }
    paths = {
        "/agents/{name}/heartbeat": {"post": beat},
        "/agents/{name}/instances/{id}": {"delete": goodbye},
    }
    return {"paths": paths, "components": components}


def _parameter(name: str, place: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": schema if place == "path" else {"type": "string"},
    }


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}
