"""A scripted API server: lists, watches, and faults that a real one does not show on demand.

It knows resourceVersions, WatchList, pages, bookmarks and 410. `faults[resource]` (or `"*"`) is
asked first; what it gives is the answer.
"""

import asyncio
import copy
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Object = dict[str, Any]
Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
Answer = Callable[[], web.StreamResponse | None]

RESOURCES = (
    "pods",
    "deployments",
    "statefulsets",
    "daemonsets",
    "jobs",
    "replicasets",
    "horizontalpodautoscalers",
)

GONE = {
    "kind": "Status",
    "status": "Failure",
    "reason": "Expired",
    "code": 410,
    "message": "too old resource version",
}


class ApiServer:
    """`put` and `delete` objects, by resource; `url` is where it listens."""

    def __init__(self) -> None:
        self.url = ""
        self.version = 100
        self.oldest = 0
        """An older watch gets 410."""
        self.streams = True
        """Whether it knows WatchList."""
        self.ends = True
        """Whether it ends a WatchList's first part."""
        self.objects: dict[str, dict[tuple[str, str], Object]] = defaultdict(dict)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: dict[str, Fault] = {}
        self.extra: dict[str, Fault] = {}
        """Other paths."""
        self.log: list[tuple[int, str, Object]] = []
        self._watches: dict[asyncio.Queue[bytes | None], tuple[str, str | None]] = {}
        self._news = asyncio.Event()

    def put(self, resource: str, one: Object) -> Object:
        """Add or change an object."""
        one = copy.deepcopy(one)
        self.version += 1
        metadata = one["metadata"]
        metadata["resourceVersion"] = str(self.version)
        at = metadata.get("namespace", "default"), metadata["name"]
        metadata.setdefault("namespace", "default")
        type = "MODIFIED" if at in self.objects[resource] else "ADDED"
        self.objects[resource][at] = one
        self._tell(resource, type, one)
        return one

    def delete(self, resource: str, name: str, namespace: str = "default") -> None:
        one = copy.deepcopy(self.objects[resource].pop((namespace, name)))
        self.version += 1
        one["metadata"]["resourceVersion"] = str(self.version)
        self._tell(resource, "DELETED", one)

    def _tell(self, resource: str, type: str, one: Object) -> None:
        self.log.append((self.version, resource, {"type": type, "object": one}))
        self.send(resource, {"type": type, "object": one}, one["metadata"]["namespace"])

    def send(self, resource: str, event: Object | bytes, namespace: str | None = None) -> None:
        """Send a line to the watches of a resource."""
        line = event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n"
        for queue, (watched, within) in self._watches.items():
            if watched == resource and namespace in (None, within or namespace):
                queue.put_nowait(line)

    def bookmark(self, resource: str) -> None:
        version = {"metadata": {"resourceVersion": str(self.version)}}
        self.send(resource, {"type": "BOOKMARK", "object": version})

    def close_watches(self) -> None:
        """End every watch, as a server does that restarts."""
        for queue in self._watches:
            queue.put_nowait(None)

    def compact(self) -> None:
        """Forget old versions: a resumed watch gets 410."""
        self.version += 1
        self.oldest = self.version

    async def asked(self, number: int) -> None:
        """Wait until there were so many requests."""
        while len(self.requests) < number:
            self._news.clear()
            await self._news.wait()

    async def watched(self, resource: str, number: int = 1) -> None:
        """Wait until so many watches of a resource are open."""
        while sum(one == resource for one, _ in self._watches.values()) < number:
            self._news.clear()
            await self._news.wait()

    # answers

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, dict(request.query)))
        self.headers.append(dict(request.headers))
        self._news.set()
        *_, resource = request.path.split("/")
        for name in (resource, "*"):
            if (fault := self.faults.get(name)) and (answer := await fault(request)):
                return answer
        if extra := self.extra.get(request.path):
            answer = await extra(request)
            assert answer
            return answer
        if "metrics.k8s.io" in request.path or "proxy" in request.path:
            return status(404)
        namespace = request.match_info.get("namespace")
        if request.query.get("watch"):
            return await self._watch(request, resource, namespace)
        return self._list(request, resource, namespace)

    def _known(self, resource: str, namespace: str | None) -> list[Object]:
        found = self.objects[resource].items()
        return [one for at, one in sorted(found) if namespace in (None, at[0])]

    def _list(
        self, request: web.Request, resource: str, namespace: str | None
    ) -> web.StreamResponse:
        start, _, version = request.query.get("continue", f"0-{self.version}").partition("-")
        if int(version) < self.oldest:
            return web.json_response(GONE, status=410)
        items = self._known(resource, namespace)
        end = int(start) + int(request.query.get("limit", "500"))
        rest = {"continue": f"{end}-{version}"} if end < len(items) else {}
        metadata = {"resourceVersion": version, **rest}
        return web.json_response({"metadata": metadata, "items": items[int(start) : end]})

    async def _watch(
        self, request: web.Request, resource: str, namespace: str | None
    ) -> web.StreamResponse:
        initial = request.query.get("sendInitialEvents") == "true"
        if initial and not self.streams:
            return status(422)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        for line in self._first(request, resource, namespace, initial):
            queue.put_nowait(json.dumps(line).encode() + b"\n")
            if line["type"] == "ERROR":
                queue.put_nowait(None)
        self._watches[queue] = resource, namespace
        self._news.set()
        try:
            await response.prepare(request)
            while (line := await queue.get()) is not None:
                await response.write(line)
        finally:
            del self._watches[queue]
        return response

    def _first(
        self, request: web.Request, resource: str, namespace: str | None, initial: bool
    ) -> list[Object]:
        if initial:
            events = [{"type": "ADDED", "object": o} for o in self._known(resource, namespace)]
            metadata = {
                "resourceVersion": str(self.version),
                "annotations": {"k8s.io/initial-events-end": "true"},
            }
            end = [{"type": "BOOKMARK", "object": {"metadata": metadata}}] if self.ends else []
            return [*events, *end]
        since = int(request.query["resourceVersion"])
        if since < self.oldest:
            return [{"type": "ERROR", "object": GONE}]
        return [
            event
            for version, watched, event in self.log
            if version > since and watched == resource
            if namespace in (None, event["object"]["metadata"]["namespace"])
        ]

    async def start(self, port: int = 0) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/{group:.*}/namespaces/{namespace}/{resource}", self._answer)
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        return runner


def status(code: int, **headers: str) -> web.Response:
    """Return a refusal; its message must never be shown."""
    body = {"kind": "Status", "status": "Failure", "code": code, "message": "SECRET"}
    return web.json_response(body, status=code, headers=headers)


@asynccontextmanager
async def apiserver() -> AsyncIterator[ApiServer]:
    """One on a free port."""
    server = ApiServer()
    runner = await server.start()
    try:
        yield server
    finally:
        server.close_watches()
        await runner.cleanup()


def failing(*answers: Answer, then: Answer | None = None) -> Fault:
    """Return a fault with these responses in turn, then always `then`; None: respond normally."""
    left = list(answers)

    async def fault(request: web.Request) -> web.StreamResponse | None:
        return (left.pop(0) if left else then or (lambda: None))()

    return fault


@asynccontextmanager
async def bookmarks(api: ApiServer, resources: Iterable[str]) -> AsyncIterator[None]:
    """Send a bookmark of each resource every 0.2 s."""

    async def send() -> None:
        while True:
            for resource in resources:
                api.bookmark(resource)
            await asyncio.sleep(0.2)

    sending = asyncio.create_task(send())
    yield
    sending.cancel()
