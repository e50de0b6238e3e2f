"""A load balancer on loopback: each request goes to the next of several proxies."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any


class Balancer(ThreadingHTTPServer):
    """Serves GET, from `urls` in turn."""

    daemon_threads = True

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.urls = cycle(urls)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Balancer

    def do_GET(self) -> None:
        headers = {"authorization": self.headers.get("authorization", "")}
        request = urllib.request.Request(next(self.server.urls) + self.path, headers=headers)
        try:
            answer = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as refusal:
            answer = refusal
        with answer:
            body = answer.read()
            self.send_response(answer.status or 500)
            for name in ("content-type", "date"):
                self.send_header(name, answer.headers.get(name, ""))
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def balancer(*urls: str) -> Iterator[Balancer]:
    """A balancer, ended with the context."""
    with Balancer(urls) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
