"""A scripted cluster: a real HTTP server that says what the test wants, faults included."""

import asyncio
import json
from base64 import b64encode
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

USER, PASSWORD = "observer", "good"
CREDENTIALS = b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Reply(NamedTuple):
    """One HTTP answer, or something that is none."""

    status: int = 200
    body: bytes = b""
    cut: int = 0
    """Bytes that are promised and not sent."""
    is_frozen: bool = False


def queue(name: str, ready: int = 0, unacknowledged: int = 0, **more: Any) -> dict[str, Any]:
    """A row of /api/queues, with the fields of a classic queue."""
    counts = {"messages_ready": ready, "messages_unacknowledged": unacknowledged}
    return {"name": name, "type": "classic", "state": "running", "node": "a@x", **counts, **more}


def node(name: str = "a@x", **more: Any) -> dict[str, Any]:
    """A row of /api/nodes."""
    well = {"running": True, "mem_alarm": False, "disk_free_alarm": False, "partitions": []}
    return {"name": name, **well, **more}


class ScriptedCluster:
    """What it would say is in its attributes; `replies` by path come first."""

    def __init__(self) -> None:
        self.url = ""
        self.nodes = [node()]
        self.vhosts: dict[str, list[dict[str, Any]]] = {"/": []}
        self.policies: list[dict[str, Any]] = []
        self.metrics = b""
        self.replies: dict[str, Reply] = {}
        self.everything: Reply | None = None
        self.calls: list[str] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Nobody listens any more."""
        if self._server:
            self._server.close()
            for writer in list(self._writers):
                writer.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer((await reader.readuntil(b"\r\n\r\n")).decode(), writer):
                pass
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection stays open."""
        path = urlsplit(head.split()[1]).path
        self.calls.append(path)
        reply = self._reply(path, CREDENTIALS in head)
        if reply.is_frozen:
            await asyncio.Event().wait()
        length = len(reply.body) + reply.cut
        writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (reply.status, length))
        writer.write(reply.body)
        await writer.drain()
        return not reply.cut

    def _reply(self, path: str, is_known: bool) -> Reply:
        if self.everything:
            return self.everything
        if path in self.replies:
            return self.replies[path]
        if path == "/metrics/detailed":
            return Reply(body=self.metrics)
        if not is_known:
            return _json({"error": "not_authorized", "reason": "Login failed"}, 401)
        if path == "/api/nodes":
            return _json(self.nodes)
        if path == "/api/vhosts":
            return _json([{"name": name} for name in self.vhosts])
        return self._below(path.split("/")[2:])

    def _below(self, words: list[str]) -> Reply:
        vhost = self.vhosts.get(words[1].replace("%2F", "/")) if len(words) > 1 else None
        if vhost is None:
            return _json({"error": "Object Not Found"}, 404)
        if words[0] == "policies":
            return _json(self.policies)
        if words[0] == "queues" and len(words) == 2:
            return _json(vhost)
        found = [row for row in vhost if words[0] == "queues" and row["name"] == words[2]]
        return _json(found[0]) if found else _json({"error": "Object Not Found"}, 404)


def _json(said: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(said).encode())
