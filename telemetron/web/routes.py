"""The routes of the server: dispatch, OpenAPI, the welcome page and docs/http.md use this table.

To add a path, add its row here, its endpoint in `app.py` and its operation in `pages/openapi.py`.
The paths of collectors are in their records (`telemetron.collector`).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from telemetron.http import Receive, Scope, Send

STATE, CHANGES, LIFE = "/system/state", "/system/changes", "/system/history"
BRIEF, TASKS = "/system/brief", "/system/tasks"
STATE_METRICS = "/metrics/state"
GUIDE, SWAGGER, LIVEZ = "/llms.txt", "/swagger/", "/livez"

METHODS = ("GET", "HEAD")
"""What every route takes."""

Endpoint = Callable[[Scope, Receive, Send, str], Awaitable[None]]
"""Answers a request; the last argument is the path below `root_path`, percent-encoded."""


class Route(NamedTuple):
    """One path; it ends with a slash if its endpoint also answers every path below it."""

    path: str
    id: str
    """The OpenAPI operation."""
    tag: str
    """The OpenAPI tag. `health` needs no token; reads of `state` are timed."""
    summary: str

    @property
    def role(self) -> str | None:
        """The role whose token opens it; None: it needs no token."""
        return {"health": None, "metrics": "metrics"}.get(self.tag, "read")


ROUTES = (
    Route(GUIDE, "guide", "documentation", "Start here: which request answers which question"),
    Route(STATE, "state", "state", "The state of the system, one JSON document"),
    Route(STATE + "/{section}", "section", "state", "One section of the state"),
    Route(STATE + "/{section}/{key}", "entity", "state", "One entity of the state"),
    Route(BRIEF, "brief", "brief", "What matters now, within a budget of tokens"),
    Route(
        CHANGES,
        "changes",
        "history",
        "Changes since a place, a time or 5m ago; once, or as events",
    ),
    Route(LIFE + "/{section}/{key}", "life", "history", "The life of one entity, newest first"),
    Route(
        TASKS + "/{id}", "task", "tasks", "The place of one task: waiting, active, ended or lost"
    ),
    Route(
        TASKS + "/{queue}/{partition}/{offset}",
        "record",
        "tasks",
        "The same for the task in one record of a queue",
    ),
    Route("/system/schema", "schema", "documentation", "The JSON Schema of the state"),
    Route("/", "welcome", "documentation", "An overview of sections and paths"),
    Route(SWAGGER, "swagger", "documentation", "The HTTP interface, to try out"),
    Route("/openapi.json", "openapi", "documentation", "The HTTP interface, for programs"),
    Route(LIVEZ, "livez", "health", "Whether the process answers; ?verbose lists each source"),
    Route("/readyz", "readyz", "health", "Whether the server accepts requests"),
    Route("/healthz", "healthz", "health", "The same as /readyz"),
    Route("/metrics", "metrics", "metrics", "Prometheus metrics of Telemetron itself"),
    Route(STATE_METRICS, "stateMetrics", "metrics", "Prometheus metrics of the observed system"),
)


class Served(NamedTuple):
    """The endpoint of a route, and how to dispatch to it."""

    endpoint: Endpoint
    role: str | None
    is_timed: bool


class Router:
    """Finds the endpoint of a path: by the whole path, else by the part before its variables."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        """`endpoints` by the id of their route; each route must have one."""
        self.whole: dict[str, Served] = {}
        self._below: dict[str, Served] = {}
        for route in ROUTES:
            served = Served(endpoints[route.id], route.role, route.tag == "state")
            prefix, variable, _ = route.path.partition("{")
            if not variable:
                self.whole[route.path] = served
            if prefix.endswith("/") and prefix != "/":
                self._below.setdefault(prefix, served)
        self._prefixes = tuple(self._below)

    def below(self, path: str) -> Served | None:
        """Return the endpoint of a path with variables; None if no route begins like it."""
        if path.startswith(self._prefixes):
            for prefix, served in self._below.items():
                if path.startswith(prefix):
                    return served
        return None
