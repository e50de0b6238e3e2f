"""The HTTP side of heartbeats: four paths below `/agents/`."""

from functools import lru_cache, partial
from typing import Literal, NamedTuple
from urllib.parse import unquote

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
from telemetron_collectors.heartbeats.batch import Batches
from telemetron_collectors.heartbeats.beat import MAX_BODY, Beat, parse_agent_beat, parse_beat
from telemetron_collectors.heartbeats.liveness import why_dead
from telemetron_collectors.heartbeats.register import Register

TAKEN = Answer(204)
PREFIX = "/agents/"
PROBE = "/agents/{name}/livez"
PROBES = {PROBE: "Whether an agent works; fails only on evidence"}
MAX_NAME = 256
AGENT = "agent's name"
MAX_LIVEZ_SECONDS = 6e7  # the largest duration that a query can have
RESULTS = {"content-type": "application/json", "cache-control": "no-store"}
ALIVE = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"}


class Target(NamedTuple):
    """A parsed path."""

    kind: Literal["heartbeat", "heartbeats", "instances", "livez"]
    agent: str = ""
    instance: str = ""


@lru_cache(maxsize=32_768)  # the same paths come with every beat
def route(path: str) -> Target:
    """Parse a percent-encoded path below `/agents/`; raise HttpProblem 404 for unknown paths."""
    match path[len(PREFIX) :].split("/"):
        case ["heartbeats"]:
            return Target("heartbeats")
        case [name, ("heartbeat" | "livez") as kind] if name:
            return Target(kind, _name(unquote(name), AGENT))
        case [name, "instances", id] if name and id:
            return Target("instances", _name(unquote(name), AGENT), _name(unquote(id), "id"))
        # A proxy has decoded the slashes of the name.
        case [*parts, ("heartbeat" | "livez") as kind] if parts and all(parts):
            return Target(kind, _name(unquote("/".join(parts)), AGENT))
        case [*parts, "instances", id] if parts and all(parts) and id:
            name = _name(unquote("/".join(parts)), AGENT)
            return Target("instances", name, _name(unquote(id), "id"))
        case _:
            detail = "below /agents/ are {name}/heartbeat, {name}/instances/{id}, {name}/livez"
            raise HttpProblem(404, f"{detail}, heartbeats")


class HeartbeatApp:
    """`POST /agents/{name}/heartbeat`, `POST /agents/heartbeats`,
    `DELETE /agents/{name}/instances/{id}`, `GET /agents/{name}/livez`."""

    def __init__(self, register: Register, output: Output) -> None:
        self._register = register
        self._output = output
        self._batches = Batches(self._take_named)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind, agent, instance = route(route_path(scope))
        if kind == "livez":
            require_method(scope, "GET", "HEAD")
            return await self._livez(agent, scope, send)
        if kind == "heartbeats":
            require_method(scope, "POST")
            return await self._batch(scope, receive, send)
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

    async def _batch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"]:
            raise HttpProblem(400, "a batch takes no query parameters")
        results = await self._batches.answer(scope, receive)
        await answer(scope, send, 200, results, RESULTS)

    def _take(self, name: str, body: bytes) -> Answer:
        beat, unknown = parse_beat(body)
        self._apply(name, beat, unknown, body)
        return TAKEN

    def _take_named(self, body: bytes) -> None:
        beat, unknown = parse_agent_beat(body)
        self._apply(_name(beat.agent, AGENT), beat, unknown, body)

    def _apply(self, name: str, beat: Beat, unknown: int, body: bytes) -> None:
        if self._register.closed:
            raise HttpProblem(503, "its source does not run now; try again", {"retry-after": "1"})
        if unknown:
            self._output.count("unknown_fields", unknown)
        self._register.beat(name, beat, body)

    async def _livez(self, name: str, scope: Scope, send: Send) -> None:
        """Answer 200, or 503 on evidence that the agent hangs or is gone."""
        query = parameters(scope["query_string"], ("max_silence", "max_stall"))
        limits = {key: duration(key, value, MAX_LIVEZ_SECONDS) for key, value in query.items()}
        why = why_dead(self._register.lives(name), self._output.clock.monotonic(), **limits)
        if why:
            raise HttpProblem(503, why)
        await answer(scope, send, 200, b"ok\n", ALIVE)


def _name(name: str, what: str) -> str:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise HttpProblem(404, f"the {what} must be 1 to {MAX_NAME} printable characters")
    return name
