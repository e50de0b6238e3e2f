"""The application: everything that one process holds, and the front that HTTP comes in by."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from math import inf
from time import perf_counter
from typing import Any

from loguru import logger
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from telemetron import key
from telemetron.agents import CONFIGURATION_RANK, AgentPart
from telemetron.clock import Clock
from telemetron.collector import ASGIApp
from telemetron.config.settings import DECLARED, DeclaredAgent, Settings
from telemetron.http import HttpProblem, Receive, Scope, Send, route_path
from telemetron.service.service import Service
from telemetron.web import health
from telemetron.web.changes import ChangesApp
from telemetron.web.metrics import Histogram, Metrics
from telemetron.web.pages import routes as pages
from telemetron.web.server.server import Options
from telemetron.web.state import PATH, StateApp

# Sources that load at once are there before the first request; nobody waits for the others.
LOAD_SECONDS = 0.25
FAILED = HttpProblem(500, "Telemetron failed to answer; its log says why")

Answering = tuple[Awaitable[None], Histogram | None]
"""What answers a request, and where to count how long that took. Not a coroutine around another:
on the way to a read, each of those costs."""


class App(Service):
    """One Telemetron as an ASGI application; its lifespan starts and stops the sources."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        super().__init__(settings, clock)
        self.metrics = Metrics(self)
        self.probes = health.Probes(self)
        self._state = StateApp(self.store, self.waiters, self.history)
        self.changes = ChangesApp(self.store, self.history)
        routes = [*pages.routes(self), *health.routes(self), *self.metrics.routes()]
        handlers = {HttpProblem: _problem, HTTPException: _problem, Exception: _problem}
        self._router = Starlette(
            routes=routes, lifespan=self._lifespan, exception_handlers=handlers
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._router(scope, receive, send)
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
        except ClientDisconnect:
            pass
        except Exception:
            logger.exception("answering {} {} failed", scope["method"], scope["path"])
            with suppress(RuntimeError):  # the answer has begun: uvicorn cuts it
                await FAILED(scope, receive, send)

    def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> Answering:
        path = route_path(scope)
        if path == PATH or path.startswith(PATH + "/"):
            self.guard.check(scope, "read")
            # A long poll takes as long as it was asked to.
            histogram = None if scope["query_string"] else self.metrics.reads
            return self._state(scope, receive, send, path), histogram
        if self.changes.claims(path):
            self.guard.check(scope, "read")
            return self.changes(scope, receive, send, path), None
        if probe := health.agent_probe(self, scope, path):
            self.guard.check(scope, "read")
            return probe(scope, receive, send), None
        for prefix in self.supervisor.mounts.collectors:
            if path.startswith(prefix):
                self.guard.check(scope, "write")
                return self._pushed_to(prefix)(scope, receive, send), self.metrics.pushes
        if path in health.PATHS:
            self.guard.check_host(scope)
        else:
            self.guard.check(scope, "read")
        return self._router(scope, receive, send), None

    def _pushed_to(self, prefix: str) -> ASGIApp:
        app = self.supervisor.mounts.apps.get(prefix)
        if app is None:
            raise HttpProblem(503, "its source does not run now; try again", {"retry-after": "1"})
        return app

    def stop(self) -> None:
        """The server is about to stop: end what waits, be ready no more."""
        self.waiters.stop()
        self.changes.streams.stop()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.history.start()
        for name in self.settings.off:
            self.store.add(name, name)
        self._declare(self.settings.agents)
        self.supervisor.start(self.settings.sources.values())
        await self.supervisor.loaded(LOAD_SECONDS)
        self.store.flush()
        gc.collect()
        gc.freeze()  # what is here now stays: no collection needs to look at it again
        tasks = [
            asyncio.create_task(self.metrics.watch_loop()),
            asyncio.create_task(self._freeze_imports()),
        ]
        yield
        self.stop()
        for task in tasks:
            task.cancel()
        await self.supervisor.stop()
        await self.history.stop()

    async def _freeze_imports(self) -> None:
        """What is imported late stays too: some clients have 100 MB, 40 ms of a collection."""
        await self.supervisor.loaded(None)
        gc.freeze()

    def _declare(self, agents: Sequence[DeclaredAgent]) -> None:
        """Agents of the configuration are a source like any other, one that is always right."""
        if not agents:
            return
        source = self.store.add(DECLARED, DECLARED)
        source.start(inf, agent_rank=CONFIGURATION_RANK)
        source.confirm()
        for agent in agents:
            part = AgentPart(
                namespace=agent.namespace,
                description=agent.description,
                deployment_name=agent.deployment_name,
                max_parallel_invocations=agent.max_parallel_invocations,
                models=agent.models,
                queues=agent.queues,
            )
            id = key.join(agent.namespace, agent.name)
            self.store.put(source, "agents", agent.name, id, part)


def _strip(scope: Scope, root: str) -> None:
    """Take off the path what a proxy leaves there: the server has put it before the path again."""
    if scope["raw_path"].startswith(f"{root}{root}/".encode()):
        scope["raw_path"] = scope["raw_path"][len(root) :]
        scope["path"] = scope["path"][len(root) :]


def _problem(_: Request, error: Exception) -> Any:
    """What Starlette raises, and what is raised below it, as RFC 9457."""
    if isinstance(error, HttpProblem):
        return error
    if not isinstance(error, HTTPException):
        return FAILED
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:
        return HttpProblem(405, f"this path takes {headers.get('allow')}", headers)
    return HttpProblem(error.status_code, "no such path; GET / lists what there is", headers)


def server_options(app: App) -> Options:
    """What `telemetron.web.server.server` is told, by the application's settings."""
    server = app.settings.server
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
