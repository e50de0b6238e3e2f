"""The application: the entrance for HTTP, which finds and guards the endpoint of each request."""

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from time import perf_counter

from loguru import logger

from telemetron.collector import ASGIApp
from telemetron.exposition.exposition import Exposition
from telemetron.http import (
    Answer,
    HttpProblem,
    Receive,
    Scope,
    Send,
    Shortcut,
    answer,
    require_method,
    route_path,
)
from telemetron.service.service import Service
from telemetron.web.brief import BriefApp
from telemetron.web.changes import ChangesApp
from telemetron.web.guard import Guard
from telemetron.web.health import HealthApp, Probes, alive
from telemetron.web.metrics import Histogram, Metrics
from telemetron.web.nearest import nearest_names
from telemetron.web.pages.endpoints import Pages
from telemetron.web.routes import METHODS, ROUTES, Router
from telemetron.web.server.connection import Readers
from telemetron.web.server.server import Options
from telemetron.web.state import StateApp
from telemetron.web.state_metrics import StateMetricsApp
from telemetron.web.tasks import TasksApp
from telemetron.web.waiters import Waiters

FAILED = HttpProblem(500, "Telemetron failed to answer; its log says why")

Answering = tuple[Awaitable[None], Histogram | None]
"""The answer, and the histogram that counts its duration. A second coroutine around the first one
would cost time in every read."""


class App:
    """The service as an ASGI application; its lifespan starts and stops the service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        store, history = service.store, service.history
        self._mounts = service.supervisor.mounts
        self.guard = Guard(service.settings.server)
        self.waiters = Waiters(store.clock)
        self.readers = Readers()
        self.metrics = Metrics(store, self.waiters, self.readers)
        self.probes = Probes(self.waiters, self._mounts)
        self.changes = ChangesApp(store, history)
        state = StateApp(store, self.waiters, history)
        tasks = TasksApp(store, history, service.supervisor)
        health = HealthApp(store, self.guard, self.waiters)
        self._router = Router(
            {
                "state": state,
                "section": state,
                "entity": state,
                "brief": BriefApp(store, history),
                "changes": self.changes,
                "life": self.changes,
                "task": tasks,
                "record": tasks,
                "livez": health,
                "readyz": health,
                "healthz": health,
                "metrics": self.metrics,
                "stateMetrics": StateMetricsApp(
                    Exposition(store, service.settings.metrics.max_series), store
                ),
                **Pages(service).endpoints(),
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["root_path"]:
            _strip(scope, scope["root_path"])
        started = perf_counter()
        try:
            answered, histogram = self._dispatch(scope, receive, send)
            await answered
            if histogram:
                histogram.observe(perf_counter() - started)
        except HttpProblem as problem:
            await problem(scope, receive, send)
        except Exception:
            logger.exception("answering {} {} failed", scope["method"], scope["path"])
            with suppress(RuntimeError):  # the answer has begun: uvicorn cuts it
                await FAILED(scope, receive, send)

    def shortcut(self, scope: Scope) -> Shortcut | None:
        """Return the shortcut that an endpoint or a collector offers for requests like this one."""
        if scope["query_string"]:
            return None
        if scope["root_path"]:
            _strip(scope, scope["root_path"])
        try:
            return self._find_shortcut(scope, route_path(scope))
        except HttpProblem:  # the call refuses such requests
            return None
        except Exception:
            logger.exception("finding a shortcut failed")
            return None

    def _find_shortcut(self, scope: Scope, path: str) -> Shortcut | None:
        if served := self._router.whole.get(path) or self._router.below(path):
            if scope["method"] not in METHODS or not hasattr(served.endpoint, "shortcut"):
                return None
            self.guard.check(scope, "read")
            return _timed(served.endpoint.shortcut(scope), self.metrics.reads)
        prefix = next((one for one in self._mounts.collectors if path.startswith(one)), "")
        app = self._mounts.apps.get(prefix)
        if scope["method"] in METHODS or app is None or not hasattr(app, "shortcut"):
            return None
        self.guard.check(scope, "write")
        shortcut = _while(app, self._mounts.apps, prefix, app.shortcut(scope))
        return _timed(shortcut, self.metrics.pushes)

    def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> Answering:
        path = route_path(scope)
        served = self._router.whole.get(path) or self._router.below(path)
        if served is None:
            return self._dispatch_to_collector(scope, receive, send, path)
        endpoint, role, is_timed = served
        if role is None:
            self.guard.check_host(scope)
        else:
            self.guard.check(scope, role)
        if scope["method"] not in METHODS:
            require_method(scope, *METHODS)
        # A long poll takes as long as its client wants.
        histogram = self.metrics.reads if is_timed and not scope["query_string"] else None
        return endpoint(scope, receive, send, path), histogram

    def _dispatch_to_collector(
        self, scope: Scope, receive: Receive, send: Send, path: str
    ) -> Answering:
        if scope["method"] in METHODS and (prefix := self._mounts.probe(path)):
            self.guard.check(scope, "read")
            return self._mounts.apps.get(prefix, alive)(scope, receive, send), None
        for prefix in self._mounts.collectors:
            if path.startswith(prefix):
                self.guard.check(scope, "write")
                return self._mounted(prefix)(scope, receive, send), self.metrics.pushes
        self.guard.check(scope, "read")
        return self._redirect(scope, send, path), None

    def _mounted(self, prefix: str) -> ASGIApp:
        app = self._mounts.apps.get(prefix)
        if app is None:
            raise HttpProblem(503, "its source does not run now; try again", {"retry-after": "1"})
        return app

    async def _redirect(self, scope: Scope, send: Send, path: str) -> None:
        """Redirect to the path with or without a slash at its end, if there is one; else 404."""
        other = path[:-1] if path.endswith("/") else path + "/"
        if other not in self._router.whole:
            near = nearest_names(path, [route.path for route in ROUTES])
            message = "no such path; GET / lists the paths that exist"
            raise HttpProblem(404, message, nearest=near)
        # Relative, so that it is right below any root path.
        name = other.rstrip("/").rpartition("/")[2]
        location = f"{name}/" if other.endswith("/") else f"../{name}"
        query = scope["query_string"].decode("latin-1")
        headers = {"location": f"{location}?{query}" if query else location}
        await answer(scope, send, 308, b"", headers)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Run the service between the two messages of ASGI's lifespan; uvicorn reports errors."""
        await receive()
        await self.service.start()
        watching = asyncio.create_task(self.metrics.watch_loop())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.stop()
        watching.cancel()
        await self.service.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def stop(self) -> None:
        """Prepare for the stop of the server: end long polls and streams, fail `/readyz`."""
        self.waiters.stop()
        self.changes.streams.stop()


def _while(
    app: object, mounted: Mapping[str, object], prefix: str, shortcut: Shortcut | None
) -> Shortcut | None:
    """Use the shortcut only as long as its application is mounted."""
    return shortcut and (lambda body: shortcut(body) if mounted.get(prefix) is app else None)


def _timed(shortcut: Shortcut | None, histogram: Histogram) -> Shortcut | None:
    """Count the durations of the answers; leave problems to the ASGI call."""
    if shortcut is None:
        return None

    def timed(body: bytes) -> Answer | None:
        started = perf_counter()
        try:
            answer = shortcut(body)
        except HttpProblem:
            return None
        except Exception:
            logger.exception("a shortcut failed")
            return None
        if answer is not None:
            histogram.observe(perf_counter() - started)
        return answer

    return timed


def _strip(scope: Scope, root: str) -> None:
    """Remove a root path that the proxy has left in the path: uvicorn has put it before again."""
    if scope["raw_path"].startswith(f"{root}{root}/".encode()):
        scope["raw_path"] = scope["raw_path"][len(root) :]
        scope["path"] = scope["path"][len(root) :]


def server_options(app: App) -> Options:
    """Return the options of `telemetron.web.server.server` for this application."""
    server = app.service.settings.server
    tls = server.tls
    password = tls.keyfile_password if tls else None
    return Options(
        host=server.host,
        port=server.port,
        probe_port=server.probe_port,
        probes=app.probes,
        root_path=server.root_path,
        readers=app.readers,
        on_stop=app.stop,
        ssl_certfile=tls.certfile if tls else None,
        ssl_keyfile=tls.keyfile if tls else None,
        ssl_keyfile_password=password.value if password else None,
    )
