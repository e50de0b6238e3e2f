"""The HTTP side of heartbeats: three paths below `/agents/`."""

from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import msgspec

from telemetron.collector import Output
from telemetron.http import (
    EMPTY,
    NO_CONTENT,
    Answer,
    HttpProblem,
    Receive,
    Scope,
    Send,
    Shortcut,
    answer,
    read_json,
    require_json,
    require_method,
    route_path,
)
from telemetron.query import duration, parameters
from telemetron_collectors.heartbeats.beat import MAX_BODY, Beat, parse_beat
from telemetron_collectors.heartbeats.liveness import why_dead
from telemetron_collectors.heartbeats.register import Register

TAKEN = Answer(204)
PREFIX = "/agents/"
PROBE = "/agents/{name}/livez"
PROBES = {PROBE: "Whether an agent works; fails only on evidence"}
MAX_NAME = 256
MAX_LIVEZ_SECONDS = 6e7  # the largest duration that a query can have
TEXT = {"type": "string"}
SEGMENT = TEXT | {"minLength": 1, "maxLength": MAX_NAME}
ALIVE = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"}


class Target(NamedTuple):
    """A parsed path."""

    kind: Literal["heartbeat", "instances", "livez"]
    agent: str
    instance: str = ""


@lru_cache(maxsize=32_768)  # the same paths come with every beat
def route(path: str) -> Target:
    """Parse a percent-encoded path below `/agents/`; raise HttpProblem 404 for unknown paths."""
    match path[len(PREFIX) :].split("/"):
        case [name, ("heartbeat" | "livez") as kind] if name:
            return Target(kind, _name(name, "agent's name"))
        case [name, "instances", id] if name and id:
            return Target("instances", _name(name, "agent's name"), _name(id, "id"))
        # A proxy has decoded the slashes of the name.
        case [*parts, ("heartbeat" | "livez") as kind] if parts and all(parts):
            return Target(kind, _name("/".join(parts), "agent's name"))
        case [*parts, "instances", id] if parts and all(parts) and id:
            return Target("instances", _name("/".join(parts), "agent's name"), _name(id, "id"))
        case _:
            detail = "below /agents/ are {name}/heartbeat, {name}/instances/{id}, {name}/livez"
            raise HttpProblem(404, detail)


class HeartbeatApp:
    """`POST /agents/{name}/heartbeat`, `DELETE /agents/{name}/instances/{id}`,
    `GET /agents/{name}/livez`."""

    def __init__(self, register: Register, output: Output) -> None:
        self._register = register
        self._output = output

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind, agent, instance = route(route_path(scope))
        if kind == "livez":
            require_method(scope, "GET", "HEAD")
            return await self._livez(agent, scope, send)
        if kind == "heartbeat":
            require_method(scope, "POST")
            await self._beat(agent, scope, receive)
        else:
            require_method(scope, "DELETE")
            query = parameters(scope["query_string"], ("namespace",))
            self._register.goodbye(agent, instance, query.get("namespace"))
        await send(NO_CONTENT)
        return await send(EMPTY)

    def shortcut(self, scope: Scope) -> Shortcut | None:
        """Take beats without an ASGI call; raises HttpProblem if the call would refuse them."""
        kind, agent, _ = route(route_path(scope))
        if kind != "heartbeat" or scope["method"] != "POST" or scope["query_string"]:
            return None
        require_json(scope, MAX_BODY)
        return partial(self._take, agent)

    async def _beat(self, name: str, scope: Scope, receive: Receive) -> None:
        if scope["query_string"]:
            raise HttpProblem(400, "a heartbeat takes no query parameters")
        self._take(name, await read_json(scope, receive, MAX_BODY))

    def _take(self, name: str, body: bytes) -> Answer:
        beat, unknown = parse_beat(body)
        if unknown:
            self._output.count("unknown_fields", unknown)
        self._register.beat(name, beat, body)
        return TAKEN

    async def _livez(self, name: str, scope: Scope, send: Send) -> None:
        """Answer 200, or 503 on evidence that the agent hangs or is gone."""
        query = parameters(scope["query_string"], ("max_silence", "max_stall"))
        limits = {key: duration(key, value, MAX_LIVEZ_SECONDS) for key, value in query.items()}
        why = why_dead(self._register.lives(name), self._output.clock.monotonic(), **limits)
        if why:
            raise HttpProblem(503, why)
        await answer(scope, send, 200, b"ok\n", ALIVE)


def _name(segment: str, what: str) -> str:
    name = unquote(segment)
    if len(name) > MAX_NAME or not name.isprintable():
        raise HttpProblem(404, f"the {what} must be 1 to {MAX_NAME} printable characters")
    return name


def openapi() -> dict[str, Any]:
    """Return the three paths for the OpenAPI document."""
    (schema,), components = msgspec.json.schema_components(
        [Beat], ref_template="#/components/schemas/{name}"
    )
    for component in components.values():
        del component["additionalProperties"]  # unknown fields are dropped and counted, not refused
        for field in component["properties"].keys() - component.get("required", ()):
            component["properties"][field] = _or_null(component["properties"][field])
    name = _parameter("name", "path", "The agent's name, percent-encoded.")
    beat = {
        "operationId": "beat",
        "summary": "One instance's full state",
        "parameters": [name],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"204": {"description": "Accepted, or older than the last known beat."}}
        | _problems(400, 404, 413, 415, 422, 429),
    }
    goodbye = {
        "operationId": "goodbye",
        "summary": "The instance has ended: forget it at once",
        "parameters": [
            name,
            _parameter("id", "path", "The instance's id, percent-encoded."),
            _parameter("namespace", "query", "Its namespace, if the id is ambiguous."),
        ],
        "responses": {"204": {"description": "Forgotten."}} | _problems(400, 404, 409),
    }
    paths = {
        "/agents/{name}/heartbeat": {"post": beat},
        "/agents/{name}/instances/{id}": {"delete": goodbye},
        PROBE: {"get": _livez(name)},
    }
    return {"paths": paths, "components": components}


def _livez(name: dict[str, Any]) -> dict[str, Any]:
    seconds = {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,6})?(ms|s|m)?$"}
    silence = "How long all instances may be silent, as `60s`; at least three intervals."
    stall = "How long all tasks may make no progress, as `30m`; not judged by default."
    return {
        "operationId": "agentLivez",
        "summary": PROBES[PROBE],
        "description": "503 only on evidence: the agent was known, and is silent or stalled. 200 if"
        " nothing is known of it.",
        "parameters": [
            name,
            _parameter("max_silence", "query", silence, seconds),
            _parameter("max_stall", "query", stall, seconds),
        ],
        "responses": {
            "200": {"description": "Alive.", "content": {"text/plain": {"schema": TEXT}}},
            **_problems(404, 503),
        },
    }


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Allow null, which means the same as a missing field."""
    options = schema.pop("anyOf", None) or [schema]
    if {"type": "null"} not in options:
        options = [*options, {"type": "null"}]
    return {"anyOf": options} if options[0] is schema else {**schema, "anyOf": options}


def _parameter(
    name: str, place: str, description: str, schema: dict[str, Any] = TEXT
) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": SEGMENT if place == "path" else schema,
    }


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}
