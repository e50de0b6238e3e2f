"""A small real HTTP server that records what agents send, and misbehaves when told to."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DEADLINE = 50.0
"""Seconds after which a test gives up on what should have come long ago."""


@dataclass
class Request:
    """One request as it arrived; beat is its JSON body (of a goodbye: {})."""

    method: str
    path: str
    headers: dict[str, str]
    size: int
    beat: dict[str, Any]
    at: float


class StandIn:
    """Answers 204 and records; `mode` is any of: ok, hang, slow, drip, garbage, close, or a status.

    `extra` are headers and `body` the body of an answer with a status.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.mode = "ok"
        self.extra: dict[str, str] = {}
        self.body = b""
        self.requests: list[Request] = []
        self._arrived = threading.Condition()
        self._stopped = threading.Event()
        handler = type("Handler", (_Handler,), {"stand_in": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def record(self, request: Request) -> None:
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()

    def until_stopped(self, timeout: float = DEADLINE) -> bool:
        return self._stopped.wait(timeout)

    def wait_for(self, wanted: Callable[[Request], object]) -> Request:
        """The first request, also of those recorded already, that is wanted."""
        until = time.monotonic() + DEADLINE
        with self._arrived:
            while True:
                for request in self.requests:
                    if wanted(request):
                        return request
                assert self._arrived.wait(until - time.monotonic()), self.requests

    def wait_for_beat(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        return self.wait_for(lambda each: each.method == "POST" and wanted(each.beat)).beat

    def wait_for_count(self, count: int) -> list[Request]:
        self.wait_for(lambda _: len(self.requests) >= count)
        return self.requests[:count]

    @property
    def beats(self) -> list[dict[str, Any]]:
        return [request.beat for request in self.requests if request.method == "POST"]

    @property
    def goodbyes(self) -> list[str]:
        return [request.path for request in self.requests if request.method == "DELETE"]


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        beat = json.loads(body or b"{}")
        for task in beat.get("tasks", ()):  # what is left out is null
            for name in ("parent_id", "progressed_at", "step", "queue", "partition", "offset"):
                task.setdefault(name, None)
            task.setdefault("waits", [])
        beat.setdefault("ended", [])
        self.stand_in.record(
            Request(
                method=self.command,
                path=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                size=len(body),
                beat=beat,
                at=time.monotonic(),
            )
        )
        self._answer(self.stand_in.mode)

    do_DELETE = do_POST

    def _answer(self, mode: str) -> None:
        if mode == "hang":
            self.stand_in.until_stopped()
        elif mode == "close":
            return
        elif mode == "garbage":
            self.wfile.write(b"\x00\xff nothing of HTTP\r\n\r\n")
        elif mode == "drip":
            self._drip()
        else:
            if mode == "slow":
                self.stand_in.until_stopped(0.4)
            self._status(204 if mode in ("ok", "slow") else int(mode))

    def _drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 204 No Content\r\nX: ")
        try:
            while not self.stand_in.until_stopped(0.05):
                self.wfile.write(b"x")
        except OSError:
            return

    def _status(self, status: int) -> None:
        self.send_response(status)
        for name, value in self.stand_in.extra.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.stand_in.body)

    def log_message(self, format: str, *values: object) -> None:
        """Nothing: the tests' output is theirs."""
