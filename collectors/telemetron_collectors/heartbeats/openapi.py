"""The part of the OpenAPI document that describes the paths below `/agents/`."""

from typing import Any

import msgspec

from telemetron.http import JSON
from telemetron_collectors.heartbeats.app import MAX_NAME, PROBE, PROBES
from telemetron_collectors.heartbeats.batch import MAX_BATCH, MAX_BEATS, NDJSON
from telemetron_collectors.heartbeats.beat import AgentBeat, Beat

TEXT = {"type": "string"}
SEGMENT = TEXT | {"minLength": 1, "maxLength": MAX_NAME}
RESULT = {
    "title": "BeatResult",
    "description": "204, or the status and the other members of the problem of the beat.",
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"description": "As the status of a single heartbeat.", "type": "integer"},
        "detail": {"description": "What to do, in one line.", "type": "string"},
        "retry_after": {"description": "Seconds to wait before the next beat.", "type": "integer"},
    },
}


def openapi() -> dict[str, Any]:
    """Return the paths of the collector, and the schemas of their bodies."""
    (schema, named), components = msgspec.json.schema_components(
        [Beat, AgentBeat], ref_template="#/components/schemas/{name}"
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
        "/agents/heartbeats": {"post": _batch(named)},
        "/agents/{name}/instances/{id}": {"delete": goodbye},
        PROBE: {"get": _livez(name)},
    }
    return {"paths": paths, "components": components | {"BeatResult": RESULT}}


def _batch(beat: dict[str, Any]) -> dict[str, Any]:
    array = {"type": "array", "items": beat, "maxItems": MAX_BEATS}
    results = {"type": "array", "items": {"$ref": "#/components/schemas/BeatResult"}}
    return {
        "operationId": "beats",
        "summary": "The full state of many instances, one result for each",
        "description": f"At most {MAX_BEATS:,} beats and {MAX_BATCH:,} bytes. The results are in"
        " the order of the beats; a beat that is refused harms no other.",
        "requestBody": {
            "required": True,
            "content": {NDJSON: {"schema": beat}, JSON: {"schema": array}},
        },
        "responses": {
            "200": {"description": "The results.", "content": {JSON: {"schema": results}}},
            **_problems(400, 413, 415, 422),
        },
    }


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
